"""The answered frames of a run, passed on in the order of their numbers."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Collection
from dataclasses import dataclass, replace

from gixi_bluesky.callbacks.runs.actions import Frame
from gixi_bluesky.callbacks.worker.jobs import Outcome
from gixi_bluesky.processes.clock import Clock

__all__ = ["Answered", "OrderedArrivals"]

_GAP_S = 2.0
_BACKLOG_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Answered:
    """A frame and how its analysis ended.

    at: when, as Clock.monotonic
    late: a frame with a higher number was passed on before, so that folds skip this one
    """

    frame: Frame
    outcome: Outcome
    at: float
    late: bool = False

    @property
    def latency(self) -> float:
        """Seconds from the arrival of the raw document to the answer."""
        return self.at - self.frame.received

    @property
    def nbytes(self) -> int:
        """Bytes of the polar image."""
        result = self.outcome.result
        return result.image.nbytes if result is not None and result.image is not None else 0


class OrderedArrivals:
    """Puts the answered frames of one run in the order of their numbers.

    A frame is held back while a received frame with a lower number has no answer. Lower numbers
    that were never received delay it for a short time only. When too many bytes are held, or the
    raw run has ended, frames go on without those before them. Any thread may add; one takes.

    step: distance of consecutive numbers, more than 1 where frames are sums
    """

    def __init__(self, clock: Clock, step: int = 1) -> None:
        self._clock = clock
        self._step = step
        self._lock = threading.Lock()
        self._held: dict[int, Answered] = {}
        self._numbers: list[int] = []  # of `held`, a heap
        self._pending: set[int] = set()
        self._lowest: list[int] = []  # of `pending`, a heap that is cleared lazily
        self._committed: Collection[int] = frozenset()
        self._next = 0  # the lowest number that was not handed on
        self._beyond = 0  # more than every number that was
        self._bytes = 0
        self._answered = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def answered(self) -> int:
        """Number of frames that were answered or skipped."""
        return self._answered

    @property
    def full(self) -> bool:
        """True if no more should be analysed until some are taken."""
        return self._bytes > _BACKLOG_BYTES

    def expect(self, number: int) -> None:
        """Record that a frame was received and will be answered or skipped."""
        with self._lock:
            self._pending.add(number)
            heapq.heappush(self._lowest, number)

    def add(self, answered: Answered) -> None:
        """Take an answered frame."""
        number = answered.frame.number
        with self._lock:
            self._pending.discard(number)
            if number not in self._held and number not in self._committed:
                self._held[number] = answered
                self._bytes += answered.nbytes
                heapq.heappush(self._numbers, number)
            self._answered += 1

    def skip(self, number: int) -> None:
        """Record that a received frame needs no analysis."""
        with self._lock:
            self._pending.discard(number)
            self._answered += 1

    def forget(self) -> None:
        """Drop held frames, as the run needs no more."""
        with self._lock:
            self._held.clear()
            self._numbers.clear()
            self._bytes = 0

    def resume(self, committed: Collection[int]) -> None:
        """Leave out the frames that an earlier session stored."""
        with self._lock:
            self._committed = committed
            self._beyond = max(committed, default=-1) + 1
            for number in [number for number in self._held if number in committed]:
                self._bytes -= self._held.pop(number).nbytes
            self._numbers = sorted(self._held)

    def take(self, at_most: int, *, ended: bool = False) -> list[Answered]:
        """Remove and return the next frames in order, fewer than `at_most` where one is awaited.

        ended: the raw run has ended: numbers that were not received will never be
        """
        taken: list[Answered] = []
        now = self._clock.monotonic()
        with self._lock:
            while self._numbers and len(taken) < at_most:
                number = self._numbers[0]
                if not self._may_go(number, now, ended=ended):
                    break
                heapq.heappop(self._numbers)
                one = self._held.pop(number)
                self._bytes -= one.nbytes
                taken.append(replace(one, late=number < self._beyond))
                self._next = max(self._next, number + self._step)
                self._beyond = max(self._beyond, number + 1)
        return taken

    def _may_go(self, number: int, now: float, *, ended: bool) -> bool:
        if self._bytes > _BACKLOG_BYTES:
            return True
        while self._lowest and self._lowest[0] not in self._pending:
            heapq.heappop(self._lowest)
        if self._lowest and self._lowest[0] < number:
            return False
        while self._next in self._committed:
            self._next += self._step
        return ended or number <= self._next or now >= self._held[number].at + _GAP_S
