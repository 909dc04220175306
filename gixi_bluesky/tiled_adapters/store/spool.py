"""The documents of one derived run on this machine's disk, until Tiled has them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gixi_bluesky.errors import StoreError
from gixi_bluesky.processes.disk_thread import DiskThread
from gixi_bluesky.tiled_adapters.store.spool_folder import open_private, set_aside
from gixi_bluesky.tiled_adapters.store.spool_records import (
    FramedRecord,
    is_cut_off,
    next_record,
    packed_record,
)

__all__ = ["SESSION", "Record", "SpoolFile", "SpoolTakenError"]

SESSION = "session"
_MEMORY_BYTES = 64 << 20  # of a spool that the disk refused
_RECENT_BYTES = 2 << 20  # as they lie in the file
# Damage to what other records refer to must not cost what follows. Three copies: damage where two
# of them meet leaves the third.
_COPIED = frozenset({"start", SESSION, "descriptor", "stream_resource"})
_COPIES = 3


@dataclass(frozen=True, slots=True)
class Record:
    """One document, and where the next one begins.

    frames: of an earlier writer session, the frames it had finished; None = of this session
    """

    name: str
    doc: dict[str, Any]
    end: int
    frames: Collection[int] | None


class SpoolTakenError(StoreError):
    """Another process writes this spool, or sends it."""


class SpoolFile:
    """An append-only file of documents, each on the disk (fsync) before `append` returns.

    One process has it at a time: raises SpoolTakenError while another does, OSError when the disk
    refuses or does not respond. A record that a crash cut off is forgotten. Damaged bytes are
    skipped; the frames of a flush that lost a record count as not done, and the file is set aside
    instead of removed.
    `append` and `read` may be called from different threads.

    path: None = in memory, at most 64 MiB, for a disk that refuses
    timeout_s: how long the disk may take for one call
    """

    def __init__(
        self,
        path: Path | None,
        start: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = 20.0,
    ) -> None:
        self.path = path
        self.lost_bytes = 0
        self.lost_records = 0
        self.size = 0
        self._timeout_s = timeout_s
        self._file = -1
        self._lock = threading.Lock()
        self._end = 0
        self._serial = 0
        self._flush = 0
        self._tables: dict[str, str] = {}
        self._sessions: list[tuple[int, frozenset[int]]] = []
        # What was appended last is read without the disk, which may hang by then.
        self._recent: dict[int, FramedRecord] = {}
        self._recent_bytes = 0
        self._disk = DiskThread("gixi-spool")
        try:
            self._disk.call(partial(self._open, start), timeout_s, late=self._close_late)
        except BaseException:
            self._disk.end()
            raise

    @property
    def place(self) -> str:
        """Location of the documents, for messages."""
        return "memory" if self.path is None else str(self.path)

    @property
    def damaged(self) -> bool:
        """True if bytes of the file could not be read as records."""
        return self.lost_bytes > 0

    def append(self, name: str, doc: Mapping[str, Any]) -> None:
        """Add a document. Raises OSError and leaves the file as it was when the disk refuses."""
        lean = _lean(doc) if name == "event_page" else dict(doc)
        with self._lock:
            record = self._packed(name, lean)
            # A record that arrives after its time was sent by other ways: it is taken back.
            self._disk.call(partial(self._write, record), self._timeout_s, late=self._cut_off)
            self._count(name, lean, len(record))

    def read(self, position: int) -> Record | None:
        """Return the first document at or after `position`; None at the end. Raises OSError."""
        if position >= self.size:
            return None
        recent = self._recent.get(position)
        if recent is not None:
            record, end = recent, recent.end
        else:
            found = self._disk.call(partial(self._next, position), self._timeout_s)
            if found is None:
                return None
            record, end, _ = found
        frames = next((done for until, done in self._sessions if record.begin < until), None)
        doc = _full(record.doc) if record.name == "event_page" else record.doc
        return Record(record.name, doc, end, frames)

    def records(self) -> Iterator[Record]:
        """Iterate over all documents."""
        position = 0
        while (record := self.read(position)) is not None:
            yield record
            position = record.end

    @property
    def start(self) -> dict[str, Any] | None:
        """The run's start document; None when nothing is left of it."""
        for record in self.records():
            if record.name == "start":
                return record.doc
            if record.name == SESSION and isinstance(record.doc.get("start"), dict):
                return dict(record.doc["start"])
        return None

    def close(self) -> None:
        """Release the file for other processes."""
        self._disk.end(partial(os.close, self._file))

    def remove(self) -> None:
        """Delete the file, which Tiled holds now; a damaged one is set aside. Raises OSError."""
        if self.damaged:
            self.set_aside(f"{self.lost_bytes} bytes of it cannot be read")
            return
        try:
            if self.path is not None:
                unlink = partial(self.path.unlink, missing_ok=True)
                self._disk.call(unlink, self._timeout_s)
        finally:
            self.close()

    def set_aside(self, reason: str) -> None:
        """Move the file to the folder of damaged spools and close it. Raises OSError."""
        try:
            if self.path is not None:
                self._disk.call(partial(set_aside, self.path, reason), self._timeout_s)
        finally:
            self.close()

    def _open(self, start: Mapping[str, Any] | None) -> None:
        """Open the file, on the disk's thread."""
        path = self.path
        self._file = os.memfd_create("gixi-spool") if path is None else open_private(path)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._scan()
            if start is not None:
                first = [("start", start)] if not self.size else []
                for name, doc in (*first, (SESSION, {"start": dict(start)})):
                    record = self._packed(name, doc)
                    self._write(record)
                    self._count(name, doc, len(record))
        except BlockingIOError as error:
            os.close(self._file)
            message = f"{path} is being sent or written by another process; trying again later"
            raise SpoolTakenError(message) from error
        except BaseException:
            os.close(self._file)
            raise

    def _close_late(self, _: object) -> None:
        os.close(self._file)

    def _packed(self, name: str, doc: Mapping[str, Any]) -> bytes:
        record = packed_record(self._serial, self._flush, name, doc)
        record = record * _COPIES if name in _COPIED else record
        if self.path is None and self._end + len(record) > _MEMORY_BYTES:
            message = f"a spool in memory holds at most {_MEMORY_BYTES >> 20} MiB"
            raise OSError(message)
        return record

    def _write(self, record: bytes) -> None:
        try:
            written = os.pwrite(self._file, record, self._end)
            if written < len(record):
                message = f"only {written} of {len(record)} bytes fit on the disk"
                raise OSError(message)
            os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                self._cut_off()
            raise

    def _cut_off(self, _: object = None) -> None:
        os.ftruncate(self._file, self._end)

    def _count(self, name: str, doc: Mapping[str, Any], nbytes: int) -> None:
        begin, self._end = self._end, self._end + nbytes
        self._recent[begin] = FramedRecord(
            self._serial, self._flush, name, dict(doc), begin, self._end
        )
        self._recent_bytes += nbytes
        while self._recent_bytes > _RECENT_BYTES:
            oldest = self._recent.pop(next(iter(self._recent)))
            self._recent_bytes -= oldest.end - oldest.begin
        self._serial += 1
        self._note(name, doc)
        self.size = self._end

    def _next(self, position: int) -> tuple[FramedRecord, int, int] | None:
        """Return the next record, where the one behind its copies begins, and damaged bytes."""
        if position >= self.size:
            return None
        record = next_record(self._file, position, self.size)
        if record is None:
            return None
        end, damaged = record.end, record.begin - position
        if record.name in _COPIED:
            for _ in range(_COPIES - 1):
                after = next_record(self._file, end, self.size)
                if after is None or after.serial != record.serial:
                    break
                damaged += after.begin - end
                end = after.end
        return record, end, damaged

    def _scan(self) -> None:
        """Find the end, the damage, and which frames each session had finished."""
        length = os.fstat(self._file).st_size
        done: set[int] = set()
        last_lost = -1
        self.size = length
        position = 0
        while (found := self._next(position)) is not None:
            record, end, damaged = found
            self.lost_bytes += damaged
            if (missing := record.serial - self._serial) > 0:
                self.lost_records += missing
                last_lost = record.serial - 1
            if record.name == "event_page" and record.doc.get("descriptor") not in self._tables:
                # The table of its rows is unknown: its frames must be analysed again.
                self.lost_records += 1
                last_lost = record.serial
            if record.name == SESSION:
                self._sessions.append((record.begin, frozenset(done)))
                done = set()
            elif self._is_frames(record) and record.flush > last_lost:
                done.update(record.doc["data"].get("frame", ()))
            self._serial = record.serial + 1
            self._note(record.name, record.doc)
            position = end
        self._sessions.append((position, frozenset(done)))
        self.size = self._end = position
        self._flush = self._serial
        if position == length:
            return
        if is_cut_off(self._file, position, length):
            os.ftruncate(self._file, position)
        else:
            self.lost_bytes += length - position
            self._end = length

    def _is_frames(self, record: FramedRecord) -> bool:
        if record.name != "event_page" or not isinstance(record.doc.get("data"), dict):
            return False
        return self._tables.get(record.doc.get("descriptor", "")) == "frames"

    def _note(self, name: str, doc: Mapping[str, Any]) -> None:
        """Record the name of a table; a page of `frames` ends a flush."""
        if name == "descriptor":
            self._tables[doc.get("uid", "")] = doc.get("name", "")
        elif name in {"start", SESSION} or self._tables.get(doc.get("descriptor", "")) == "frames":
            self._flush = self._serial


def _lean(page: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of a page what follows from the rest; it is nine tenths of it."""
    return {key: page[key] for key in ("descriptor", "seq_num", "time", "data")}


def _full(page: dict[str, Any]) -> dict[str, Any]:
    return {**page, "timestamps": dict.fromkeys(page["data"], page["time"])}
