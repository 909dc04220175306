"""Whether this consumer may write: it polls, and the group still counts it in."""

from __future__ import annotations

import time

__all__ = ["Membership"]


class Membership:
    """Sure as long as the main loop comes round within every session.

    After a longer sleep nobody knows whether others have the partitions: nothing is written until
    the broker has taken a commit again. Any thread may ask; the main loop tells.
    """

    def __init__(self, session_s: float) -> None:
        self._session_s = session_s
        self._polled = _now()
        self._sure = True

    def __call__(self) -> bool:
        """Say whether this consumer may write now."""
        return self._sure and not self._slept()

    def poll(self) -> bool:
        """Take note that the main loop came round; say whether it is sure of its partitions."""
        if self._slept():
            self._sure = False
        self._polled = _now()
        return self._sure

    def confirm(self) -> None:
        """Take note that the broker counts us in."""
        self._sure = True

    def _slept(self) -> bool:
        return _now() - self._polled > self._session_s


def _now() -> float:
    # Counts while the machine sleeps, too.
    return time.clock_gettime(time.CLOCK_BOOTTIME)
