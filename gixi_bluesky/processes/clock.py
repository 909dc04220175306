"""The clocks used for waits, ages and deadlines, so that tests can set the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["SYSTEM_CLOCK", "Clock"]


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Clock:
    """Three sources of time.

    monotonic: returns seconds that never go backwards, for ages and deadlines
    wall: returns seconds since 1970 UTC, for documents
    boot: as `monotonic`, and counts while the machine sleeps
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    boot: Callable[[], float] = _since_boot


SYSTEM_CLOCK = Clock()
