"""The worker: takes frames from the queue, analyses them in the pool, delivers them in order."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from gixi_bluesky.callbacks.images.locations import Unreadable
from gixi_bluesky.callbacks.runs.raw_run import Frame
from gixi_bluesky.callbacks.settings import AnalysisConfig
from gixi_bluesky.callbacks.worker.frame_queue import FrameQueue
from gixi_bluesky.callbacks.worker.jobs import Job, Outcome, Ready
from gixi_bluesky.callbacks.worker.order import FrameOrder, Waiting
from gixi_bluesky.callbacks.worker.pool import PIPELINE, ProcessPool
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.loops import Loop

__all__ = ["Worker"]

_POLL_S = 0.05
_IDLE_S = 0.5
_log = get_logger()


class Worker:
    """Runs frames through the pool of analysis processes; each run gets its outcomes in order.

    deliver: called with each frame and its outcome, on the worker's thread
    wanted: says whether a frame needs analysing; None = not known yet, ask again
    keeps_image, keeps_q_image: say whether the polar image of a frame is stored, and that on
        (q_z, q_xy)
    ready: says of a run's uid whether its frames may be taken now
    """

    def __init__(
        self,
        config: AnalysisConfig,
        queue: FrameQueue,
        deliver: Callable[[Frame, Outcome], None],
        *,
        wanted: Callable[[Frame], bool | None] = lambda _: True,
        keeps_image: Callable[[Frame], bool] = lambda _: True,
        keeps_q_image: Callable[[Frame], bool] = lambda _: False,
        ready: Callable[[str], bool] = lambda _: True,
        factory: str = PIPELINE,
    ) -> None:
        self._file_timeout_s: float = config.input.file_timeout_s
        self._queue = queue
        self._deliver = deliver
        self._wanted = wanted
        self._keeps_image = keeps_image
        self._keeps_q_image = keeps_q_image
        self._ready = ready
        self.pool = ProcessPool(config, factory)
        self._next: Frame | None = None
        self._order = FrameOrder()
        self._held = 0
        self._analysed: dict[int, Waiting] = {}
        self._woken, self._wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.loop = Loop("gixi-worker", self._turn)

    @property
    def alive(self) -> bool:
        """True if an analysis process is running."""
        return bool(self.pool.pids)

    @property
    def pid(self) -> int | None:
        """Process id of the first analysis process that is there."""
        return next(iter(self.pool.pids), None)

    @property
    def restarts(self) -> int:
        """Number of times that an analysis process ended and was replaced."""
        return self.pool.restarts

    @property
    def last_error(self) -> str:
        """The last error of a process or of the thread, empty when there was none."""
        return self.loop.last_error or self.pool.last_error

    @property
    def busy(self) -> int:
        """Frames taken from the queue and not delivered."""
        return len(self._order) + (self._next is not None)

    def start(self) -> Ready:
        """Start the processes and wait until the pipeline is built.

        Raises what building the pipeline raised, so that a wrong set-up fails at once.
        """
        try:
            ready = self.pool.start()
        except BaseException:
            self._close_pipe()
            raise
        self._queue.when_put(self._wake)
        self.loop.start()
        return ready

    def close(self) -> None:
        """Stop at once; frames that are not delivered are dropped."""
        self._queue.when_put(lambda: None)
        self._wake()
        self.loop.stop()
        self.pool.close()
        self._close_pipe()

    def _turn(self) -> None:
        self._fill()
        waits = self._next is not None or len(self._queue) > 0
        for ticket, outcome in self.pool.finished(_POLL_S if waits else _IDLE_S, [self._woken]):
            self._order.end(self._analysed.pop(ticket), outcome)
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 4096)
        self._deliver_ready()

    def _fill(self) -> None:
        """Hand frames over while a process has room for them and results do not pile up."""
        while self.pool.room and self._held <= self._queue.limit / 2 and not self.loop.stopping:
            if self._next is None:
                self._next = self._queue.take(0.0, self._ready)
            if self._next is None:
                return
            wanted = self._wanted(self._next)
            if wanted is None:
                return
            frame, self._next = self._next, None
            if not wanted:
                self._queue.release(frame)
            elif isinstance(frame.image, Unreadable):
                self._order.add(frame, Outcome(frame.image.status, frame.image.reason))
            else:
                waiting = self._order.add(frame)
                self._analysed[self.pool.submit(self._job(frame))] = waiting

    def _job(self, frame: Frame) -> Job:
        return Job(
            raw_uid=frame.run_uid,
            frame=frame.number,
            image=frame.image,
            conditions=frame.conditions,
            deadline=frame.received + self._file_timeout_s,
            keep_image=self._keeps_image(frame),
            keep_q_image=self._keeps_q_image(frame),
            exposures=frame.exposures,
            dark=frame.dark,
        )

    def _deliver_ready(self) -> None:
        try:
            for frame, outcome in self._order.ready():
                self._answer(frame, outcome)
                self._queue.release(frame)
        finally:
            self._queue.hold(self._order.nbytes - self._held)
            self._held = self._order.nbytes

    def _answer(self, frame: Frame, outcome: Outcome) -> None:
        """Deliver an outcome or, if that fails, the error; the frame stays first until then."""
        try:
            self._deliver(frame, outcome)
        except Exception as error:
            _log.exception("outcome_not_delivered", raw_uid=frame.run_uid, frame=frame.number)
            reason = f"the result could not be taken: {type(error).__name__}: {error}"
            self._deliver(frame, Outcome("failed", reason))

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wakes, b"x")

    def _close_pipe(self) -> None:
        ends, self._woken, self._wakes = (self._woken, self._wakes), -1, -1
        for descriptor in ends:
            with contextlib.suppress(OSError):
                os.close(descriptor)
