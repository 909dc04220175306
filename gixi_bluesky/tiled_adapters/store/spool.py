"""The documents of one derived run on this machine's disk, until Tiled has them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import threading
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from gixi_bluesky.errors import StoreError

__all__ = ["SESSION", "SPOOL_FOLDER", "Record", "SpoolFile", "SpoolTakenError", "spool_files"]

SPOOL_FOLDER = ".spool"
SESSION = "session"
_ARRAY = "__ndarray__"
_HEADER = struct.Struct("<II")  # length and CRC-32 of what follows


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
    refuses. A record that a crash cut off is forgotten. `append` and `read` may be called from
    different threads.
    """

    def __init__(self, path: Path, start: Mapping[str, Any] | None = None) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._lock = threading.Lock()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.size = 0
            self._sessions: list[tuple[int, frozenset[int]]] = []
            self._scan()
            if start is not None:
                if not self.size:
                    self.append("start", start)
                self.append(SESSION, {})
        except BlockingIOError as error:
            os.close(self._file)
            message = f"{path} is being sent or written by another process; trying again later"
            raise SpoolTakenError(message) from error
        except BaseException:
            os.close(self._file)
            raise

    def append(self, name: str, doc: Mapping[str, Any]) -> None:
        """Add a document. Raises OSError and leaves the file as it was when the disk refuses."""
        lean = _lean(doc) if name == "event_page" else dict(doc)
        packed = msgpack.packb([name, lean], default=_packed_array)
        record = _HEADER.pack(len(packed), zlib.crc32(packed)) + packed
        with self._lock:
            try:
                written = os.pwrite(self._file, record, self.size)
                if written < len(record):
                    message = f"only {written} of {len(record)} bytes fit on the disk"
                    raise OSError(message)
                os.fsync(self._file)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, self.size)
                raise
            self.size += len(record)

    def read(self, position: int) -> Record | None:
        """Return the document at `position`, the first being at 0; None at the end."""
        if position >= self.size or (found := self._read(position)) is None:
            return None
        name, doc, end = found
        frames = next((done for until, done in self._sessions if position < until), None)
        return Record(name, _full(doc) if name == "event_page" else doc, end, frames)

    def records(self) -> Iterator[Record]:
        """Go through all documents."""
        position = 0
        while (record := self.read(position)) is not None:
            yield record
            position = record.end

    @property
    def start(self) -> dict[str, Any] | None:
        """The run's start document; None when a crash left nothing of it."""
        first = self.read(0)
        return None if first is None else first.doc

    def close(self) -> None:
        """Let others have the file."""
        os.close(self._file)

    def remove(self) -> None:
        """Delete the file: Tiled has it all."""
        self.path.unlink(missing_ok=True)
        self.close()

    def _read(self, position: int) -> tuple[str, dict[str, Any], int] | None:
        header = os.pread(self._file, _HEADER.size, position)
        if len(header) < _HEADER.size:
            return None
        length, checksum = _HEADER.unpack(header)
        packed = os.pread(self._file, length, position + _HEADER.size)
        if len(packed) < length or zlib.crc32(packed) != checksum:
            return None
        name, doc = msgpack.unpackb(packed, strict_map_key=False, object_hook=_unpacked_array)
        return name, doc, position + _HEADER.size + length

    def _scan(self) -> None:
        """Find the end of the last whole record, and which frames each session had finished."""
        tables: dict[str, str] = {}
        done: set[int] = set()
        while (found := self._read(self.size)) is not None:
            name, doc, end = found
            if name == SESSION:
                self._sessions.append((self.size, frozenset(done)))
                done = set()
            elif name == "descriptor":
                tables[doc["uid"]] = doc["name"]
            elif name == "event_page" and tables.get(doc["descriptor"]) == "frames":
                done.update(doc["data"]["frame"])
            self.size = end
        self._sessions.append((self.size, frozenset(done)))
        os.ftruncate(self._file, self.size)


def spool_files(directory: Path) -> list[Path]:
    """Return the spools that an earlier process left below a results directory."""
    return sorted((directory / SPOOL_FOLDER).glob("*.spool"))


def _lean(page: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of a page what can be told from the rest; it is nine tenths of it."""
    return {key: page[key] for key in ("descriptor", "seq_num", "time", "data")}


def _full(page: dict[str, Any]) -> dict[str, Any]:
    return {**page, "timestamps": dict.fromkeys(page["data"], page["time"])}


def _packed_array(value: Any) -> dict[str, Any]:
    array = np.asarray(value, order="C")
    if array.dtype.kind not in "biuf":
        message = f"got a {type(value).__name__} in a document; expected JSON types and numbers"
        raise TypeError(message)
    return {_ARRAY: array.dtype.str, "shape": array.shape, "bytes": array.tobytes()}


def _unpacked_array(value: dict[Any, Any]) -> Any:
    if _ARRAY not in value:
        return value
    return np.frombuffer(value["bytes"], np.dtype(value[_ARRAY])).reshape(value["shape"])
