"""A clock that stands still until a test moves it."""

from __future__ import annotations

from gixi_bluesky.processes.clock import Clock

__all__ = ["ManualClock"]


class ManualClock:
    """`clock` is what the code gets; `advance` moves all of its times."""

    def __init__(self, monotonic: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self.now = monotonic
        self._offset = wall - monotonic
        self.clock = Clock(lambda: self.now, lambda: self.now + self._offset, lambda: self.now)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
