"""HDF5 is written in a process that may die, hang and be replaced, never in that of the scan."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest
from derived_publisher import Publisher, closed
from manual_clock import ManualClock

from gixi_bluesky.callbacks.derived.stores import LocalStore
from gixi_bluesky.tiled_adapters.files.file_process import file_process
from gixi_bluesky.tiled_adapters.settings import OutputSettings

pytestmark = pytest.mark.slow  # starts processes or networks in most tests

_MIB = 1 << 20


def stored(folder: Path) -> tuple[list[float], list[int]]:
    """Return the first pixel of each image and the frames of the only finished file."""
    (finished,) = folder.glob("*.nxs")
    with h5py.File(finished) as file:
        frames = sorted(file["/entry/frames/frame"][()].tolist())
        return file["/entry/polar/intensity"][:, 0, 0].tolist(), frames


def hdf5_pid() -> int:
    pid = file_process().pid
    assert pid is not None
    return pid


def test_a_write_that_fails_inside_hdf5_costs_that_process_and_no_frame(tmp_path: Path) -> None:
    store = LocalStore(OutputSettings(directory=tmp_path / "results"))
    publisher = Publisher(tmp_path, store)
    publisher.add(0, 1.0)
    publisher.run.step()
    broken = hdf5_pid()
    # As a full disk: what HDF5 writes behind the first pages of a file fails.
    resource.prlimit(broken, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    publisher.add(1, 2.0)
    publisher.run.end(closed(2))
    publisher.finish()
    assert hdf5_pid() != broken
    assert stored(tmp_path / "results") == ([1.0, 2.0], [0, 1])


def test_storage_that_hangs_costs_images_not_frames(tmp_path: Path) -> None:
    clock = ManualClock()
    publisher = Publisher(tmp_path, clock=clock.clock, output={"storage_timeout_s": 6.0})
    publisher.add(0, 1.0)
    publisher.run.step()
    stopped = hdf5_pid()
    os.kill(stopped, signal.SIGSTOP)
    publisher.add(1, 2.0)
    publisher.run.step()  # the process never goes on
    frames = publisher.store.table("frames")
    assert frames["frame"].tolist() == [0, 1]
    assert "not responded" in frames["reason"][1]
    clock.advance(60.0)
    publisher.add(2, 3.0)
    publisher.run.end(closed(3))
    publisher.finish()
    values, rows = stored(tmp_path / "results")
    assert [values[0], values[2], rows] == [1.0, 3.0, [0, 1, 2]]
    assert "1 images were not stored" in publisher.store.stop["gixi"]["arrays_error"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs root to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave 2 MiB free."""
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * (shutil.disk_usage(disk).free - 2 * _MIB))
    return ballast


def test_a_full_disk_is_waited_for_where_files_are_all_there_is(small_disk: Path) -> None:
    publisher = Publisher(small_disk, LocalStore(OutputSettings(directory=small_disk / "results")))
    publisher.add(0, 1.0)
    publisher.run.step()
    pid = hdf5_pid()
    ballast = fill(small_disk)
    publisher.add(1, 2.0)
    publisher.run.end(closed(2))
    publisher.run.step()
    assert "MiB free" in publisher.run.last_error
    ballast.unlink()
    publisher.finish()
    assert stored(small_disk / "results") == ([1.0, 2.0], [0, 1])
    # The same process and part went on: nothing was written on the full disk.
    assert hdf5_pid() == pid


def test_a_full_disk_while_repacking_loses_nothing(small_disk: Path) -> None:
    publisher = Publisher(small_disk)
    publisher.add(0, 1.0)
    publisher.run.step()
    fill(small_disk)
    publisher.run.end(closed(1))
    publisher.finish()
    assert "was not written" in publisher.store.stop["gixi"]["arrays_error"]
    assert not list((small_disk / "results").glob("*.nxs"))
    (part,) = (small_disk / "results").glob("*/part-*.h5")
    with h5py.File(part, "r", swmr=True, libver="latest") as file:
        assert file["/entry/polar/intensity"][0, 0, 0] == 1.0


def test_the_process_of_the_scan_never_loads_hdf5(tmp_path: Path) -> None:
    script = f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        import numpy as np
        from bluesky import RunEngine
        from bluesky.plans import count
        from fakes import FAKE, fake_config
        from ophyd.sim import SynSignal
        from gixi_bluesky.callbacks.analysis import Analysis
        detector = SynSignal(func=lambda: np.full((8, 8), 7.0), name="img")
        analysis = Analysis(fake_config(Path({str(tmp_path)!r})), factory=FAKE)
        engine = RunEngine()
        engine.subscribe(analysis)
        engine(count([detector], num=3))
        analysis.drain(120)
        analysis.close()
        print("loaded:", [name for name in ("h5py", "hdf5plugin", "tables") if name in sys.modules])
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=400,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "loaded: []" in ran.stdout, ran.stdout + ran.stderr
    assert stored(tmp_path / "results")[1] == [0, 1, 2]
