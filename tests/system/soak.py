"""How long the campaigns of `make soak` are."""

from __future__ import annotations

import os
from collections.abc import Iterator


def soak_kills(each: int) -> Iterator[int]:
    """Yield how many kills each run suffers: GIXI_SOAK_KILLS in all, a hundred unless it is set."""
    left = int(os.environ.get("GIXI_SOAK_KILLS", "100"))
    while left > 0:
        yield min(each, left)
        left -= each
