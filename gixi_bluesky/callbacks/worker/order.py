"""Outcomes in the order of their frames, independent of the order in which they end."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from gixi_bluesky.callbacks.runs.raw_run import Frame
from gixi_bluesky.callbacks.worker.jobs import Outcome

__all__ = ["FrameOrder", "Waiting"]


@dataclass(slots=True, eq=False)
class Waiting:
    """A frame that was taken; `outcome` is None until its analysis has ended."""

    frame: Frame
    outcome: Outcome | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that the outcome holds."""
        result = self.outcome.result if self.outcome is not None else None
        return result.image.nbytes if result is not None and result.image is not None else 0


class FrameOrder:
    """The frames of all runs that were taken and not delivered; each run has an order of its own.

    nbytes: held by outcomes that wait for an earlier frame
    """

    def __init__(self) -> None:
        self._runs: dict[str, deque[Waiting]] = {}
        self._length = 0
        self.nbytes = 0

    def __len__(self) -> int:
        return self._length

    def add(self, frame: Frame, outcome: Outcome | None = None) -> Waiting:
        """Append a frame that was taken."""
        waiting = Waiting(frame, outcome)
        self._runs.setdefault(frame.run_uid, deque()).append(waiting)
        self._length += 1
        self.nbytes += waiting.nbytes
        return waiting

    def end(self, waiting: Waiting, outcome: Outcome) -> None:
        """Record the outcome of a frame."""
        self.nbytes -= waiting.nbytes
        waiting.outcome = outcome
        self.nbytes += waiting.nbytes

    def ready(self) -> Iterator[tuple[Frame, Outcome]]:
        """Yield the frames whose turn has come; each is removed when the next one is asked for."""
        for uid in list(self._runs):
            frames = self._runs[uid]
            while frames and (outcome := frames[0].outcome) is not None:
                yield frames[0].frame, outcome
                self.nbytes -= frames[0].nbytes
                frames.popleft()
                self._length -= 1
            if not frames:
                del self._runs[uid]
