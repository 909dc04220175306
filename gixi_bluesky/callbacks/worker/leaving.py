"""Exit of Python while frames are not stored: a bounded wait, then a hint for the rest."""

from __future__ import annotations

import atexit
import contextlib
import sys
import time
import weakref
from collections.abc import Callable
from typing import Protocol

__all__ = ["close_at_exit", "closed", "wait_for_frames"]

_POLL_S = 0.02


class _Closes(Protocol):
    @property
    def exit_wait_s(self) -> float: ...

    def close(self, wait: float = 0.0) -> None: ...


_open: weakref.WeakSet[_Closes] = weakref.WeakSet()


def close_at_exit(analysis: _Closes) -> None:
    """Close an analysis when Python exits, after a bounded wait for its frames."""
    _open.add(analysis)


def closed(analysis: _Closes) -> None:
    """Unregister an analysis that was closed."""
    _open.discard(analysis)


def wait_for_frames(unfinished: Callable[[], str], seconds: float, rest: Callable[[], str]) -> None:
    """Wait until nothing is unfinished, for a limited time, and print the outcome on stderr.

    unfinished: returns what is not stored, empty = nothing
    rest: returns the command that analyses what is left
    """
    _print(f"waiting up to {seconds:g} s for {unfinished()}; Ctrl-C stops waiting")
    deadline = time.monotonic() + seconds
    with contextlib.suppress(KeyboardInterrupt):
        while unfinished() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    if left := unfinished():
        _print(f"not stored: {left}. This analyses the rest: {rest()}")


def _print(message: str) -> None:
    # Printed, since an interactive session may have no log.
    with contextlib.suppress(OSError, ValueError):  # it may be closed
        sys.stderr.write(f"gixi_bluesky: {message}\n")
        sys.stderr.flush()


@atexit.register
def _close_all() -> None:
    for analysis in list(_open):
        analysis.close(wait=analysis.exit_wait_s)
