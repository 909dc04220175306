"""Threads that repeat a turn of work, survive its errors, and are supervised."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gixi_bluesky.log import get_logger

__all__ = ["Liveness", "Loop", "Watchdog"]

_SHORTEST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 5.0
_STUCK_S = 60.0
_LOOK_S = 1.0
_log = get_logger()


@dataclass(frozen=True, slots=True)
class Liveness:
    """The state of a thread.

    errors: turns that ended in an error
    restarts: how often the watchdog started it again
    turn_s: how long the present turn has taken
    """

    alive: bool
    errors: int
    restarts: int
    turn_s: float
    last_error: str

    def __str__(self) -> str:
        if not self.alive:
            return f"ended ({self.last_error or 'no reason known'})"
        if self.turn_s > _STUCK_S:
            return f"stuck for {self.turn_s:.0f} s"
        return "running"


class Loop:
    """A daemon thread that calls `turn` until it is stopped, whatever `turn` raises.

    SystemExit and MemoryError end a turn, not the thread. After an error the loop pauses, longer
    after each error in a row.

    at_end: called in the thread after the last turn, so that nothing is closed under a turn
    """

    def __init__(
        self, name: str, turn: Callable[[], object], at_end: Callable[[], object] | None = None
    ) -> None:
        self.name = name
        self._turn, self._at_end = turn, at_end
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._errors = self._in_a_row = self._restarts = 0
        self._began = time.monotonic()
        self._last_error = ""

    @property
    def stopping(self) -> bool:
        """True if the loop was asked to stop."""
        return self._stopping.is_set()

    @property
    def started(self) -> bool:
        """True if the loop was started and not stopped since."""
        return self._thread is not None and not self.stopping

    @property
    def alive(self) -> bool:
        """True if the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def liveness(self) -> Liveness:
        """The present state of the thread."""
        turn_s = time.monotonic() - self._began
        return Liveness(self.alive, self._errors, self._restarts, turn_s, self._last_error)

    @property
    def last_error(self) -> str:
        """The error of the last turn, "" if it had none."""
        return self._last_error if self._in_a_row else ""

    def start(self) -> None:
        """Start the thread. Raises RuntimeError when the system gives no thread."""
        thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        thread.start()
        self._thread = thread

    def restart(self) -> None:
        """Start the thread again after it ended. Raises RuntimeError as `start` does."""
        self._restarts += 1
        self.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Ask the loop to stop and wait for its present turn, at most `timeout` seconds."""
        self._stopping.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def pause(self, seconds: float) -> None:
        """Wait, for use within a turn; returns at once when the loop is to stop."""
        self._stopping.wait(seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._began = time.monotonic()
                self._turn()
                self._in_a_row = 0
            except BaseException as error:  # SystemExit out of data, too
                self._note(error)
        if self._at_end is not None:
            self._at_end()

    def _note(self, error: BaseException) -> None:
        # Without memory, even this may fail; the next turn runs all the same.
        with contextlib.suppress(BaseException):
            self._errors += 1
            self._in_a_row += 1
            self._last_error = f"{type(error).__name__}: {error}"
            _log.error("thread_error", thread=self.name, exc_info=error)
        with contextlib.suppress(BaseException):
            self.pause(min(_LONGEST_PAUSE_S, _SHORTEST_PAUSE_S * 2 ** min(self._in_a_row, 8)))


class Watchdog:
    """Restarts loops that ended, and reports those that are stuck or cannot be started."""

    def __init__(self, loops: Iterable[Loop]) -> None:
        self._loops = tuple(loops)
        self._reported: set[str] = set()
        self._own = Loop("gixi-watchdog", self._look)

    def start(self) -> None:
        """Watch the loops from now on; those that were not started by then are left alone."""
        self._own.start()

    def add(self, loop: Loop) -> None:
        """Watch another loop."""
        self._loops += (loop,)

    def stop(self, timeout: float = 10.0) -> None:
        """Stop watching, so that the loops can be stopped."""
        self._own.stop(timeout)

    def status(self) -> dict[str, str]:
        """Return the state of each thread as text: running, stuck for … s, ended (reason)."""
        if self._own.started:
            self.check()
        loops = [loop for loop in (*self._loops, self._own) if loop.started]
        return {loop.name: str(loop.liveness) for loop in loops}

    def check(self) -> None:
        """Restart threads that have ended, once; report those that are stuck."""
        for loop in (*self._loops, self._own):
            if loop.started and not loop.alive:
                self._restart(loop)
            stuck = loop.alive and loop.liveness.turn_s > _STUCK_S
            if stuck and loop.name not in self._reported:
                self._reported.add(loop.name)
                _log.error("thread_stuck", thread=loop.name, seconds=round(loop.liveness.turn_s))
            elif not stuck:
                self._reported.discard(loop.name)

    def _restart(self, loop: Loop) -> None:
        try:
            loop.restart()
        except RuntimeError as error:
            _log.error("thread_not_restarted", thread=loop.name, error=str(error))
        else:
            _log.error("thread_restarted", thread=loop.name)

    def _look(self) -> None:
        self.check()
        self._own.pause(_LOOK_S)
