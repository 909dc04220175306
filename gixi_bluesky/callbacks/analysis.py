"""The analysis beside a scan: documents in, derived runs out, and the scan never waits."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self

from gixi_bluesky.callbacks.core import AnalysisCore
from gixi_bluesky.callbacks.derived.attempts import Attempts, first_attempt
from gixi_bluesky.callbacks.derived.folds import FoldBuilder
from gixi_bluesky.callbacks.derived.stores import RunStore, store_builder
from gixi_bluesky.callbacks.documents.budget import payload_bytes
from gixi_bluesky.callbacks.documents.inbox import Inbox
from gixi_bluesky.callbacks.documents.parsing import parse
from gixi_bluesky.callbacks.settings import AnalysisConfig
from gixi_bluesky.callbacks.worker.leaving import close_at_exit, closed, wait_for_frames
from gixi_bluesky.callbacks.worker.pool import PIPELINE
from gixi_bluesky.errors import DocumentError, StoreError
from gixi_bluesky.log import get_logger
from gixi_bluesky.plurals import counted
from gixi_bluesky.processes.loops import Loop

__all__ = ["Analysis"]

_MIB = 1 << 20
_SMALLEST_SPARE_BYTES = 1 << 20  # some 200 events: one that is refused leaves no row
_POLL_S = 0.05
_DRAIN_POLL_S = 0.02
_log = get_logger()


class Analysis:
    """Takes Bluesky documents and stores one derived run for each raw run that is chosen.

    The caller's thread only puts documents into a queue, from which a thread feeds the core; the
    arrays in them must not be changed afterwards, as Bluesky's documents never are.

    config: the package's Config, or anything with the same parts
    tiled: a Tiled client of the catalogue for derived runs; None = as `config.tiled` says
    store: builds the store of one derived run, instead of Tiled
    factory: "module:name" of what builds the pipeline in the analysis process
    raw: opens the catalogue of raw runs, for runs joined midway; None = as `config.tiled` says
    folds: builds what looks back over the frames of a run
    attempts: chooses between the stored analysis of a run and another one

    Raises what a wrong set-up raises, and ConfigError for a second analysis with the same result
    hash, stream and data key.
    """

    def __init__(
        self,
        config: AnalysisConfig,
        tiled: Any = None,
        *,
        store: Callable[[], RunStore] | None = None,
        factory: str = PIPELINE,
        raw: Callable[[], Any] | None = None,
        folds: FoldBuilder | None = None,
        attempts: Attempts | None = None,
    ) -> None:
        store = store or store_builder(config, tiled)
        attempt = first_attempt if attempts is None else attempts.choose
        self._core = AnalysisCore(
            config, store, factory=factory, raw=raw, folds=folds, attempt=attempt
        )
        self._inbox = Inbox(int(config.queue.max_mib * _MIB), _SMALLEST_SPARE_BYTES)
        self._lost: list[str] = []
        self._closing = threading.Event()
        self._on_close: list[Callable[[], object]] = []
        self._exit_wait_s: float = config.queue.exit_wait_s
        self._tiled_uri: str | None = config.tiled.uri
        self._owner = os.getpid()
        self._loop = Loop("gixi-documents", self._follow)
        self._loop.start()
        self._core.watch(self._loop)
        close_at_exit(self)

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take one document; returns at once and never raises."""
        if not self._closing.is_set():
            self._inbox.put(name, doc)

    def feed(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take one document, and wait first while there is no room; for callers that can wait."""
        while (self._inbox.full or self._core.queue.full) and not self._closing.is_set():
            time.sleep(_DRAIN_POLL_S)
        self(name, doc)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until every run that has stopped is stored and its frames are counted: True.

        Raises TimeoutError with what is outstanding, StoreError when a run was given up.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            outstanding = self._outstanding()
            self._note_ended()
            if self._lost:
                raise StoreError(self._lost.pop(0))
            if not outstanding:
                return True
            if deadline is not None and time.monotonic() > deadline:
                message = f"after {timeout:g} s still outstanding: {outstanding}"
                raise TimeoutError(message)
            if self._closing.is_set():
                message = f"the analysis was closed with this outstanding: {outstanding}"
                raise TimeoutError(message)
            time.sleep(_DRAIN_POLL_S)

    def status(self) -> dict[str, Any]:
        """Return the state of frames, queue, analysis process and runs, and the last error."""
        status, refused = self._core.status(), self._inbox.refused
        status |= {"documents_queued": len(self._inbox)}
        if refused:
            status["documents_refused"] += refused
            status["last_error"] = status["last_error"] or f"{refused} documents found no room"
        return status

    def close(self, wait: float = 0.0) -> None:
        """Stop; what is not stored can be resumed by sending the same documents again.

        wait: seconds to wait for frames and runs that are not stored; 0 = stop at once
        """
        if self._closing.is_set() or self._owner != os.getpid():
            return  # a forked child of the scan closes nothing: its parent does
        for undo in self._on_close:
            with contextlib.suppress(Exception):  # the engine may be gone already
                undo()
        if wait > 0 and self._unfinished():
            wait_for_frames(self._unfinished, wait, self._rest)
        if unfinished := self._unfinished():
            _log.warning("closed_with_frames_outstanding", outstanding=unfinished)
        self._closing.set()
        self._loop.stop()
        self._core.close()
        closed(self)

    @property
    def result_hash(self) -> str:
        """Hash of what decides the results."""
        return self._core.result_hash

    @property
    def exit_wait_s(self) -> float:
        """Longest wait for unfinished frames when Python exits, s."""
        return self._exit_wait_s

    def on_close(self, undo: Callable[[], object]) -> None:
        """Register `undo`, which is called when this analysis closes."""
        self._on_close.append(undo)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _outstanding(self) -> str:
        """Describe what is not stored of the runs that have stopped; "" = nothing."""
        if documents := len(self._inbox):
            return counted(documents, "document")
        runs = [run for run in self._core.runs if run.stopped and not run.settled]
        if not runs:
            return ""
        status = self._core.status()
        errors = {run.last_error for run in runs if run.last_error} | {status["last_error"]}
        why = "; ".join(sorted(error for error in errors if error))
        frames = (
            f"{counted(len(runs), 'run')} with {counted(status['frames_queued'], 'frame')} queued"
        )
        return f"{frames} ({why})" if why else frames

    def _unfinished(self) -> str:
        """Describe what is not stored, also of runs that go on; "" = nothing."""
        frames = self._core.status()["frames_queued"]
        return self._outstanding() or (counted(frames, "frame") if frames else "")

    def _rest(self) -> str:
        """Return the command that analyses what is not stored."""
        uids = " ".join(run.raw.uid for run in self._core.runs if not run.settled)
        uri = self._tiled_uri or "TILED_URI"
        return f"gixi-bluesky reprocess {uri} {uids or 'RAW_UID'} --config FILE"

    def _follow(self) -> None:
        """Turn documents into frames, on the documents' thread; must not block on anything else."""
        taken = self._inbox.take(_POLL_S)
        if taken is None:
            self._guarded(self._core.tick)
            self._join()
            self._note_ended()
            return
        try:
            self._guarded(partial(self._route, *taken))
            self._guarded(self._core.tick)
            self._join()
        finally:
            self._inbox.done()

    def _route(self, name: str, doc: Mapping[str, Any]) -> None:
        self._core.route(parse(name, doc), payload_bytes(doc))

    def _join(self) -> None:
        """Take the fetched beginnings of runs that were joined midway."""
        for found in self._core.fetched():
            self._guarded(partial(self._core.join, found))

    def _guarded(self, take: Callable[[], None]) -> None:
        """Run `take`; an unusable document is counted and must not end the thread."""
        try:
            take()
        except DocumentError as error:
            self._core.refused(error)
        except BaseException as error:  # an object in a document may raise SystemExit
            _log.exception("document_failed")
            self._core.refused(DocumentError(repr(error)))

    def _note_ended(self) -> None:
        self._lost += [ended.reason for ended in self._core.ended() if ended.how == "lost"]
