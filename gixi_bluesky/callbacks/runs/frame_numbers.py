"""The numbers of the received frames of a run, and the gaps between them."""

from __future__ import annotations

__all__ = ["FrameNumbers"]


class FrameNumbers:
    """A set of frame numbers that takes constant memory while they come in order."""

    def __init__(self) -> None:
        self._next = 0
        self._beyond: set[int] = set()

    @property
    def count(self) -> int:
        """Number of added numbers."""
        return self._next + len(self._beyond)

    def add(self, number: int) -> bool:
        """Add a number; False when it was there."""
        if number < self._next or number in self._beyond:
            return False
        self._beyond.add(number)
        while self._next in self._beyond:
            self._beyond.remove(self._next)
            self._next += 1
        return True

    def gaps(self, announced: int, listed: int) -> tuple[int, tuple[int, ...]]:
        """Return how many of 0…announced-1 (or of 0…the largest) are absent, and the first few."""
        end = max(announced, max(self._beyond, default=-1) + 1)
        n_missing = max(end - self.count, 0)
        missing: list[int] = []
        number = self._next
        while len(missing) < min(n_missing, listed):
            if number not in self._beyond:
                missing.append(number)
            number += 1
        return n_missing, tuple(missing)
