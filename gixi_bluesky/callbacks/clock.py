"""The clocks that waiting, ageing and expiring go by, so that tests can set the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["SYSTEM_CLOCK", "Clock"]


@dataclass(frozen=True, slots=True)
class Clock:
    """Two sources of time.

    monotonic: returns seconds that never go backwards, for ages and deadlines
    wall: returns seconds since 1970 UTC, for documents
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


SYSTEM_CLOCK = Clock()
