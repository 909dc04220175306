"""Calls of a file system that may hang, made on a thread of their own."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

__all__ = ["DiskThread"]

T = TypeVar("T")


class _GivenUpError(Exception):
    """The caller of a call waited long enough."""


class _Call:
    """A call that ends, or that its caller gives up; `late` takes what it returns after that."""

    def __init__(self, function: Callable[[], Any], late: Callable[[Any], object]) -> None:
        self._function = function
        self._late = late
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._given_up = False
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        with self._lock:
            if self._given_up:
                return
        try:
            self._result = self._function()
        except BaseException as error:  # it belongs to the caller
            self._error = error
        with self._lock:
            late = self._given_up
            self._ended.set()
        if late and self._error is None:
            with contextlib.suppress(Exception):
                self._late(self._result)

    def result(self, timeout: float) -> Any:
        """Return the result or raise the error. Raises _GivenUpError when there is neither."""
        if not self._ended.wait(timeout):
            with self._lock:
                self._given_up = not self._ended.is_set()
            if self._given_up:
                raise _GivenUpError
        if self._error is not None:
            raise self._error
        return self._result


class DiskThread:
    """Makes the calls of one file one after another, so that a frozen disk blocks this thread only.

    A call that has begun cannot be taken back: until it ends, further calls are refused at once.
    The thread starts with the first call and may be used by several threads.

    name: of the thread
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._given_up_since: float | None = None

    @property
    def hangs_s(self) -> float:
        """Seconds since the call began that was given up and has not ended; 0 = there is none."""
        since = self._given_up_since
        return 0.0 if since is None else time.monotonic() - since

    def call(
        self,
        function: Callable[[], T],
        timeout: float,
        late: Callable[[T], object] = lambda _: None,
    ) -> T:
        """Return what `function` returns. Raises what it raises, TimeoutError (an OSError) if late.

        late: called with the result, on that thread, when the caller has given up
        """
        if self._given_up_since is not None:
            raise self._no_answer()
        call = _Call(function, late)
        began = time.monotonic()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        self._calls.put(call)
        try:
            result: T = call.result(timeout)
        except _GivenUpError:
            self._given_up_since = began
            # It may have ended meanwhile, and found nothing to clear.
            self._calls.put(_Call(self._answered, lambda _: None))
            raise self._no_answer() from None
        return result

    def end(self, last: Callable[[], object] = lambda: None, timeout: float = 1.0) -> None:
        """Call `last` after all other calls, then end the thread; wait for that, not longer.

        `last` is called here if there was no call. What it raises is dropped.
        """
        with self._lock:
            thread = self._thread
        if thread is None:
            last()
            return
        self._calls.put(_Call(last, lambda _: None))
        self._calls.put(None)
        if self._given_up_since is None:
            thread.join(timeout)

    def _answered(self) -> None:
        self._given_up_since = None

    def _no_answer(self) -> TimeoutError:
        return TimeoutError(f"the disk has not responded for {max(self.hangs_s, 0.1):.0f} s")

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call.run()
