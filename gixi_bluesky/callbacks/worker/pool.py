"""The pool of analysis processes: jobs in, outcomes out in the order in which they end."""

from __future__ import annotations

import contextlib
import time
from bisect import insort
from collections.abc import Sequence
from multiprocessing.connection import wait
from typing import Self, cast

from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
from gixi_bluesky.callbacks.settings import AnalysisConfig
from gixi_bluesky.callbacks.worker.jobs import Job, Outcome, Ready
from gixi_bluesky.callbacks.worker.seat import FrameTask, Seat, gave_up
from gixi_bluesky.callbacks.worker.seating import Seating
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.peer import ProcessEndedError

__all__ = ["PIPELINE", "Finished", "ProcessPool"]

PIPELINE = "gixi_bluesky.processing.pipeline:Pipeline"

_START_TIMEOUT_S = 300.0
_DEATHS_ALLOWED = 2
_log = get_logger()

Finished = tuple[int, Outcome]


class ProcessPool:
    """Analysis processes that share one pipeline, started again when they end.

    The first process builds the pipeline. Where it can fork, it stays idle and the others are its
    copies, which share its memory and start at once; else each builds its own. All methods belong
    to one thread; the properties may be read by others.

    workers, access: as of `Seating`

    A frame that ends its process twice, or that takes longer than `queue.frame_timeout_s`, is
    failed. All jobs that a process had when it ended are suspects, and are repeated one by one.
    """

    def __init__(
        self,
        config: AnalysisConfig,
        factory: str = PIPELINE,
        workers: int | None = None,
        access: FileAccess | None = None,
    ) -> None:
        self._seating = Seating(config, factory, workers, access)
        self._frame_timeout_s: float = config.queue.frame_timeout_s
        self._builder: Seat | None = None
        self._seats: list[Seat] = []
        self._pending: list[FrameTask] = []
        self._finished: list[Finished] = []
        self._tickets = 0
        self.restarts = 0
        self.last_error = ""
        self.gpu_bytes: int | None = None

    @property
    def size(self) -> int:
        """Number of processes that analyse, when all are running."""
        return len(self._seats)

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the running processes."""
        return tuple(s.peer.pid for s in list(self._seats) if s.peer.pid and s.peer.alive)

    @property
    def builder_pid(self) -> int | None:
        """The idle process that the others are copies of; None = each has built its own."""
        return self._builder.peer.pid if self._builder is not None else None

    @property
    def room(self) -> bool:
        """True if a job would be handed over at once."""
        trial = FrameTask(0, cast("Job", None))
        return not self._pending and any(seat.takes(trial) for seat in self._seats)

    def start(self) -> Ready:
        """Build the pipeline in a first process and start the others.

        Raises what building the pipeline raised, so that a wrong set-up fails at once.
        """
        first = self._seating.building_seat()
        try:
            first.peer.start()
            answer = first.peer.ask(self._seating.setup(first.blocks), _START_TIMEOUT_S)
            if isinstance(answer, Exception):
                raise answer
        except BaseException:
            first.close()
            raise
        ready = cast("Ready", answer)
        number = self._seating.number(ready)
        first.serve()
        if ready.forks:
            self._builder = first
            self._seats = [self._seating.copy(first) for _ in range(number)]
        else:
            self._seats = [first, *(self._seating.building_seat() for _ in range(number - 1))]
        self._start_due()
        return ready

    def submit(self, job: Job) -> int:
        """Take a job and return its ticket."""
        self._tickets += 1
        self._pending.append(FrameTask(self._tickets, job))
        self._place()
        return self._tickets

    def finished(self, timeout: float, also: Sequence[int] = ()) -> list[Finished]:
        """Return jobs that have ended, with their outcomes; wait for one, at most `timeout` s.

        also: descriptors that end the wait when they can be read
        """
        self._start_due()
        self._place()
        if not self._finished:
            open_ends = {id(c): seat for seat in self._all() if (c := seat.peer.connection)}
            waited = [seat.peer.connection for seat in open_ends.values()]
            found = wait([c for c in waited if c is not None] + list(also), timeout)
            for end in found:
                if (seat := open_ends.get(id(end))) is not None:
                    self._hear(seat)
            self._give_up_late()
            self._start_due()
            self._place()
        finished, self._finished = self._finished, []
        return finished

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes; jobs that have no outcome get none."""
        for seat in self._all():
            seat.close()
        self._seats, self._builder = [], None

    def _all(self) -> list[Seat]:
        return [*self._seats, *([self._builder] if self._builder is not None else [])]

    def _start_due(self) -> None:
        """Start processes that are not there; none is waited for."""
        if self._builder is not None and self._builder.due:
            self._start_building(self._builder)
        for seat in self._seats:
            if not seat.due:
                continue
            if self._builder is None:
                self._start_building(seat)
            elif self._builder.serving:
                self._fork(seat)

    def _start_building(self, seat: Seat) -> None:
        try:
            seat.peer.start()
            seat.peer.send(self._seating.setup(seat.blocks))
            seat.building_since = time.monotonic()
        except (OSError, ProcessEndedError) as error:
            self._not_started(seat, error)

    def _fork(self, seat: Seat) -> None:
        try:
            seat.peer.start()
            seat.serve()
        except (OSError, ProcessEndedError, TimeoutError) as error:
            self._not_started(seat, error)
            if self._builder is not None and isinstance(error, ProcessEndedError | TimeoutError):
                self._builder.ended()  # it is dead or stuck: built again

    def _not_started(self, seat: Seat, error: Exception) -> None:
        self.last_error = f"an analysis process cannot be started: {error}"
        _log.error("analysis_process_not_started", error=repr(error))
        seat.ended()

    def _place(self) -> None:
        """Hand pending tasks over, the oldest first, to the process with the fewest tasks."""
        while self._pending:
            task = self._pending[0]
            seats = [seat for seat in self._seats if seat.takes(task)]
            if not seats:
                return
            del self._pending[0]
            self._hand_over(task, min(seats, key=lambda seat: len(seat.sent)))

    def _hand_over(self, task: FrameTask, seat: Seat) -> None:
        try:
            shared = seat.blocks.shared(task.job)
        except (OSError, MemoryError) as error:
            reason = f"the image cannot be shared with the analysis process: {error or 'no memory'}"
            self._finished.append((task.ticket, Outcome("failed", reason)))
            return
        try:
            seat.hand_over(task, shared)
        except ProcessEndedError as error:
            self._put_back(task)
            self._died(seat, str(error))

    def _hear(self, seat: Seat) -> None:
        """Handle the message of a process, or its end."""
        try:
            message = seat.peer.receive(0)
        except TimeoutError:
            return
        except ProcessEndedError as error:
            self._died(seat, str(error))
            return
        if isinstance(message, Outcome):
            self.gpu_bytes = message.gpu_bytes
            self._finished.append((seat.answered().ticket, message))
        elif isinstance(message, Ready):
            seat.serve()
        elif isinstance(message, Exception):
            self._not_started(seat, message)

    def _died(self, seat: Seat, why: str) -> None:
        """Put back the tasks of the process; a task that saw a second death fails."""
        tasks = seat.ended()
        self.last_error = why
        self.restarts += 1
        jobs = [(task.job.raw_uid, task.job.frame) for task in tasks]
        _log.error("analysis_process_ended", reason=why, had=jobs)
        for task in tasks:
            task.deaths += 1
            if task.deaths >= _DEATHS_ALLOWED:
                self._finished.append((task.ticket, gave_up(task, why)))
            else:
                self._put_back(task)

    def _give_up_late(self) -> None:
        """End processes whose frame takes too long, and those that do not become ready."""
        for seat in self._all():
            begun = seat.building_since
            if begun is not None and time.monotonic() > begun + _START_TIMEOUT_S:
                message = f"the pipeline was not built within {_START_TIMEOUT_S:.0f} s"
                self._not_started(seat, ProcessEndedError(message))
            elif seat.late(self._frame_timeout_s):
                why = f"the frame took longer than {self._frame_timeout_s:g} s"
                late, *others = seat.ended()
                self.last_error = why
                self.restarts += 1
                _log.error("frame_too_long", raw_uid=late.job.raw_uid, frame=late.job.frame)
                self._finished.append((late.ticket, Outcome("failed", why)))
                for task in others:
                    self._put_back(task)

    def _put_back(self, task: FrameTask) -> None:
        with contextlib.suppress(ValueError):
            self._pending.remove(task)
        insort(self._pending, task, key=lambda one: one.ticket)
