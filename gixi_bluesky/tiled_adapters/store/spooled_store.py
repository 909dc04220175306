"""A store that does not wait for Tiled: documents go to the disk, a thread sends them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gixi_bluesky.errors import ClaimLostError, RunCompleteError, StoreError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.retries import Backoff
from gixi_bluesky.tiled_adapters.files.requests import Finished
from gixi_bluesky.tiled_adapters.schema import STREAMS, is_table, stored_columns
from gixi_bluesky.tiled_adapters.store.delivery import Delivery, NewStore
from gixi_bluesky.tiled_adapters.store.spool import SpoolFile, SpoolTakenError
from gixi_bluesky.tiled_adapters.store.spool_folder import SPOOL_FOLDER
from gixi_bluesky.tiled_adapters.store.writer import RunState

__all__ = ["SpooledStore"]

_PATIENCE_S = 20.0
_SPOOLS_PER_RUN = 5
_CLOSE_S = 2.0
_DISK_S = 20.0
_FIRST_PAUSE_S = 0.5
_log = get_logger()


class SpooledStore:
    """Stands in for DerivedRunStore where the caller must not wait for Tiled.

    A document is on the disk when a call returns, and a thread sends it. Only the stop waits: it
    raises StoreError until Tiled holds the whole run. When the disk refuses a spool file, the
    spool is in memory; when it refuses a document, the document goes to Tiled directly.

    A disk that does not respond is treated as one that refuses; `trouble` says so.

    shared: other machines write below the directory too; a spool that a silent one still holds
        is left to it, and another is begun
    timeout_s: how long the disk may take for one call
    """

    keeps_rows = True

    def __init__(
        self,
        new_store: NewStore,
        directory: Path,
        *,
        shared: bool = False,
        timeout_s: float = _DISK_S,
    ) -> None:
        self._new_store = new_store
        self._shared = shared
        self._timeout_s = timeout_s
        self._folder = directory.absolute() / SPOOL_FOLDER
        self.uid = ""
        self._spool: SpoolFile | None = None
        self._delivery: Delivery | None = None
        self._thread: threading.Thread | None = None
        self._turn = threading.Lock()  # held while something is sent
        self._wake = threading.Event()
        self._tried = threading.Event()
        self._closing = threading.Event()
        self._error: Exception | None = None
        self._over: StoreError | None = None
        self._spooled: dict[str, pd.DataFrame] | None = None
        self._live: dict[str, Any] | None = None
        self._stop_spooled = False
        self._ended = False
        self._unspooled: list[tuple[str, Mapping[str, Any]]] = []
        self.trouble = ""

    @property
    def stop_spooled(self) -> bool:
        """True if the whole run is on the disk, so that a later process can send it."""
        on_disk = self._spool is not None and self._spool.path is not None
        return self._stop_spooled and on_disk

    def open(self, start: Mapping[str, Any]) -> RunState:
        """Resume the run as Tiled holds it, or where Tiled is away as the spool does.

        Raises RunCompleteError, ClaimLostError, or StoreError when another process has the spool
        or Tiled hangs; when repeated after that, goes on with the delivery that was begun.
        """
        if self._delivery is None:
            self._begin(start)
        spool, delivery = self._opened()
        self._tried.wait(_PATIENCE_S)
        self._raise_over()
        try:
            spooled = _spooled_rows(spool)
        except OSError as error:
            message = f"the spool {spool.place} cannot be read: {error}"
            raise StoreError(message) from error
        frames = frozenset(spooled["frames"]["frame"].tolist())
        with self._my_turn("the run is opened"):
            if delivery.caught_up:
                self._spooled = None
                return RunState(delivery.state.committed | frames, delivery.rows)
        self._spooled = spooled
        return RunState(frames, {stream: len(rows) for stream, rows in spooled.items()})

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Spool one document; of a stop, wait until Tiled holds it."""
        self._raise_over()
        if name != "stop":
            self._append(name, doc)
            return
        if not self._stop_spooled:
            self._append(name, doc)
            self._stop_spooled = True
        self._await_complete()

    def read(self, stream: str) -> pd.DataFrame:
        """Return the rows of a table as `open` found them."""
        _, delivery = self._opened()
        if self._spooled is not None:
            return self._spooled[stream]
        with self._my_turn(f"the rows of {stream} are read"):
            if delivery.store is None:
                message = f"Tiled is away while the rows of {stream} are read"
                raise StoreError(message)
            return delivery.store.read(stream)

    def refresh_live(self, summary: Mapping[str, Any]) -> None:
        """Send the running summary when there is nothing else to send."""
        self._raise_over()
        self._live = dict(summary)
        self._wake.set()

    def serves(self, uid: str, finished: Finished | None) -> bool:
        """Return True when Tiled serves the images of a run from its finished file."""
        try:
            return self._new_store().serves(uid, finished)
        except StoreError:
            return False

    def close(self) -> None:
        """Stop sending; what Tiled does not hold yet is sent by the next process."""
        if self._spool is None or self._delivery is None:
            return
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=_CLOSE_S)
        # Where the thread still waits for an answer of Tiled, it ends the delivery when that came.
        if self._turn.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._turn.release()
            self._spool = None

    def _end(self) -> None:
        """Give the run up and put the spool away, once; with the turn held."""
        if self._ended or self._spool is None or self._delivery is None:
            return
        self._ended = True
        done = self._delivery.complete or self._delivery.caught_up
        self._delivery.close()
        # Documents that the disk cannot remove now are sent again; Tiled leaves out doubles.
        with contextlib.suppress(OSError):
            _put_away(self._spool, sent=done or isinstance(self._over, RunCompleteError))

    def _begin(self, start: Mapping[str, Any]) -> None:
        """Open the spool and begin to send it. Raises StoreError when another process has it."""
        self.uid = start["uid"]
        try:
            self._spool = self._new_spool(start)
        except OSError as error:
            self.trouble = f"{self._folder}: {error}; documents wait in memory for Tiled"
            _log.error("spooled_in_memory", folder=str(self._folder), error=str(error))
            self._spool = SpoolFile(None, start)
        self._delivery = Delivery(self._spool, start, self._new_store)
        self._thread = threading.Thread(target=self._deliver, name="gixi-delivery", daemon=True)
        self._thread.start()

    def _new_spool(self, start: Mapping[str, Any]) -> SpoolFile:
        names = [f"{self.uid}.spool"]
        if self._shared:
            names += [f"{self.uid}-{number}.spool" for number in range(2, _SPOOLS_PER_RUN + 1)]
        for name in names[:-1]:
            with contextlib.suppress(SpoolTakenError):
                return SpoolFile(self._folder / name, start, timeout_s=self._timeout_s)
        return SpoolFile(self._folder / names[-1], start, timeout_s=self._timeout_s)

    def _append(self, name: str, doc: Mapping[str, Any]) -> None:
        spool, delivery = self._opened()
        try:
            while self._unspooled:
                spool.append(*self._unspooled[0])
                del self._unspooled[0]
            spool.append(name, doc)
        except OSError as error:
            self._send_past(spool, delivery, name, doc, error)
        else:
            if spool.path is not None:
                self.trouble = ""
        self._wake.set()

    def _send_past(
        self,
        spool: SpoolFile,
        delivery: Delivery,
        name: str,
        doc: Mapping[str, Any],
        error: OSError,
    ) -> None:
        """Send a document that the disk refuses; what others refer to is spooled later, too."""
        refuses = f"the spool {spool.place} refuses: {error}"
        with self._my_turn(refuses):
            if not delivery.caught_up:
                message = f"Tiled is away and {refuses}"
                raise StoreError(message) from error
            if not self.trouble:
                _log.warning("sent_past_the_spool", path=spool.place, error=str(error))
            self.trouble = f"{refuses}; documents go to Tiled directly"
            delivery.send(name, doc)
        if name in {"descriptor", "stream_resource"}:
            self._unspooled.append((name, doc))

    @contextlib.contextmanager
    def _my_turn(self, meanwhile: str) -> Iterator[None]:
        """Hold the turn; StoreError when the delivery holds it for long."""
        if not self._turn.acquire(timeout=_PATIENCE_S):
            message = f"the delivery hangs for {_PATIENCE_S:g} s, while {meanwhile}"
            raise StoreError(message)
        try:
            yield
        finally:
            self._turn.release()

    def _await_complete(self) -> None:
        spool, delivery = self._opened()
        deadline = time.monotonic() + _PATIENCE_S
        while not delivery.complete and self._error is None and time.monotonic() < deadline:
            self._raise_over()
            time.sleep(0.02)
        if not delivery.complete:
            message = f"the run waits in {spool.place} for Tiled: {self._error or 'it is slow'}"
            raise StoreError(message)

    def _opened(self) -> tuple[SpoolFile, Delivery]:
        if self._spool is None or self._delivery is None:
            message = "the run is not open; call open(start) first"
            raise StoreError(message)
        return self._spool, self._delivery

    def _raise_over(self) -> None:
        if self._over is not None:
            raise self._over

    def _deliver(self) -> None:
        """Delivery thread: send what is spooled until it is over or closed."""
        self._send_all()
        if self._closing.is_set():
            with self._turn:
                self._end()

    def _send_all(self) -> None:
        """Send; after a failure wait, longer each time."""
        retry = Backoff(first_s=_FIRST_PAUSE_S)
        while not self._closing.is_set():
            self._wake.clear()
            try:
                with self._turn:
                    self._advance()
                retry.succeeded()
                self._error = None
            except (ClaimLostError, RunCompleteError) as error:
                self._over = error
                self._tried.set()
                return
            except Exception as error:  # any error of a store is followed by a retry
                self._error = error
                self._pause(retry.failed(), error)
                continue
            self._tried.set()
            self._wake.wait()

    def _advance(self) -> None:
        _, delivery = self._opened()
        delivery.advance()
        live, self._live = self._live, None
        if live is not None and delivery.store is not None and not delivery.complete:
            delivery.store.refresh_live(live)

    def _pause(self, pause: float, error: Exception) -> None:
        spool, _ = self._opened()
        log = _log.bind(spool=spool.place, error=str(error), retry_in_s=pause)
        log.warning("tiled_refused", exc_info=None if isinstance(error, StoreError) else error)
        self._tried.set()
        self._closing.wait(pause)


def _put_away(spool: SpoolFile, *, sent: bool) -> None:
    if sent:
        spool.remove()
    else:
        spool.close()


def _spooled_rows(spool: SpoolFile) -> dict[str, pd.DataFrame]:
    """Return the finished rows of each table that earlier sessions spooled."""
    names: dict[str, str] = {}
    pages: dict[str, list[pd.DataFrame]] = {stream: [] for stream in STREAMS}
    for record in spool.records():
        if record.name == "descriptor":
            names[record.doc["uid"]] = record.doc["name"]
        elif record.name == "event_page" and record.frames is not None:
            stream = names.get(record.doc["descriptor"], "")
            if is_table(stream):
                rows = pd.DataFrame(record.doc["data"])
                pages.setdefault(stream, []).append(rows[rows["frame"].isin(list(record.frames))])
    return {
        stream: pd.concat(found, ignore_index=True) if found else _no_rows(stream)
        for stream, found in pages.items()
    }


def _no_rows(stream: str) -> pd.DataFrame:
    return pd.DataFrame(columns=[column.name for column in stored_columns(stream)])
