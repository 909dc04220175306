"""No thread of ours ends unseen."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator

import pytest
from waiting import wait_until

from gixi_bluesky.processes import loops
from gixi_bluesky.processes.loops import Loop, Watchdog


class Work:
    """Counts its turns and raises what it is given."""

    def __init__(self) -> None:
        self.turns = 0
        self.errors: list[BaseException] = []

    def __call__(self) -> None:
        self.turns += 1
        if self.errors:
            raise self.errors.pop(0)
        time.sleep(0.001)


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def loop(work: Work) -> Iterator[Loop]:
    loop = Loop("gixi-test", work)
    loop.start()
    yield loop
    loop.stop()
    assert not loop.alive


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), MemoryError(), GeneratorExit()])
def test_no_error_ends_a_loop(loop: Loop, work: Work, error: BaseException) -> None:
    work.errors.append(error)
    wait_until(lambda: loop.liveness.errors == 1)
    turns = work.turns
    wait_until(lambda: work.turns > turns + 1)
    assert loop.alive
    assert type(error).__name__ in loop.liveness.last_error
    assert loop.last_error == ""  # the last turn had none
    assert str(loop.liveness) == "running"


def test_an_error_that_stays_is_reported_and_not_repeated_without_a_pause(
    loop: Loop, work: Work
) -> None:
    work.errors += [OSError("disk")] * 1000
    wait_until(lambda: loop.liveness.errors >= 3)
    assert loop.last_error == "OSError: disk"
    assert work.errors  # not all used up at once
    work.errors.clear()


def kill_thread(loop: Loop) -> None:
    """End a thread as nothing can be caught: its function is made to return."""
    loop._stopping.set()
    assert loop._thread is not None
    loop._thread.join(120)
    loop._stopping.clear()


def test_the_watchdog_starts_again_what_ended(loop: Loop, work: Work) -> None:
    watchdog = Watchdog([loop, Loop("gixi-never-started", work)])
    watchdog.start()
    kill_thread(loop)
    assert not loop.alive or loop.liveness.restarts == 1
    wait_until(lambda: loop.alive)
    assert loop.liveness.restarts == 1
    turns = work.turns
    wait_until(lambda: work.turns > turns)
    assert watchdog.status() == {"gixi-test": "running", "gixi-watchdog": "running"}
    watchdog.stop()


def test_asking_for_the_status_restarts_the_watchdog_itself(loop: Loop) -> None:
    watchdog = Watchdog([loop])
    watchdog.start()
    kill_thread(watchdog._own)
    assert watchdog.status()["gixi-watchdog"] == "running"
    watchdog.stop()


def test_what_cannot_be_restarted_or_is_stuck_is_said(
    loop: Loop, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    watchdog = Watchdog([loop])
    watchdog.start()
    kill_thread(watchdog._own)

    def refuse(_: object) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        kill_thread(loop)
        assert watchdog.status()["gixi-test"].startswith("ended")
    assert watchdog.status()["gixi-test"] == "running"
    monkeypatch.setattr(loops, "_STUCK_S", 0.0)
    held = threading.Event()
    loop._turn = held.wait
    wait_until(lambda: loop.liveness.turn_s > 0.05)
    assert watchdog.status()["gixi-test"].startswith("stuck for")
    held.set()
    watchdog.stop()


def test_an_exception_thrown_into_the_thread_is_survived(loop: Loop, work: Work) -> None:
    assert loop._thread is not None
    ident = ctypes.c_ulong(loop._thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemExit))
    wait_until(lambda: loop.liveness.errors == 1)
    turns = work.turns
    wait_until(lambda: work.turns > turns)


def test_the_end_waits_for_the_turn_under_way() -> None:
    entered, leave = threading.Event(), threading.Event()
    order: list[str] = []

    def turn() -> None:
        entered.set()
        leave.wait(120)
        order.append("turn")

    loop = Loop("test-end", turn, lambda: order.append("end"))
    loop.start()
    assert entered.wait(120)
    loop.stop(0.0)
    assert order == []
    leave.set()
    loop.stop()
    assert order == ["turn", "end"]
