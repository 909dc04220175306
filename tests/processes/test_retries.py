"""Failed calls are repeated with growing pauses, up to a limit, and no longer than is of use."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from manual_clock import ManualClock

from gixi_bluesky.processes.retries import Backoff, retrying


def failing(times: int) -> Callable[[], int]:
    """Return a function that raises OSError so often and then returns the number of its calls."""
    calls: list[int] = []

    def call() -> int:
        calls.append(1)
        if len(calls) <= times:
            raise OSError(len(calls))
        return len(calls)

    return call


def test_the_pauses_of_a_backoff_double_up_to_a_limit() -> None:
    time = ManualClock()
    backoff = Backoff(time.clock, 1.0, 5.0)
    assert backoff.due
    pauses = [backoff.failed() for _ in range(5)]
    assert pauses == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert backoff.failures == 5
    time.advance(4.9)
    assert not backoff.due
    time.advance(0.2)
    assert backoff.due
    backoff.succeeded()
    assert backoff.failed() == 1.0


def test_waiting_is_no_failure() -> None:
    time = ManualClock()
    backoff = Backoff(time.clock)
    backoff.wait(3.0)
    assert not backoff.due
    time.advance(3.0)
    assert backoff.due
    assert backoff.failures == 0


def test_a_call_is_repeated_until_it_succeeds() -> None:
    errors: list[str] = []
    again = retrying(
        OSError,
        patience_s=60,
        first_s=0.001,
        longest_s=0.001,
        before_pause=lambda error: errors.append(str(error)),
    )
    assert again(failing(3)) == 4
    assert errors == ["1", "2", "3"]


def test_other_errors_and_a_patience_of_none_are_raised_at_once() -> None:
    with pytest.raises(OSError, match="1"):
        retrying(OSError, patience_s=0)(failing(3))
    with pytest.raises(OSError, match="1"):
        retrying(KeyError, patience_s=60)(failing(3))


def test_until_ends_the_attempts() -> None:
    calls = failing(10)
    asked: list[int] = []

    def until() -> bool:
        asked.append(1)
        return len(asked) == 3

    with pytest.raises(OSError, match="3"):
        retrying(OSError, patience_s=60, until=until, first_s=0.001, longest_s=0.001)(calls)


def test_closing_ends_a_pause_at_once() -> None:
    closing = threading.Event()
    again = retrying(
        OSError,
        patience_s=600,
        first_s=600,
        longest_s=600,
        closing=closing,
        before_pause=lambda _: closing.set(),
    )
    with pytest.raises(OSError, match="2"):
        again(failing(10))
