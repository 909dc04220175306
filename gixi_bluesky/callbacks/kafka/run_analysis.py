"""The analysis of a stream of messages: nothing is dropped, and who feeds it can wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Literal

from gixi_bluesky.callbacks.analysis import Analysis
from gixi_bluesky.callbacks.derived.publishing import RunPublisher
from gixi_bluesky.callbacks.derived.writing import Echo
from gixi_bluesky.callbacks.documents.parsing import Document, RunStop, parse
from gixi_bluesky.callbacks.runs.joining import FoundRun
from gixi_bluesky.callbacks.runs.raw_run import Action, RawRun, RunOpened
from gixi_bluesky.callbacks.worker.frame_queue import FrameQueue
from gixi_bluesky.errors import DocumentError
from gixi_bluesky.log import get_logger

__all__ = ["Ended", "StreamAnalysis"]

_MISSED_S = 2.0
_CLOSING_RUNS = 12  # each beats and writes: a backlog of short runs would drown a slow server
_JOIN_S = 0.1
_log = get_logger()

How = Literal["stored", "spooled", "lost", "failed"]


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a raw run that had a derived one.

    how: stored; spooled, which is as good where all see the spool; lost to another writer;
        failed for good
    """

    run_uid: str
    how: How
    reason: str = ""


class StreamAnalysis(Analysis):
    """Takes documents on the caller's thread, who looks at `full` and pauses.

    Each derived run has a thread of its own, so that one that waits for its writer or its server
    holds up no other.

    echo: returns what tells others of the derived documents of a raw run, None = nobody is told
    trusts_spool: a run that is wholly spooled is as safe as one that is stored
    Other arguments and errors as of Analysis.
    """

    def __init__(
        self,
        config: Any,
        *,
        echo: Callable[[str], Echo | None] = lambda _: None,
        trusts_spool: bool = False,
        **more: Any,
    ) -> None:
        self._echo = echo
        self._trusts_spool = trusts_spool
        self._ended: SimpleQueue[Ended] = SimpleQueue()
        self._keepers: dict[str, _Keeper] = {}
        self._begun: set[str] = set()
        super().__init__(config, **more)

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take one document. Raises DocumentError."""
        self.route(parse(name, doc))

    def route(self, documents: Iterable[Document], nbytes: int = 0) -> None:
        """Take parsed documents. Raises DocumentError when one cannot be used."""
        self._act_on(self._router.route(documents, nbytes))

    def join(self, found: FoundRun) -> None:
        """Take what was found of a run that began before us. Raises DocumentError."""
        self._act_on(self._router.join(found))

    def _act_on(self, actions: Iterator[Action]) -> None:
        try:
            for action in actions:
                self._act(action)
        except DocumentError:
            raise
        except Exception as error:  # one strange document must not end the analysis
            _log.exception("document_failed")
            message = f"the document cannot be used: {type(error).__name__}: {error}"
            raise DocumentError(message) from error

    def tick(self) -> None:
        """Release frames that waited long enough for their event."""
        for action in self._router.tick():
            self._act(action)

    def joined(self) -> Iterator[FoundRun]:
        """Ask for runs that began before us, and yield those that were found, for `join`."""
        if self._joining is not None:
            self._joining.want(self._router.missed(_MISSED_S))
            yield from self._joining.found()

    def awaited(self) -> frozenset[str]:
        """Return the runs, descriptors and resources that documents wait for, not in vain."""
        joining = self._joining
        if joining is None:
            return frozenset()
        return frozenset(uid for uid in self._router.awaited if not joining.gave_up(uid))

    def forget_waiting(self, uids: Iterable[str]) -> None:
        """Forget documents that wait for these, as their next owner reads them himself."""
        self._router.forget_waiting(uids)

    def follows(self, run_uid: str) -> bool:
        """Say whether a raw run goes on here, or has a derived run whose end was not told yet."""
        return run_uid in self._router.open_runs or self.has(run_uid)

    @property
    def full(self) -> bool:
        """Whether so many frames, or runs that have stopped, wait that no more should come."""
        return self._queue.full or self._closing_runs() > _CLOSING_RUNS

    @property
    def roomy(self) -> bool:
        """Whether a caller who paused may go on."""
        return self._queue.roomy and self._closing_runs() <= _CLOSING_RUNS / 2

    def _closing_runs(self) -> int:
        """Return how many runs have stopped and are not safe."""
        runs = list(self._runs.values())
        return sum(run.stopped and not (self._trusts_spool and run.spooled) for run in runs)

    @property
    def busy(self) -> int:
        """Frames that are being analysed."""
        return self._worker.busy

    def has(self, run_uid: str) -> bool:
        """Say whether a raw run has a derived run whose end was not told yet."""
        return run_uid in self._begun

    def ended(self) -> Iterator[Ended]:
        """Yield the runs that ended since the last call."""
        while not self._ended.empty():
            ended = self._ended.get()
            if ended.how != "spooled":
                self._begun.discard(ended.run_uid)
            yield ended

    def abandon(self, run_uid: str, silent_s: float) -> None:
        """End a run that will never get its stop, if anything of it was wanted."""
        if run_uid not in self._router.open_runs:
            return
        reason = f"abandoned: nothing came for {silent_s:.0f} s and there was no stop"
        stop = RunStop(run_uid, time.time(), "abort", reason, {}, abandoned=True)
        self.route((stop,))

    def release(
        self,
        run_uids: Iterable[str],
        timeout: float,
        *,
        flush: bool = True,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Give runs up where they are, so that another owner can go on; wait `timeout` seconds.

        flush: what is analysed is stored first
        meanwhile: called again and again while waiting
        """
        keepers = []
        for uid in run_uids:
            self._router.forget(uid)
            self._queue.discard(uid)
            self._begun.discard(uid)
            if (keeper := self._keepers.pop(uid, None)) is not None:
                keeper.release(flush=flush)
                keepers.append(keeper)
            self._runs.pop(uid, None)
        deadline = time.monotonic() + timeout
        for keeper in keepers:
            while keeper.is_alive() and time.monotonic() < deadline:
                keeper.join(_JOIN_S)
                meanwhile()

    def leave_alone(self, run_uid: str) -> None:
        """Give a run up for good; what still comes of it is left alone."""
        self.release([run_uid], 0.0, flush=False)
        self._router.ignore(run_uid)

    def drop_waiting(self) -> None:
        """Forget frames that nobody has begun with; whoever reads on gets them again."""
        self._queue.discard()

    def close(self) -> None:
        """Stop at once; what is not stored can be resumed by the same documents again."""
        self.release(list(self._runs), timeout=10.0, flush=False)
        super().close()

    def _act(self, action: Action) -> None:
        try:
            super()._act(action)
        except Exception as error:
            if not isinstance(action, RunOpened):
                raise
            _log.exception("run_not_opened", raw_uid=action.raw.uid)
            self._begun.add(action.raw.uid)
            self._ended.put(Ended(action.raw.uid, "failed", f"{type(error).__name__}: {error}"))

    def _new_queue(self) -> FrameQueue:
        return FrameQueue(self._config.queue, self._drop, fed=True)

    def _new_threads(self) -> list[threading.Thread]:
        return []

    def _new_run(self, raw: RawRun) -> RunPublisher:
        run = self._publisher(raw, renew=self._new_store, echo=self._echo(raw.uid))
        self._begun.add(raw.uid)
        self._keepers[raw.uid] = _Keeper(run, self._config.output.flush_s, self._end)
        self._keepers[raw.uid].start()
        return run

    def _end(self, run: RunPublisher, how: How) -> None:
        """Take note, on its keeper's thread, of what became of a run."""
        uid = run.raw.uid
        if how == "spooled" and not self._trusts_spool:
            return
        if how != "spooled":
            if self._runs.get(uid) is not run:
                return  # released meanwhile
            del self._runs[uid]
            self._keepers.pop(uid, None)
            self._count("runs_closed")
        self._ended.put(Ended(uid, how, run.broken or run.given_up))


class _Keeper(threading.Thread):
    """Steps one derived run until it is over or released."""

    def __init__(
        self,
        run: RunPublisher,
        flush_s: float,
        end: Callable[[RunPublisher, How], None],
    ) -> None:
        super().__init__(name="gixi-run", daemon=True)
        self._run = run
        self._flush_s = flush_s
        self._end = end
        self._released = threading.Event()
        self._flush = True

    def release(self, *, flush: bool) -> None:
        """Have the run flushed, if asked, and closed."""
        self._flush = flush
        self._released.set()

    def run(self) -> None:
        run, spooled = self._run, False
        while not self._released.is_set():
            run.step()
            if run.settled or run.given_up or run.broken:
                self._close()
                self._end(run, _how(run))
                return
            if run.spooled and not spooled:
                spooled = True
                self._end(run, "spooled")
            self._released.wait(self._flush_s)
        if self._flush:
            run.step()
        self._close()

    def _close(self) -> None:
        try:
            self._run.close()
        except Exception as error:  # Tiled may be gone already
            _log.warning("run_not_closed", raw_uid=self._run.raw.uid, error=repr(error))


def _how(run: RunPublisher) -> How:
    if run.settled:
        return "stored"
    return "lost" if run.given_up else "failed"
