"""Natural order of file names: frame 2 before frame 10."""

from __future__ import annotations

import re

__all__ = ["natural"]

_DIGITS = re.compile(r"(\d+)")


def natural(name: str) -> tuple[tuple[int, str | int], ...]:
    """Return a key that sorts runs of digits by their value."""
    return tuple(
        (1, int(part)) if part.isdecimal() else (0, part) for part in _DIGITS.split(name) if part
    )
