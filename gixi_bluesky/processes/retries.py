"""The retry policy of the package: growing pauses with an upper limit."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_delay,
    wait_exponential,
)

from gixi_bluesky.processes.clock import SYSTEM_CLOCK, Clock

__all__ = ["Backoff", "retrying"]

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0


def retrying(
    *errors: type[BaseException],
    patience_s: float,
    until: Callable[[], bool] = lambda: False,
    first_s: float = _FIRST_PAUSE_S,
    longest_s: float = _LONGEST_PAUSE_S,
    before_pause: Callable[[BaseException], None] = lambda _: None,
    closing: threading.Event | None = None,
) -> Retrying:
    """Return what repeats a blocking call: `retrying(OSError, patience_s=5)(function, *args)`.

    The pauses double from `first_s` to `longest_s`. The last error is raised when `patience_s` has
    passed, when `until` returns True, or when `closing` is set, which ends a pause at once.

    before_pause: called with each error that another attempt follows
    """
    ended, late = closing or threading.Event(), stop_after_delay(patience_s)

    def stop(state: RetryCallState) -> bool:
        return late(state) or until() or ended.is_set()

    def paused(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if error is not None:
            before_pause(error)

    return Retrying(
        retry=retry_if_exception_type(errors),
        wait=wait_exponential(first_s, longest_s, min=first_s),
        stop=stop,
        sleep=sleep_using_event(ended),
        before_sleep=paused,
        reraise=True,
    )


class Backoff:
    """The same policy for code that must not block: check `due`, and do other work meanwhile.

    first_s, longest_s: the pauses double from one to the other
    free: number of first failures in a row without a pause
    """

    def __init__(
        self,
        clock: Clock = SYSTEM_CLOCK,
        first_s: float = _FIRST_PAUSE_S,
        longest_s: float = _LONGEST_PAUSE_S,
        free: int = 0,
    ) -> None:
        self._clock = clock
        self._free = free
        self._wait = wait_exponential(first_s, longest_s, min=first_s)
        self._state = RetryCallState(Retrying(), None, (), {})
        self._not_before = clock.monotonic()
        self.failures = 0

    @property
    def due(self) -> bool:
        """True if the next attempt may begin."""
        return self._clock.monotonic() >= self._not_before

    def succeeded(self) -> None:
        """Record a success: the next pause is the first one again."""
        self.failures = 0

    def failed(self) -> float:
        """Record a failure and return the seconds until the next attempt."""
        self.failures += 1
        self._state.attempt_number = max(self.failures - self._free, 1)
        pause = float(self._wait(self._state)) if self.failures > self._free else 0.0
        self.wait(pause)
        return pause

    def wait(self, seconds: float) -> None:
        """Delay the next attempt without counting a failure."""
        self._not_before = self._clock.monotonic() + seconds
