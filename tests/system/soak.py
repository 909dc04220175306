"""How long the campaigns of `make soak` are, and where they begin."""

from __future__ import annotations

import os
from collections.abc import Iterator


def soak_kills(each: int) -> Iterator[int]:
    """Yield how many kills each run suffers: GIXI_SOAK_KILLS in all, a hundred unless it is set."""
    left = _number("KILLS", 100)
    while left > 0:
        yield min(each, left)
        left -= each


def soak_seeds() -> range:
    """Return the seeds of GIXI_SOAK_ROUNDS rounds (five unless it is set), from GIXI_SOAK_SEED."""
    first = _number("SEED", 0)
    return range(first, first + _number("ROUNDS", 5))


def _number(name: str, otherwise: int) -> int:
    return int(os.environ.get(f"GIXI_SOAK_{name}") or otherwise)
