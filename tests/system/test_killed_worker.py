"""Analysis processes killed in mid-scan: the scan goes on, the derived run is complete."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from bluesky import RunEngine
from fake_pipeline import GATE
from fakes import FAKE, GATED, fake_config
from ophyd_async.core import StaticFilenameProvider, StaticPathProvider, init_devices
from ophyd_async.sim import SimBlobDetector
from raw_runs import feed, images, inline_run
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
        assert analysis.drain(60)
        assert analysis.status()["worker_restarts"] >= 1
        wait_until(lambda: analysis.status()["worker_alive"])

        monkeypatch.setenv(GATE, str(gate))
        before = analysis.status()["frames_done"]
        pids = analysis_processes()
        assert analysis.status()["worker_pid"] in pids
        (gated_uid,) = engine(scan(detector, lambda: [os.kill(p, signal.SIGKILL) for p in pids]))
        assert analysis.status()["frames_done"] < before + FRAMES
        with pytest.raises(TimeoutError, match=r"[1-9]\d* frames queued"):
            analysis.drain(0.0)
        gate.touch()
        assert analysis.drain(60)
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
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    builders = [pid for pid in children[os.getpid()] if pid in children]
    return [pid for builder in builders for pid in (builder, *children[builder])]


def stored_frames(catalogue: Any, raw_uid: str) -> int:
    """Return how many rows of `frames` another client sees."""
    for run in queries.runs_for(catalogue, raw_uid):
        if "frames" in run:
            with contextlib.suppress(KeyError):  # the stream is there before its first rows
                return len(run["frames"].read()["frame"])
    return 0


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
        assert second.drain(60)
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
        assert third.drain(60)
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


@pytest.mark.parametrize(("ending", "code"), [("time.sleep(60)", -9), ("", 0), ("1 / 0", 1)])
def test_no_process_is_left_behind_by_a_script_without_a_main_guard(
    tmp_path: Path, ending: str, code: int
) -> None:
    path = [str(Path(__file__).parents[1])]
    script = tmp_path / "scan.py"
    script.write_text(
        textwrap.dedent(SCRIPT).format(path=path, folder=str(tmp_path), ending=ending)
    )
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        if "sleep" in ending:
            parent.kill()
        assert parent.wait(30) == code
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid))


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True
