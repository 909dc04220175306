"""Spooled documents on their way to Tiled: in order, each row once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from gixi_bluesky.errors import DocumentError, RowsLostError, StoreError
from gixi_bluesky.tiled_adapters.schema import STREAMS
from gixi_bluesky.tiled_adapters.store.spool import SESSION, Record, SpoolFile
from gixi_bluesky.tiled_adapters.store.writer import DerivedRunStore, RunState

__all__ = ["Delivery", "NewStore"]

# What waits in the spool is sent a few MiB at a time: a request costs more than its rows.
_BYTES_AT_ONCE = 4 << 20

NewStore = Callable[[], DerivedRunStore]


class Delivery:
    """Sends what a spool holds to Tiled. `advance` may be repeated after any error.

    Flushes that wait are sent as one, in commit order, so that a slow server catches up. Rows of
    frames that Tiled holds already are left out and the others numbered on from there, so that a
    spool can be sent from its beginning as often as need be.
    """

    def __init__(self, spool: SpoolFile, start: Mapping[str, Any], new_store: NewStore) -> None:
        self.complete = False
        self.state = RunState(frozenset(), {})
        self.store: DerivedRunStore | None = None
        self._spool = spool
        self._start = start
        self._new_store = new_store
        self._position = 0
        self._outbox: list[tuple[str, Mapping[str, Any]]] = []
        self._tables: dict[str, str] = {}
        self._rows: dict[str, int] = {}

    @property
    def caught_up(self) -> bool:
        """Whether Tiled holds all that is spooled."""
        return self.store is not None and not self._outbox and self._position >= self._spool.size

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each table that Tiled holds."""
        return dict(self._rows)

    def advance(self) -> None:
        """Open the run if need be and send what is spooled now. Raises as DerivedRunStore does."""
        if self.store is None:
            self._open()
        until = self._spool.size
        try:
            while self._outbox or (self._position < until and self._take()):
                while self._outbox:
                    self.send(*self._outbox[0])
                    del self._outbox[0]
        except (RowsLostError, DocumentError):
            self.close()
            raise

    def send(self, name: str, doc: Mapping[str, Any]) -> None:
        """Send one document. Raises as DerivedRunStore does."""
        if self.store is None:
            message = "the run is not open in Tiled"
            raise StoreError(message)
        if name in {"start", SESSION}:
            return
        if name == "descriptor":
            self._tables[doc["uid"]] = doc["name"]
        if name == "event_page" and self._tables[doc["descriptor"]] in STREAMS:
            self._send_rows(self._tables[doc["descriptor"]], doc)
            return
        self.store(name, doc)
        self.complete = name == "stop"

    def close(self) -> None:
        """Give the run up; the next `advance` opens it again and sends from the beginning."""
        if self.store is not None:
            self.store.close()
        self.store = None

    def _open(self) -> None:
        store = self._new_store()
        self.state = store.open(self._start)
        self._rows = {stream: self.state.rows.get(stream, 0) for stream in STREAMS}
        self._position = 0
        self._outbox = []
        self.store = store

    def _take(self) -> bool:
        """Move what waits next in the spool to the outbox; say whether there was anything."""
        began = self._position
        waiting = _Flush()
        while self._position - began < _BYTES_AT_ONCE:
            record = self._spool.read(self._position)
            if record is None:
                break
            stream = self._tables.get(record.doc.get("descriptor", ""), "")
            if not waiting.take(record, stream, self.state.committed):
                if self._position == began:
                    self._position = record.end
                    self._outbox.append((record.name, record.doc))
                break
            self._position = record.end
        self._outbox += waiting.documents()
        return self._position > began

    def _send_rows(self, stream: str, page: Mapping[str, Any]) -> None:
        if self.store is None:
            return
        first, n = self._rows[stream] + 1, len(page["time"])
        timestamps = dict.fromkeys(page["data"], page["time"])
        seq_nums = list(range(first, first + n))
        self.store("event_page", {**page, "seq_num": seq_nums, "timestamps": timestamps})
        self._rows[stream] += n


class _Flush:
    """Gathers the pages and images of consecutive flushes into those of one."""

    def __init__(self) -> None:
        self._images: dict[str, Mapping[str, Any]] = {}
        self._uploads: list[Mapping[str, Any]] = []
        self._pages: dict[str, dict[str, Any]] = {}

    def take(self, record: Record, stream: str, committed: Collection[int]) -> bool:
        """Take a record of this stream if it belongs to a flush; say whether it does."""
        if record.name == "stream_datum":
            self._images[record.doc["stream_resource"]] = record.doc  # the last says how many
        elif record.name != "event_page":
            return False
        elif stream in STREAMS:
            self._merge(record, stream, committed)
        else:
            self._uploads.append(record.doc)  # their row is in the seq_num
        return True

    def documents(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the documents in commit order."""
        return [
            *(("stream_datum", doc) for doc in self._images.values()),
            *(("event_page", doc) for doc in self._uploads),
            *(("event_page", self._pages[name]) for name in STREAMS if name in self._pages),
        ]

    def _merge(self, record: Record, stream: str, committed: Collection[int]) -> None:
        """Add the rows of frames that an earlier session finished and Tiled does not hold."""
        page = record.doc
        keep = [
            k
            for k, frame in enumerate(page["data"]["frame"])
            if frame not in committed and (record.frames is None or frame in record.frames)
        ]
        if not keep:
            return
        merged = self._pages.setdefault(
            stream,
            {
                "descriptor": page["descriptor"],
                "time": [],
                "data": {name: [] for name in page["data"]},
            },
        )
        merged["time"] += [page["time"][k] for k in keep]
        for name, values in page["data"].items():
            merged["data"][name] += [values[k] for k in keep]
