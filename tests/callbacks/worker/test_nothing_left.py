"""Frames and runs leave no memory, descriptor, thread, process or shared memory behind."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from fakes import FAKE, MemoryStore, fake_config
from raw_runs import feed, inline_run
from waiting import wait_until

from gixi_bluesky.callbacks.analysis import Analysis

pytestmark = pytest.mark.slow  # starts processes or networks in most tests


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def children() -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z":
            found.add(int(path.parent.name))
    return found


def resident_mib(pid: int | str = "self") -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) / 1024
    raise AssertionError


def analyse(analysis: Analysis, n_runs: int, n_frames: int) -> None:
    image = np.full((64, 64), 7, np.uint16)
    for _ in range(n_runs):
        feed(analysis, inline_run(np.stack([image] * n_frames)))
        assert analysis.drain(120)


def campaign(folder: Path, n_runs: int, n_frames: int) -> None:
    threads = threading.active_count()
    before, known = descriptors(), children()
    config = fake_config(folder, queue={"workers": 2}, output={"images": "none", "arrays": "none"})
    with Analysis(config, store=MemoryStore, factory=FAKE) as analysis:
        analyse(analysis, max(2, n_runs // 10), n_frames)
        pids = analysis.status()["worker_pids"]
        assert len(pids) == 2
        gc.collect()
        running, open_ = threading.active_count(), descriptors()
        memory = [resident_mib(), *map(resident_mib, pids)]
        analyse(analysis, n_runs, n_frames)
        gc.collect()
        wait_until(lambda: threading.active_count() <= running)
        assert descriptors() <= open_
        assert analysis.status()["worker_pids"] == pids
        grown = np.subtract([resident_mib(), *map(resident_mib, pids)], memory)
        assert grown.max() < 12.0  # MiB; the frames of the campaign in `make soak` are 160
    wait_until(lambda: threading.active_count() <= threads)
    wait_until(lambda: children() <= known)
    assert descriptors() <= before


def test_runs_leave_nothing_behind(tmp_path: Path) -> None:
    campaign(tmp_path, n_runs=12, n_frames=10)


@pytest.mark.soak
def test_five_hundred_runs_of_forty_frames_leave_nothing_behind(tmp_path: Path) -> None:
    campaign(tmp_path, n_runs=500, n_frames=40)
