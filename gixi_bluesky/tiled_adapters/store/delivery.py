"""Delivery of spooled documents to Tiled: in order, each row once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from gixi_bluesky.errors import DocumentError, RowsLostError, StoreError
from gixi_bluesky.log import get_logger
from gixi_bluesky.tiled_adapters.schema import TABLES, commit_order, is_table
from gixi_bluesky.tiled_adapters.store.spool import SESSION, Record, SpoolFile
from gixi_bluesky.tiled_adapters.store.writer import DerivedRunStore, RunState

__all__ = ["Delivery", "NewStore"]

# Spooled documents are sent a few MiB at a time: a request costs more than its rows.
_BYTES_AT_ONCE = 4 << 20

NewStore = Callable[[], DerivedRunStore]
Document = tuple[str, Mapping[str, Any]]
_log = get_logger()


class Delivery:
    """Sends what a spool holds to Tiled. `advance` may be repeated after any error.

    Flushes that wait are sent as one, in commit order, so that a slow server catches up. The
    position in the spool advances when all of them are stored; after an error they are read and
    numbered again, and the store leaves out the rows that it holds. Rows of frames that Tiled
    holds already are left out and the others numbered on from there, so that a spool can be sent
    from its beginning any number of times.
    """

    def __init__(self, spool: SpoolFile, start: Mapping[str, Any], new_store: NewStore) -> None:
        self.complete = False
        self.sent = 0
        self.state = RunState(frozenset(), {})
        self.store: DerivedRunStore | None = None
        self._spool = spool
        self._start = start
        self._new_store = new_store
        self._position = 0
        self._tables: dict[str, str] = {}
        self._resources: set[str] = set()
        self._rows: dict[str, int] = {}

    @property
    def caught_up(self) -> bool:
        """True if Tiled holds all that is spooled."""
        return self.store is not None and self._position >= self._spool.size

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each table that Tiled holds."""
        return dict(self._rows)

    def advance(self) -> None:
        """Open the run if needed and send what is spooled. Raises as DerivedRunStore does."""
        if self.store is None:
            self._open()
        until = self._spool.size
        try:
            while self._position < until:
                documents, end = self._next()
                self._send(documents)
                self._position = end
        except (RowsLostError, DocumentError):
            self.close()
            raise

    def send(self, name: str, doc: Mapping[str, Any]) -> None:
        """Send one document past the spool. Raises as DerivedRunStore does."""
        self._send([(name, doc)])

    def close(self) -> None:
        """Close the run; the next `advance` opens it again and sends from the beginning."""
        if self.store is not None:
            self.store.close()
        self.store = None

    def _open(self) -> None:
        store = self._new_store()
        self.state = store.open(self._start)
        self._rows = dict(self.state.rows)
        self._position = 0
        self.store = store

    def _next(self) -> tuple[list[Document], int]:
        """Return the next documents in the spool, and the position after them."""
        position = self._position
        waiting = _Flush()
        while position - self._position < _BYTES_AT_ONCE:
            record = self._spool.read(position)
            if record is None:
                break
            stream = self._tables.get(record.doc.get("descriptor", ""), "")
            if self._lacks_resource(record):
                _log.warning("images_without_resource", spool=self._spool.place)
                position = record.end
                continue
            if not waiting.take(record, stream, self.state.committed):
                if position == self._position:
                    return self._single(record), record.end
                break
            position = record.end
        return waiting.documents(), position

    def _lacks_resource(self, record: Record) -> bool:
        """Return whether a record announces images of a file whose own record was lost."""
        resource = record.doc.get("stream_resource")
        return record.name == "stream_datum" and resource not in self._resources

    def _single(self, record: Record) -> list[Document]:
        if record.name in {"start", SESSION}:
            return []
        if record.name == "event_page":
            _log.warning("page_without_descriptor", spool=self._spool.place)
            return []
        if record.name == "stop" and record.frames is not None and self._spool.lost_records:
            # With its stop the run could not be resumed, and frames are missing.
            uid = self._start.get("uid")
            _log.error("stop_withheld", uid=uid, lost_records=self._spool.lost_records)
            return []
        return [(record.name, record.doc)]

    def _send(self, documents: list[Document]) -> None:
        if self.store is None:
            message = "the run is not open in Tiled"
            raise StoreError(message)
        rows = dict(self._rows)
        for name, doc in documents:
            if name == "descriptor":
                self._tables[doc["uid"]] = doc["name"]
            if name == "stream_resource":
                self._resources.add(doc["uid"])
            stream = self._tables[doc["descriptor"]] if name == "event_page" else ""
            if is_table(stream):
                before = rows.get(stream, 0)
                self.store(name, _numbered(doc, before + 1))
                rows[stream] = before + len(doc["time"])
            else:
                self.store(name, doc)
            self.complete = name == "stop"
        self._rows = rows
        self.sent += len(documents)


def _numbered(page: Mapping[str, Any], first: int) -> dict[str, Any]:
    """Return a page whose rows are numbered from `first` on."""
    seq_nums = list(range(first, first + len(page["time"])))
    timestamps = dict.fromkeys(page["data"], page["time"])
    return {**page, "seq_num": seq_nums, "timestamps": timestamps}


class _Flush:
    """Gathers the pages and images of consecutive flushes into those of one."""

    def __init__(self) -> None:
        self._images: dict[str, Mapping[str, Any]] = {}
        self._uploads: list[Mapping[str, Any]] = []
        self._pages: dict[str, dict[str, Any]] = {}

    def take(self, record: Record, stream: str, committed: Collection[int]) -> bool:
        """Take a record if it belongs to a flush; return whether it does."""
        if record.name == "stream_datum":
            self._images[record.doc["stream_resource"]] = record.doc  # the last says how many
        elif record.name != "event_page" or not stream:
            return False
        elif is_table(stream):
            self._merge(record, stream, committed)
        else:
            self._uploads.append(record.doc)  # their row is in the seq_num
        return True

    def documents(self) -> list[Document]:
        """Return the documents in commit order."""
        return [
            *(("stream_datum", doc) for doc in self._images.values()),
            *(("event_page", doc) for doc in self._uploads),
            *(("event_page", self._pages[name]) for name in commit_order(self._pages)),
        ]

    def _merge(self, record: Record, stream: str, committed: Collection[int]) -> None:
        """Add the rows of frames that an earlier session finished and Tiled does not hold."""
        page = record.doc
        # What is outside the commit may belong to frames that are; the stop removes doubles.
        follows = stream in TABLES and not TABLES[stream].in_commit
        keep = [
            k
            for k, frame in enumerate(page["data"]["frame"])
            if (follows or frame not in committed)
            and (record.frames is None or frame in record.frames)
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
