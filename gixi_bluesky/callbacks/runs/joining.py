"""Runs joined midway: their earlier documents are fetched from the raw catalogue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

from gixi_bluesky.callbacks.documents.budget import payload_bytes
from gixi_bluesky.callbacks.documents.document_types import Document
from gixi_bluesky.callbacks.documents.parsing import parse
from gixi_bluesky.errors import DocumentError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.clock import SYSTEM_CLOCK, Clock
from gixi_bluesky.processes.retries import Backoff
from gixi_bluesky.tiled_adapters.connection import catalogue_at, connect
from gixi_bluesky.tiled_adapters.settings import TiledSettings

__all__ = ["FoundRun", "Joining", "raw_opener"]

_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 160.0
_ATTEMPTS = 6
_NEWEST = 5
_POLL_S = 0.2
_log = get_logger()

FoundRun = list[
    tuple[Document, int]
]  # the documents of a run in Tiled, and the bytes of each in memory


def raw_opener(tiled: TiledSettings) -> Callable[[], Any] | None:
    """Return a function that opens the raw catalogue of the settings, None without a server."""
    if tiled.uri is None:
        return None
    return lambda: catalogue_at(connect(tiled), tiled.raw)


class Joining:
    """Searches for runs, descriptors and resources that documents refer to and that have not come.

    The search runs in a thread, started with the first missing uid, so that no document waits for
    Tiled.

    open_catalogue: returns a client of the raw catalogue
    """

    def __init__(self, open_catalogue: Callable[[], Any], clock: Clock = SYSTEM_CLOCK) -> None:
        self._open = open_catalogue
        self._clock = clock
        self._found: SimpleQueue[FoundRun] = SimpleQueue()
        self._wanted: SimpleQueue[str] = SimpleQueue()
        self._tried: dict[str, Backoff] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def want(self, uids: Iterable[str]) -> None:
        """Search for these uids, a few times each with growing intervals; returns at once.

        Fetching again is harmless, and a writer may hold documents back for a while.
        """
        for uid in uids:
            if uid not in self._tried:
                self._tried[uid] = Backoff(self._clock, _PAUSE_S, _LONGEST_PAUSE_S)
            tried = self._tried[uid]
            if tried.failures < _ATTEMPTS and tried.due:
                tried.failed()  # until it is found, which ends the asking
                self._wanted.put(uid)
        if self._thread is None and not self._wanted.empty():
            self._thread = threading.Thread(target=self._follow, name="gixi-joining", daemon=True)
            self._thread.start()

    def attempts(self, uid: str) -> int:
        """Return the number of searches for a uid."""
        return self._tried[uid].failures if uid in self._tried else 0

    def gave_up(self, uid: str) -> bool:
        """Return whether the last search for a uid was some time ago."""
        tried = self._tried.get(uid)
        return tried is not None and tried.failures >= _ATTEMPTS and tried.due

    def found(self) -> Iterator[FoundRun]:
        """Yield the runs that were found since the last call."""
        while not self._found.empty():
            yield self._found.get()

    def close(self) -> None:
        """Stop looking."""
        self._closing.set()

    def _follow(self) -> None:
        catalogue: Any = None
        while not self._closing.is_set():
            try:
                uid = self._wanted.get(timeout=_POLL_S)
            except Empty:
                continue
            try:
                catalogue = catalogue or self._open()
                documents = _run_with(catalogue, uid)
                _log.info("run_joined_midway", missing=uid, documents=len(documents))
                if documents:
                    self._found.put(list(_parsed(documents)))
            except (
                Exception
            ) as error:  # whatever Tiled raises, the analysis continues without the run
                _log.warning("run_not_joined", missing=uid, error=repr(error))
        if catalogue is not None and hasattr(catalogue, "context"):
            catalogue.context.close()


def _run_with(catalogue: Any, uid: str) -> list[tuple[str, Any]]:
    """Return the documents of the run of this uid, or of a newest one with such a document."""
    if uid in catalogue:
        return _documents(catalogue[uid])
    for run in reversed(list(catalogue.values().tail(_NEWEST))):
        documents = _documents(run)
        if any(doc.get("uid") == uid for _, doc in documents):
            return documents
    return []


def _documents(run: Any) -> list[tuple[str, Any]]:
    """Return what is stored, without the empty stop document of a run that goes on."""
    return [(name, doc) for name, doc in run.documents() if name != "stop" or doc.get("run_start")]


def _parsed(documents: Iterable[tuple[str, Any]]) -> Iterator[tuple[Document, int]]:
    for name, doc in documents:
        try:
            for document in parse(name, doc):
                yield document, payload_bytes(doc)
        except DocumentError as error:
            _log.warning("document_refused", reason=str(error))
