"""Takes frames from the queue, has them analysed in another process, and mends its death."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gixi_bluesky.callbacks.images.locations import Unreadable
from gixi_bluesky.callbacks.runs.raw_run import Frame
from gixi_bluesky.callbacks.worker.frame_queue import FrameQueue
from gixi_bluesky.callbacks.worker.jobs import Job, Outcome, Ready
from gixi_bluesky.callbacks.worker.parent import IN_FLIGHT, PIPELINE, AnalysisProcess
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.child import ProcessEndedError

__all__ = ["Worker"]

_DEATHS_ALLOWED = 2
_LONGEST_PAUSE_S = 30.0
_POLL_S = 0.02
_log = get_logger()


@dataclass(slots=True)
class _Sent:
    frame: Frame
    job: Job
    deaths: int = 0


class Worker:
    """Runs frames through the pipeline in a process of its own, in order.

    Frames that are known to be unreadable are answered at once and so overtake.
    A death, or a frame that takes longer than `queue.frame_timeout_s`, costs one restart; the
    frame that was being analysed is tried once more and then given up as failed.

    deliver: called with each frame and its outcome, on the worker's thread
    wanted: says whether a frame needs analysing; None = not known yet, ask again
    keeps_image: says whether the polar image of a frame is stored
    ready: says of a run's uid whether its frames may be taken now
    """

    def __init__(
        self,
        config: Any,
        queue: FrameQueue,
        deliver: Callable[[Frame, Outcome], None],
        *,
        wanted: Callable[[Frame], bool | None] = lambda _: True,
        keeps_image: Callable[[Frame], bool] = lambda _: True,
        ready: Callable[[str], bool] = lambda _: True,
        factory: str = PIPELINE,
    ) -> None:
        self._file_timeout_s: float = config.input.file_timeout_s
        self._frame_timeout_s: float = config.queue.frame_timeout_s
        self._queue = queue
        self._deliver = deliver
        self._wanted = wanted
        self._keeps_image = keeps_image
        self._ready = ready
        self._process = AnalysisProcess(config, factory)
        self._next: Frame | None = None
        self._sent: deque[_Sent] = deque()
        self._oldest_since = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gixi-worker", daemon=True)
        self.restarts = 0
        self.last_error = ""
        self.gpu_bytes: int | None = None

    @property
    def alive(self) -> bool:
        """Whether the analysis process is there."""
        return self._process.alive

    @property
    def pid(self) -> int | None:
        """Process id of the analysis process."""
        return self._process.pid

    @property
    def busy(self) -> int:
        """Frames taken from the queue and not delivered."""
        return len(self._sent) + (self._next is not None)

    def start(self) -> Ready:
        """Start the process and wait until its pipeline is built.

        Raises what building the pipeline raised, so that a wrong set-up fails at once.
        """
        try:
            ready = self._process.start()
        except BaseException:
            self._process.close()
            raise
        self._thread.start()
        return ready

    def close(self) -> None:
        """Stop at once; frames that are not delivered stay so."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)
        self._process.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._fill()
                self._collect()
            except ProcessEndedError as error:
                self._mend(str(error))
            except Exception as error:  # whatever one frame does, the next one goes on
                self.last_error = repr(error)
                _log.exception("worker_thread_error")
                self._stopping.wait(_POLL_S)

    def _fill(self) -> None:
        """Hand frames over while the process has room for them."""
        while len(self._sent) < IN_FLIGHT and not self._stopping.is_set():
            if self._next is None:
                self._next = self._queue.take(0.0 if self._sent else 0.2, self._ready)
            if self._next is None:
                return
            wanted = self._wanted(self._next)
            if wanted is None:
                self._stopping.wait(_POLL_S)
                return
            frame, self._next = self._next, None
            if not wanted:
                self._queue.release(frame)
            elif isinstance(frame.image, Unreadable):
                self._answer(frame, Outcome(frame.image.status, frame.image.reason))
            else:
                self._hand_over(frame)

    def _hand_over(self, frame: Frame) -> None:
        job = Job(
            raw_uid=frame.run_uid,
            frame=frame.number,
            image=frame.image,
            conditions=frame.conditions,
            deadline=frame.received + self._file_timeout_s,
            keep_image=self._keeps_image(frame),
            exposures=frame.exposures,
            dark=frame.dark,
        )
        if not self._sent:
            self._oldest_since = time.monotonic()
        self._sent.append(_Sent(frame, job))
        try:
            self._process.submit(job)
        except OSError as error:  # no memory to share the image through
            self._sent.pop()
            self._answer(frame, Outcome("failed", f"the image cannot be shared: {error}"))

    def _collect(self) -> None:
        """Deliver the oldest frame if it is done; a frame that takes too long is a death."""
        if not self._sent:
            return
        outcome = self._process.answer(_POLL_S)
        if outcome is not None:
            self._oldest_since = time.monotonic()
            self.gpu_bytes = outcome.gpu_bytes
            self._answer(self._sent.popleft().frame, outcome)
        elif time.monotonic() > self._limit(self._sent[0].job):
            self._process.end()
            message = f"a frame took longer than {self._frame_timeout_s:g} s"
            raise ProcessEndedError(message)

    def _limit(self, job: Job) -> float:
        return max(self._oldest_since, job.deadline) + self._frame_timeout_s

    def _answer(self, frame: Frame, outcome: Outcome) -> None:
        try:
            self._deliver(frame, outcome)
        finally:
            self._queue.release(frame)

    def _mend(self, why: str) -> None:
        """Start the process again, give up a frame that ended it twice, repeat the others."""
        self.last_error = why
        during = self._sent[0].frame if self._sent else None
        _log.error(
            "analysis_process_ended",
            reason=why,
            in_flight=len(self._sent),
            raw_uid=during and during.run_uid,
            frame=during and during.number,
        )
        if self._sent:
            suspect = self._sent[0]
            suspect.deaths += 1
            if suspect.deaths >= _DEATHS_ALLOWED:
                self._sent.popleft()
                reason = f"the analysis process ended {suspect.deaths} times on this frame: {why}"
                self._answer(suspect.frame, Outcome("failed", reason))
        pause = 0.0
        while not self._stopping.wait(pause):
            try:
                self._process.start()
                break
            except Exception as error:
                self.last_error = f"the analysis process cannot be started again: {error}"
                _log.error("analysis_process_not_started", error=repr(error), retry_in_s=pause)
                pause = min(_LONGEST_PAUSE_S, max(1.0, 2 * pause))
        else:
            return
        self.restarts += 1
        self._oldest_since = time.monotonic()
        for sent in self._sent:
            self._process.submit(sent.job)
