"""A file without a name that pickled records are appended to, shared by parent and child."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Iterator

__all__ = ["RecordFile"]

_HEAD = struct.Struct("<4sI")
_MAGIC = b"gixi"


class RecordFile:
    """Records in a file, each found again by its offset; one process writes, others may read.

    Only our own processes write here, so the records may be pickles. A record that the end of its
    writer cut short is overwritten by the next.

    descriptor: of the file, which is left open
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.end = 0

    def append(self, record: object) -> int:
        """Write a record and return its offset. Raises OSError."""
        data = pickle.dumps(record, protocol=pickle.HIGHEST_PROTOCOL)
        whole = memoryview(_HEAD.pack(_MAGIC, len(data)) + data)
        offset, done = self.end, 0
        while done < len(whole):
            done += os.pwrite(self._descriptor, whole[done:], offset + done)
        self.end = offset + len(whole)
        return offset

    def read(self, offset: int) -> object:
        """Return the record at an offset. Raises OSError where there is none."""
        return self._read(offset)[0]

    def follow(self, end: int) -> Iterator[tuple[int, object]]:
        """Yield offset and record from where the last call ended up to `end`."""
        while self.end < end:
            offset = self.end
            try:
                record, self.end = self._read(offset)
            except OSError:
                return
            yield offset, record

    def _read(self, offset: int) -> tuple[object, int]:
        head = os.pread(self._descriptor, _HEAD.size, offset)
        if len(head) < _HEAD.size or not head.startswith(_MAGIC):
            message = f"there is no record at byte {offset}"
            raise OSError(message)
        size = _HEAD.unpack(head)[1]
        data = os.pread(self._descriptor, size, offset + _HEAD.size)
        if len(data) < size:
            message = f"the record at byte {offset} is not whole"
            raise OSError(message)
        return pickle.loads(data), offset + _HEAD.size + size  # noqa: S301 - written by us
