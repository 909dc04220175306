"""The right of a consumer to write: it polls, and it is a member of its group."""

from __future__ import annotations

from gixi_bluesky.processes.clock import SYSTEM_CLOCK, Clock

__all__ = ["Membership"]


class Membership:
    """Valid as long as the main loop polls at least once per session timeout.

    After a longer sleep other consumers may have the partitions: nothing is written until the
    broker has accepted a commit. Any thread may ask; the main loop reports.
    """

    def __init__(self, session_s: float, clock: Clock = SYSTEM_CLOCK) -> None:
        self._session_s = session_s
        self._now = clock.boot
        self._polled = self._now()
        self._sure = True

    def __call__(self) -> bool:
        """Return whether this consumer may write now."""
        return self._sure and not self._slept()

    def poll(self) -> bool:
        """Record a turn of the main loop; return whether the membership is certain."""
        if self._slept():
            self._sure = False
        self._polled = self._now()
        return self._sure

    def confirm(self) -> None:
        """Record that the broker accepted a commit of this consumer."""
        self._sure = True

    def _slept(self) -> bool:
        return self._now() - self._polled > self._session_s
