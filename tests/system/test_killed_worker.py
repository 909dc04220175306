"""Analysis processes killed in mid-scan: the scan goes on, the derived run is complete."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import h5py
import numpy as np
import pytest
from bluesky import RunEngine
from fake_pipeline import GATE
from fakes import FAKE, FOLLOWED, GATED, fake_config
from ophyd_async.core import StaticFilenameProvider, StaticPathProvider, init_devices
from ophyd_async.sim import SimBlobDetector
from raw_runs import feed, images, inline_run
from served import stored_frames
from waiting import wait_until

from gixi_bluesky.callbacks.analysis import Analysis
from gixi_bluesky.tiled_adapters import queries
from gixi_bluesky.tiled_adapters.server.embedded import EmbeddedServer, embedded_server

pytestmark = pytest.mark.system

FRAMES = 12
PERIOD_S = 0.1


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with embedded_server(tmp_path_factory.mktemp("tiled")) as running:
        yield running


def scan(detector: Any, disturb: Callable[[], None]) -> Iterator[Any]:
    """Take frames at a steady pace and call `disturb` in between."""

    @bpp.stage_decorator([detector])
    @bpp.run_decorator(md={"plan_name": "count", "sample_name": "film"})
    def inner() -> Iterator[Any]:
        for number in range(FRAMES):
            yield from bps.trigger_and_read([detector])
            yield from bps.sleep(PERIOD_S)
            if number == FRAMES // 3:
                disturb()

    yield from inner()


def test_killed_processes_cost_neither_time_nor_frames(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a second scan the replacements cannot start before the scan has ended."""
    catalogue = server.catalog("gixi")
    config = fake_config(tmp_path, output={"directory": str(server.directory / "results")})
    engine = RunEngine({})
    with init_devices():
        folder = StaticPathProvider(StaticFilenameProvider("blobs"), tmp_path)
        detector = SimBlobDetector(folder, name="blob")
    gate = tmp_path / "gate"
    with Analysis(config, tiled=catalogue, factory=GATED) as analysis:
        engine.subscribe(analysis)
        (killed_uid,) = engine(
            scan(detector, lambda: os.kill(analysis.status()["worker_pid"], signal.SIGKILL))
        )
        assert analysis.drain(120)
        wait_until(lambda: analysis.status()["worker_restarts"] >= 1)
        size = analysis.status()["workers"]
        wait_until(lambda: len(analysis.status()["worker_pids"]) == size)

        monkeypatch.setenv(GATE, str(gate))
        before = analysis.status()["frames_done"]
        pids = analysis_processes()
        assert analysis.status()["worker_pid"] in pids
        (gated_uid,) = engine(scan(detector, lambda: [os.kill(p, signal.SIGKILL) for p in pids]))
        assert analysis.status()["frames_done"] < before + FRAMES
        wait_until(lambda: not analysis.status()["documents_queued"])
        with pytest.raises(TimeoutError, match=r"[1-9]\d* frames? queued"):
            analysis.drain(0.0)
        gate.touch()
        assert analysis.drain(120)
    for uid in (killed_uid, gated_uid):
        (run,) = queries.runs_for(catalogue, uid)
        frames = run["frames"].read()
        assert sorted(frames["frame"].values.tolist()) == list(range(FRAMES))
        assert set(frames["status"].values.tolist()) == {"ok"}
        assert sorted(run["peaks"].read()["frame"].values.tolist()) == list(range(FRAMES))
        assert run.summary["n_frames"] == FRAMES
        assert run.metadata["start"]["sample_name"] == "film"
        stored = run["images"].read()["polar_image"].values
        assert stored.shape[0] == FRAMES
        assert np.isfinite(stored).all()


def analysis_processes() -> list[int]:
    """Return the process that built the pipeline, and its copies, which are the analysis's."""
    return [pid for one in children(os.getpid()) if children(one) for pid in (one, *children(one))]


def descendants(pid: int) -> list[int]:
    return [one for child in children(pid) for one in (child, *descendants(child))]


def children(pid: int) -> list[int]:
    """Return the child processes that run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            state, parent = path.read_text().rsplit(")", 1)[1].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(path.parent.name))
    return found


def test_a_resumed_run_holds_every_frame_once(server: EmbeddedServer, tmp_path: Path) -> None:
    """A first session sees half of the run; the second one gets all documents again."""
    catalogue = server.catalog("gixi")
    sections = {
        "output": {"directory": str(server.directory / "results")},
        "grid": {"shape": (64, 64)},
    }
    documents = inline_run(images(6))
    with Analysis(fake_config(tmp_path, **sections), tiled=catalogue, factory=FAKE) as first:
        feed(first, documents[:5])
        wait_until(lambda: stored_frames(catalogue, documents[0][1]["uid"]) == 3)
    with Analysis(fake_config(tmp_path, **sections), tiled=catalogue, factory=FAKE) as second:
        feed(second, documents)
        assert second.drain(120)
        assert second.status()["frames_skipped"] == 3
        uid = documents[0][1]["uid"]
    (run,) = queries.runs_for(catalogue, uid)
    assert run["frames"].read()["frame"].values.tolist() == list(range(6))
    assert run.summary["n_frames"] == run.summary["n_peaks"] == 6
    assert run.summary["q_bins"] == {f"b{n:04d}": 1 for n in range(1, 7)}
    stored = run["images"].read()["polar_image"].values
    assert stored[:, 0, 0].tolist() == [1, 2, 3, 4, 5, 6]
    with Analysis(fake_config(tmp_path, **sections), tiled=catalogue, factory=FAKE) as third:
        feed(third, documents)
        assert third.drain(120)
        assert third.status()["frames_skipped"] == 6


SCRIPT = """
import sys, time
from pathlib import Path
sys.path[:0] = {path!r}
from fakes import FAKE, Stores, fake_config
from gixi_bluesky.callbacks.analysis import Analysis
analysis = Analysis(fake_config(Path({folder!r})), store=Stores(), factory=FAKE)
print(analysis.status()["worker_pid"], flush=True)
{ending}
"""


@pytest.mark.parametrize(("ending", "code"), [("", 0), ("1 / 0", 1)])
def test_no_process_is_left_behind_by_a_script_without_a_main_guard(
    tmp_path: Path, ending: str, code: int
) -> None:
    with script(SCRIPT, tmp_path, ending=ending) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert parent.wait(180) == code
    wait_until(lambda: has_ended(pid))


KILLED = """
import pickle, sys, time
from pathlib import Path
sys.path[:0] = {path!r}
from fakes import FOLLOWED, fake_config
from waiting import wait_until
from gixi_bluesky.callbacks.analysis import Analysis
folder = Path({folder!r})
config = fake_config(folder, **pickle.loads((folder / "sections").read_bytes()))
analysis = Analysis(config, factory=FOLLOWED)
for name, doc in pickle.loads((folder / "documents").read_bytes()):
    wait_until(lambda: analysis.status()["documents_queued"] < 3)
    analysis(name, doc)
wait_until(lambda: (folder / "spill").is_dir() and any((folder / "spill").rglob("*.npy")))
wait_until(lambda: analysis.status()["frames_done"] >= 2)
(folder / "analysing").touch()
time.sleep(600)
"""


def test_a_killed_scan_leaves_neither_processes_nor_anything_that_keeps_the_next_one_out(
    tmp_path: Path,
) -> None:
    """Analysis processes, those that write HDF5 and measure courses, the spill folder, the run."""
    frames = 40
    sections = {"queue": {"max_mib": 0.5, "spill_directory": str(tmp_path / "spill")}}
    documents = inline_run(np.ones((frames, 128, 128), "<u2"))
    (tmp_path / "sections").write_bytes(pickle.dumps(sections))
    (tmp_path / "documents").write_bytes(pickle.dumps(documents[:-1]))
    with script(KILLED, tmp_path, GIXI_FAKE_SECONDS="0.2") as parent:
        wait_until((tmp_path / "analysing").exists)
        wait_until(lambda: len(descendants(parent.pid)) >= 4)
        left = descendants(parent.pid)
        parent.kill()
        assert parent.wait(180) == -signal.SIGKILL
    wait_until(lambda: all(map(has_ended, left)))
    with Analysis(fake_config(tmp_path, **sections), factory=FOLLOWED) as analysis:
        assert not list((tmp_path / "spill").iterdir())
        for document in documents:
            analysis.feed(*document)
        assert analysis.drain(120)
    (finished,) = (tmp_path / "results").glob("*.nxs")
    with h5py.File(finished) as file:
        assert file["entry/frames/frame"][()].tolist() == list(range(frames))
        assert set(file["entry/frames/status"][()]) <= {b"ok", b"dropped"}


@contextlib.contextmanager
def script(text: str, folder: Path, ending: str = "", **environment: str) -> Iterator[Popen[str]]:
    """Run a script that can import the tests' modules; it is killed at the end."""
    path = folder / "scan.py"
    tests = [str(Path(__file__).parents[1])]
    path.write_text(textwrap.dedent(text).format(path=tests, folder=str(folder), ending=ending))
    with Popen(
        [sys.executable, str(path)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        try:
            yield parent
        finally:
            parent.kill()


def has_ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return True
    return state == "Z"
