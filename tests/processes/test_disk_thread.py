"""Calls of a disk that hangs are given up, and what they return after all is taken back."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from waiting import wait_until

from gixi_bluesky.processes.disk_thread import DiskThread


def test_a_call_returns_and_raises_as_it_would_without_the_thread(tmp_path: Path) -> None:
    disk = DiskThread("disk")
    assert disk.call(lambda: 7, 120.0) == 7
    with pytest.raises(FileNotFoundError):
        disk.call((tmp_path / "no").read_text, 120.0)
    disk.end()


def test_while_a_call_hangs_further_ones_are_refused_at_once() -> None:
    disk, thaws, late = DiskThread("disk"), threading.Event(), []
    with pytest.raises(TimeoutError, match="not responded"):
        disk.call(lambda: thaws.wait(120), 0.01, late=late.append)
    with pytest.raises(OSError, match="not responded"):
        disk.call(lambda: pytest.fail("it was made"), 1e6)
    assert disk.hangs_s > 0
    thaws.set()
    wait_until(lambda: not disk.hangs_s)
    assert disk.call(lambda: 8, 120.0) == 8
    assert late == [True]
    disk.end()


def test_the_last_call_comes_after_one_that_hangs() -> None:
    disk, thaws, closed = DiskThread("disk"), threading.Event(), threading.Event()
    with pytest.raises(TimeoutError):
        disk.call(lambda: thaws.wait(120), 0.01)
    disk.end(closed.set)
    assert not closed.is_set()
    thaws.set()
    assert closed.wait(120)


def test_without_a_call_there_is_no_thread() -> None:
    before = threading.active_count()
    closed: list[int] = []
    disk = DiskThread("disk")
    disk.end(lambda: closed.append(1))
    assert closed == [1]
    assert threading.active_count() == before
