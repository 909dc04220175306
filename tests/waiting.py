"""Waits of tests: for a condition, not for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def wait_until(
    condition: Callable[[], Found], seconds: float = 120.0, why: Callable[[], object] | str = ""
) -> Found:
    """Return the value of `condition` once it is true.

    seconds: after which the test fails, far more than a busy machine needs
    why: what the failure shows, such as the last error of what is waited for
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, why() if callable(why) else why or "it did not happen"
        time.sleep(0.01)
    return found
