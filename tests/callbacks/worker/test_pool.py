"""Several analysis processes: all are used, each can die, and runs get their frames in order."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_pipeline import HUNGRY, KILLS, SLEEPS
from fakes import FAKE, fake_config
from waiting import wait_until

from gixi_bluesky.callbacks.images.locations import InlineImage, Unreadable
from gixi_bluesky.callbacks.runs.actions import Frame
from gixi_bluesky.callbacks.worker.frame_queue import FrameQueue
from gixi_bluesky.callbacks.worker.jobs import Outcome
from gixi_bluesky.callbacks.worker.supervisor import Worker
from gixi_bluesky.processes.shared_blocks import SharedBlock
from gixi_bluesky.processing.geometry.conditions import Conditions

pytestmark = pytest.mark.slow  # starts processes or networks in most tests


class Desk:
    """A worker with several processes, its queue, and what it delivered, in order."""

    def __init__(self, config: Any) -> None:
        self.outcomes: list[tuple[str, int, Outcome]] = []
        self.queue = FrameQueue(config.queue)
        self.refuses: list[BaseException] = []
        self.waits = threading.Event()  # the worker's thread waits for `go_on`
        self.go_on = threading.Event()
        self.go_on.set()
        self.worker = Worker(config, self.queue, self.deliver, factory=FAKE)

    def deliver(self, frame: Frame, outcome: Outcome) -> None:
        if not self.go_on.is_set():
            self.waits.set()
            assert self.go_on.wait(180)
        if self.refuses:
            raise self.refuses.pop(0)
        self.outcomes.append((frame.run_uid, frame.number, outcome))

    def put(self, number: int, value: int = 7, run: str = "run", **more: Any) -> None:
        image = more.get("image") or InlineImage(np.full((8, 8), value, np.uint16))
        now = time.monotonic()
        self.queue.put(Frame(run, number, number + 1, 0.0, image, Conditions(), now, 0.0))

    def wait(self, n: int) -> list[str]:
        wait_until(lambda: len(self.outcomes) >= n)
        assert len(self.outcomes) == n
        return [outcome.status for _, _, outcome in self.outcomes]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Three processes, which all tests share: each leaves them as good as new."""
    desk = Desk(fake_config(tmp_path_factory.mktemp("pool"), queue={"workers": 3}))
    desk.worker.start()
    yield desk
    desk.worker.close()
    assert not desk.worker.alive


@pytest.fixture
def desk(started: Desk) -> Desk:
    wait_until(lambda: started.worker.busy == len(started.queue) == 0)
    started.outcomes.clear()
    return started


def test_frames_are_delivered_in_order_whatever_dies(desk: Desk) -> None:
    values = [7] * 40
    values[5] = values[20] = KILLS
    for number, value in enumerate(values):
        desk.put(number, value)
    statuses = desk.wait(40)
    assert [number for _, number, _ in desk.outcomes] == list(range(40))
    assert [number for number, status in enumerate(statuses) if status == "failed"] == [5, 20]
    assert "ended 2 times on this frame" in desk.outcomes[5][2].reason
    wait_until(lambda: len(desk.worker.pool.pids) == 3)


def has_ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def test_all_processes_killed_at_once_cost_no_frame(desk: Desk) -> None:
    before = desk.worker.restarts
    desk.go_on.clear()
    for number in range(30):
        desk.put(number)
    # The worker sees no end of a process before all have ended.
    assert desk.waits.wait(180)
    killed = desk.worker.pool.pids
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: all(has_ended(pid) for pid in killed))
    desk.go_on.set()
    assert set(desk.wait(30)) == {"ok"}
    assert [number for _, number, _ in desk.outcomes] == list(range(30))
    wait_until(lambda: len(desk.worker.pool.pids) == 3)
    assert desk.worker.restarts >= before + 3


def test_a_frame_that_wants_all_the_memory_fails_alone(desk: Desk) -> None:
    before = desk.worker.restarts
    desk.put(0, HUNGRY)
    desk.put(1)
    assert desk.wait(2) == ["failed", "ok"]
    assert "MemoryError" in desk.outcomes[0][2].reason
    assert desk.worker.restarts == before


def test_the_builder_killed_is_built_again(desk: Desk) -> None:
    pool = desk.worker.pool
    builder = pool.builder_pid
    assert builder is not None
    os.kill(builder, signal.SIGKILL)
    wait_until(lambda: pool.builder_pid not in (None, builder))
    os.kill(wait_until(lambda: pool.pids)[0], signal.SIGKILL)
    for number in range(6):
        desk.put(number)
    assert set(desk.wait(6)) == {"ok"}
    wait_until(lambda: len(pool.pids) == 3)


def test_a_slow_frame_holds_up_its_own_run_only_and_fails_in_time(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.put(0, SLEEPS, run="slow")
    for number in range(1, 5):
        desk.put(number, run="slow")
    for number in range(10):
        desk.put(number, run="quick")
    wait_until(lambda: len(desk.outcomes) == 10)
    assert {run for run, _, _ in desk.outcomes} == {"quick"}
    with monkeypatch.context() as patch:  # only the slow frame is left to be late
        patch.setattr(desk.worker.pool, "_frame_timeout_s", 2.0)
        wait_until(lambda: len(desk.outcomes) > 10)
    desk.wait(15)
    slow = [(number, outcome.status) for run, number, outcome in desk.outcomes if run == "slow"]
    assert slow == [(0, "failed"), *((number, "ok") for number in range(1, 5))]
    assert "longer than 2 s" in desk.outcomes[10][2].reason


def test_unreadable_frames_keep_their_turn(desk: Desk) -> None:
    for number in range(9):
        image = Unreadable("unavailable", "gone") if number % 3 == 0 else None
        desk.put(number, image=image)
    desk.wait(9)
    assert [number for _, number, _ in desk.outcomes] == list(range(9))


def test_no_memory_to_share_an_image_fails_that_frame_only(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = SharedBlock.share

    def refuse(block: SharedBlock, array: Any) -> Any:
        if array.flat[0] == 13:
            raise MemoryError
        return share(block, array)

    monkeypatch.setattr(SharedBlock, "share", refuse)
    for number, value in enumerate([7, 13, 7, 13, 7]):
        desk.put(number, value)
    assert desk.wait(5) == ["ok", "failed", "ok", "failed", "ok"]
    assert "cannot be shared" in desk.outcomes[1][2].reason


def test_a_large_image_whose_process_dies_while_the_next_is_copied(desk: Desk) -> None:
    """The process is gone before the copy ends, so that handing over fails."""
    image = np.full((2048, 2048), 7, np.uint16)
    killer = image.copy()
    killer[0, 0] = KILLS
    for number in range(12):
        desk.put(number, image=InlineImage(killer if number in (2, 3) else image))
    statuses = desk.wait(12)
    assert [number for number, status in enumerate(statuses) if status != "ok"] == [2, 3]
    assert desk.worker.loop.alive


@pytest.mark.parametrize("error", [ValueError("x"), MemoryError(), SystemExit(3)])
def test_an_outcome_that_cannot_be_taken_is_not_lost(desk: Desk, error: BaseException) -> None:
    desk.refuses = [error, error]
    for number in range(4):
        desk.put(number)
    statuses = desk.wait(4)
    assert [number for _, number, _ in desk.outcomes] == list(range(4))
    assert statuses[1:] == ["ok", "ok", "ok"]
    assert desk.worker.loop.alive


def test_results_that_wait_for_their_turn_count_in_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tiny queue: no more is analysed than may be held, and all is delivered."""
    desk = Desk(fake_config(tmp_path, queue={"workers": 2, "max_mib": 0.1}))
    desk.worker.start()
    try:
        desk.put(0, SLEEPS)
        for number in range(1, 60):
            desk.put(number, image=InlineImage(np.full((2, 2), 7, np.uint8)))
        held, one = 0, 16 * 32 * 4

        def most_held() -> int:
            nonlocal held
            held = max(held, desk.worker._order.nbytes)
            return held

        wait_until(lambda: most_held() > 10 * one)
        with monkeypatch.context() as patch:
            patch.setattr(desk.worker.pool, "_frame_timeout_s", 1.0)
            wait_until(lambda: most_held() and desk.outcomes)
        wait_until(lambda: most_held() and len(desk.outcomes) == 60)
        assert held <= 0.05 * 2**20 + 4 * one
        assert [number for _, number, _ in desk.outcomes] == list(range(60))
    finally:
        desk.worker.close()
