"""A set of frame numbers that takes little memory while they come in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["FrameSpans"]


class FrameSpans:
    """Frame numbers, stored as spans of equal steps; memory grows with gaps, not with frames."""

    def __init__(self) -> None:
        self._spans: list[range] = []

    def add(self, numbers: Iterable[int]) -> None:
        """Add numbers; those that are there already change nothing."""
        for number in numbers:
            if number not in self:
                self._add(number)

    def __contains__(self, number: object) -> bool:
        return any(number in span for span in reversed(self._spans))

    def __iter__(self) -> Iterator[int]:
        for span in self._spans:
            yield from span

    def __len__(self) -> int:
        return sum(map(len, self._spans))

    def _add(self, number: int) -> None:
        if self._spans:
            last = self._spans[-1]
            step = number - last.start if len(last) == 1 else last.step
            if step > 0 and number == last[-1] + step:
                self._spans[-1] = range(last.start, number + 1, step)
                return
        self._spans.append(range(number, number + 1))
