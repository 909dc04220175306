"""A thread for each derived run, so that one that waits for its store delays no other."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gixi_bluesky.callbacks.derived.publishing import RunPublisher
from gixi_bluesky.log import get_logger

__all__ = ["Ended", "HowEnded", "RunKeeper"]

_log = get_logger()

HowEnded = Literal["stored", "spooled", "lost", "failed"]


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a raw run that has a derived run.

    how: stored; spooled, which is as safe where every process sees the spool, and is followed by
        another end; lost to another writer; failed for good
    """

    run_uid: str
    how: HowEnded
    reason: str = ""


class RunKeeper(threading.Thread):
    """Steps one derived run until it is over or released.

    end: called once, on this thread, with the end of the run; before that possibly with spooled
    redelivered: the documents of a run can be read again, so that a run that was lost, or that
        the store refuses, ends at once; False = both end with their raw run, a refused one after
        some attempts and with a stop that has the reason
    """

    def __init__(
        self,
        run: RunPublisher,
        flush_s: float,
        end: Callable[[RunPublisher, Ended], None],
        *,
        redelivered: bool,
    ) -> None:
        super().__init__(name="gixi-run", daemon=True)
        self._run = run
        self._flush_s = flush_s
        self._end = end
        self._redelivered = redelivered
        self._released = threading.Event()
        self._flush = True

    def release(self, *, flush: bool) -> None:
        """Close the run, after a flush if `flush`; its end is not reported."""
        self._flush = flush
        self._released.set()

    def run(self) -> None:
        """Step the run, until it ends."""
        run, spooled = self._run, False
        while not self._released.is_set():
            self._step()
            if run.unstorable and not self._redelivered:
                run.end_unstorable()
            if (how := self._how()) is not None:
                self._close()
                reason = run.given_up or run.broken
                self._end(run, Ended(run.raw.uid, how, reason))
                return
            if run.spooled and not spooled:
                spooled = True
                self._end(run, Ended(run.raw.uid, "spooled"))
            self._released.wait(self._flush_s)
        if self._flush:
            self._step()
        self._close()

    def _step(self) -> None:
        """Step the run; errors that `step` does not catch must not end the thread either."""
        try:
            self._run.step()
        except BaseException as error:
            with contextlib.suppress(BaseException):  # no memory for a log line
                _log.error("thread_error", thread=self.name, exc_info=error)

    def _how(self) -> HowEnded | None:
        """Return the kind of the run's end, None while it goes on."""
        if self._run.settled:
            return "stored"
        if self._run.given_up and (self._redelivered or self._run.stopped):
            return "lost"
        return "failed" if self._run.broken and self._redelivered else None

    def _close(self) -> None:
        try:
            self._run.close()
        except Exception as error:  # Tiled may be gone already
            _log.warning("run_not_closed", raw_uid=self._run.raw.uid, error=repr(error))
