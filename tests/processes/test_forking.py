"""Copies of a child process share its memory, answer, and end with the scan."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from waiting import wait_until

from gixi_bluesky.processes import forking
from gixi_bluesky.processes.child import ChildProcess
from gixi_bluesky.processes.forking import ForkedCopy
from gixi_bluesky.processes.peer import ProcessEndedError
from gixi_bluesky.processes.shared_blocks import SharedBlock


@pytest.fixture
def original(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChildProcess]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    child = ChildProcess("child_targets:forks", name="original", threads=1)
    try:
        child.start()
        assert child.receive(120) == "can fork"
        yield child
    finally:
        child.end()


def descriptors(process: object) -> int:
    return sum(1 for _ in Path(f"/proc/{process}/fd").iterdir())


def test_copies_have_what_the_original_has_built(original: ChildProcess) -> None:
    copies = [ForkedCopy(original, name="copy") for _ in range(3)]
    for copy in copies:
        copy.start()
    answers = [copy.ask("built", timeout=120) for copy in copies]
    assert answers == [[original.pid, copy.pid] for copy in copies]
    for copy in copies:
        copy.end()
        assert not copy.alive
        with pytest.raises(ProcessEndedError):
            copy.send("x")


def test_a_killed_copy_is_known_and_replaced(
    original: ChildProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forking, "_EXIT_S", 60.0)
    copy = ForkedCopy(original, name="copy")
    copy.start()
    assert copy.pid is not None
    os.kill(copy.pid, signal.SIGKILL)
    with pytest.raises(ProcessEndedError, match="the copy process ended by signal 9"):
        copy.ask("built", timeout=120)
    copy.start()
    assert copy.ask("built", timeout=120) == [original.pid, copy.pid]
    copy.end()


def test_a_copy_gets_shared_memory(original: ChildProcess) -> None:
    block = SharedBlock()
    copy = ForkedCopy(original, name="copy", keep=[block.descriptor])
    copy.start()
    assert copy.ask(block.share(np.arange(10.0)), timeout=120) == 45.0
    copy.end()
    block.close()


def test_without_its_original_no_copy_starts_and_those_that_run_go_on(
    original: ChildProcess,
) -> None:
    copy, late = ForkedCopy(original, name="copy"), ForkedCopy(original, name="copy")
    copy.start()
    original.end()
    assert copy.ask("pid", timeout=120) == copy.pid
    with pytest.raises(ProcessEndedError):
        late.start()
    pid = copy.pid
    copy.end()
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or not copy.alive)


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted in /proc")
def test_a_hundred_copies_leave_no_descriptor(original: ChildProcess) -> None:
    copy = ForkedCopy(original, name="copy")
    copy.start()
    before = descriptors("self")
    theirs = descriptors(original.pid)
    for _ in range(100):
        copy.start()
    assert descriptors("self") == before
    assert descriptors(original.pid) == theirs
    copy.end()
