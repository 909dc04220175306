"""Frames go through the analysis process in order, whatever they do to it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from fake_pipeline import KILLS, REFUSED, SLEEPS, UNFORESEEN
from fakes import FAKE, fake_config
from raw_runs import images, write_hdf5
from waiting import wait_until

from gixi_bluesky.callbacks.images.locations import (
    FrameRef,
    Hdf5Image,
    InlineImage,
    Unreadable,
)
from gixi_bluesky.callbacks.runs.raw_run import Frame
from gixi_bluesky.callbacks.worker.frame_queue import FrameQueue
from gixi_bluesky.callbacks.worker.jobs import Outcome
from gixi_bluesky.callbacks.worker.supervisor import Worker
from gixi_bluesky.errors import GixiError, WeightsError
from gixi_bluesky.log import configure_logging
from gixi_bluesky.processes import child, forking
from gixi_bluesky.processing.geometry.conditions import Conditions

pytestmark = pytest.mark.slow  # starts processes or networks in most tests


class Desk:
    """A worker, its queue, and what it delivered."""

    def __init__(self, config: Any) -> None:
        self.outcomes: list[tuple[int, Outcome]] = []
        self.queue = FrameQueue(config.queue)
        self.worker = Worker(config, self.queue, self.deliver, factory=FAKE)

    def deliver(self, frame: Frame, outcome: Outcome) -> None:
        self.outcomes.append((frame.number, outcome))

    def put(self, number: int, image: FrameRef | int, angle: float | None = None) -> None:
        if isinstance(image, int):
            image = InlineImage(np.full((8, 8), image, np.uint16))
        now = time.monotonic()
        self.queue.put(Frame("run", number, number + 1, 0.0, image, Conditions(angle), now, 0.0))

    def wait(self, n: int, seconds: float = 180.0) -> list[str]:
        wait_until(lambda: len(self.outcomes) >= n, seconds, lambda: self.worker.last_error)
        self.outcomes.sort(key=lambda entry: entry[0])  # unreadable ones overtake
        assert [number for number, _ in self.outcomes] == list(range(n))
        return [outcome.status for _, outcome in self.outcomes]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(fake_config(tmp_path))
    desk.worker.start()
    yield desk
    desk.worker.close()
    assert not desk.worker.alive


def test_every_kind_of_frame_gets_its_outcome(desk: Desk, tmp_path: Path) -> None:
    write_hdf5(tmp_path / "a.h5", images(3))
    desk.put(0, 7)
    desk.put(1, Hdf5Image(str(tmp_path / "a.h5"), "/entry/data/data", 2), angle=0.3)
    desk.put(2, Hdf5Image(str(tmp_path / "never.h5"), "/d", 0))
    desk.put(3, REFUSED)
    desk.put(4, UNFORESEEN)
    desk.put(5, Unreadable("unavailable", "no reader"))
    desk.put(6, InlineImage(np.asfortranarray(np.arange(6.0).reshape(2, 3))))
    assert desk.wait(7) == ["ok", "ok", "unavailable", "failed", "failed", "unavailable", "ok"]
    results = [outcome.result for _, outcome in desk.outcomes]
    assert results[0] is not None
    assert results[0].peaks.q[0] == pytest.approx(0.07)
    assert results[1] is not None
    assert results[1].peaks.q[0] == pytest.approx(0.03)
    assert results[1].incidence_angle_deg == 0.3
    assert results[6] is not None
    assert results[6].peaks.q[0] == pytest.approx(0.025)
    assert "LookupError: nobody foresaw this" in desk.outcomes[4][1].reason
    assert desk.worker.restarts == 0


def test_a_killed_process_is_replaced_and_every_frame_answered_once(desk: Desk) -> None:
    for number in range(30):
        desk.put(number, 7)
    pid = desk.worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert set(desk.wait(30)) == {"ok"}
    wait_until(lambda: desk.worker.restarts == 1)
    wait_until(lambda: desk.worker.pid not in (None, pid))


def test_a_frame_that_kills_twice_is_failed_and_the_next_goes_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (child, forking):  # which signal it was is known when the process has ended
        monkeypatch.setattr(module, "_EXIT_S", 60.0)
    for number, value in enumerate([1, KILLS, 2]):
        desk.put(number, value)
    assert desk.wait(3) == ["ok", "failed", "ok"]
    assert "ended 2 times on this frame" in desk.outcomes[1][1].reason
    assert "signal 9" in desk.outcomes[1][1].reason
    assert desk.worker.restarts == 2


def test_a_frame_that_takes_too_long_counts_as_a_death(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:  # the next frame may take as long as a busy machine needs
        patch.setattr(desk.worker.pool, "_frame_timeout_s", 1.0)
        desk.put(0, SLEEPS)
        assert desk.wait(1) == ["failed"]
    desk.put(1, 2)
    assert desk.wait(2) == ["failed", "ok"]
    assert "longer than 1 s" in desk.outcomes[0][1].reason
    assert desk.worker.restarts == 1


def test_what_the_pipeline_raises_when_built_is_raised_here(tmp_path: Path) -> None:
    desk = Desk(fake_config(tmp_path, detector={"weights": "missing"}))
    with pytest.raises(WeightsError, match="weights fetch"):
        desk.worker.start()
    desk = Desk(fake_config(tmp_path))
    broken = Worker(fake_config(tmp_path), desk.queue, desk.deliver, factory="fakes:Nothing")
    with pytest.raises(GixiError, match="AttributeError"):
        broken.start()


def test_log_lines_of_the_process_are_json_with_run_and_frame(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gixi_bluesky.log._settings", None)  # and afterwards as before
    configure_logging("ERROR", json=True)
    desk = Desk(fake_config(tmp_path))
    desk.worker.start()
    try:
        desk.put(0, UNFORESEEN)
        assert desk.wait(1) == ["failed"]
    finally:
        desk.worker.close()
        structlog.reset_defaults()
    line = json.loads(capfd.readouterr().err)
    assert line["event"] == "frame_failed"
    assert (line["raw_uid"], line["frame"]) == ("run", 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_scan_or_slurm_does_not_end_the_analysis(
    desk: Desk, number: signal.Signals
) -> None:
    assert desk.worker.pid is not None
    os.kill(desk.worker.pid, number)
    desk.put(0, 7)
    assert desk.wait(1) == ["ok"]
    assert desk.worker.restarts == 0
