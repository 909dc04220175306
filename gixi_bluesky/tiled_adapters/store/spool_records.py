"""The records of a spool file, framed so that records behind damaged bytes can be found.

A record is a sync mark, the length of its body, the CRC-32 of that header, the CRC-32 of the body,
and the body: msgpack of [serial, flush, name, document].
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

__all__ = ["FramedRecord", "is_cut_off", "next_record", "packed_record"]

_MARK = b"\xf1gixi\r\n\x1a"
_HEADER = struct.Struct("<II")  # length of the body, CRC-32 of mark and length
_CHECKSUM = struct.Struct("<I")  # CRC-32 of the body
_BEFORE_BODY = len(_MARK) + _HEADER.size + _CHECKSUM.size
_SEARCH_BYTES = 1 << 20
_PARTS = 4
_ARRAY = "__ndarray__"


@dataclass(frozen=True, slots=True)
class FramedRecord:
    """A record as it lies in the file, from byte `begin` to `end`.

    serial: number of the record in its file; a copy has the number of its original
    flush: serial of the first record of the flush that the record belongs to
    """

    serial: int
    flush: int
    name: str
    doc: dict[str, Any]
    begin: int
    end: int


def packed_record(serial: int, flush: int, name: str, doc: Mapping[str, Any]) -> bytes:
    """Return the bytes of a record. Raises TypeError when the document holds other types."""
    body = msgpack.packb([serial, flush, name, doc], default=_packed_array)
    length = struct.pack("<I", len(body))
    header = _MARK + length + struct.pack("<I", zlib.crc32(_MARK + length))
    return header + _CHECKSUM.pack(zlib.crc32(body)) + body


def next_record(file: int, position: int, end: int) -> FramedRecord | None:
    """Return the first undamaged record at or after `position` that ends by `end`, else None."""
    while position + _BEFORE_BODY <= end:
        if (found := _record_at(file, position, end)) is not None:
            return found
        position = _next_mark(file, position + 1, end)
    return None


def is_cut_off(file: int, position: int, end: int) -> bool:
    """Return True when the bytes up to `end` are the beginning of one record, or zeros.

    That is what a crash leaves of a record whose `append` did not return.
    """
    rest = os.pread(file, min(end - position, _SEARCH_BYTES), position)
    if len(rest) < _BEFORE_BODY:
        return _MARK.startswith(rest[: len(_MARK)]) or not any(rest)
    length = _body_length(rest)
    return (length is not None and position + _BEFORE_BODY + length > end) or not any(rest)


def _record_at(file: int, position: int, end: int) -> FramedRecord | None:
    header = os.pread(file, _BEFORE_BODY, position)
    length = _body_length(header)
    if length is None or (after := position + _BEFORE_BODY + length) > end:
        return None
    body = os.pread(file, length, position + _BEFORE_BODY)
    if len(body) < length or _CHECKSUM.unpack(header[-_CHECKSUM.size :])[0] != zlib.crc32(body):
        return None
    try:
        parts = msgpack.unpackb(body, strict_map_key=False, object_hook=_unpacked_array)
    except (ValueError, TypeError, KeyError, msgpack.UnpackException):
        return None
    if not (isinstance(parts, list) and len(parts) == _PARTS):
        return None
    serial, flush, name, doc = parts
    if not (isinstance(serial, int) and isinstance(flush, int) and isinstance(name, str)):
        return None
    return FramedRecord(serial, flush, name, doc, position, after) if type(doc) is dict else None


def _body_length(header: bytes) -> int | None:
    """Return the length of the body that follows a header, None where there is no header."""
    if len(header) < _BEFORE_BODY or not header.startswith(_MARK):
        return None
    length, checksum = _HEADER.unpack_from(header, len(_MARK))
    fits = checksum == zlib.crc32(header[: len(_MARK) + 4])
    return int(length) if fits else None


def _next_mark(file: int, position: int, end: int) -> int:
    """Return the position of the next sync mark, `end` when there is none."""
    while position < end:
        block = os.pread(file, min(_SEARCH_BYTES, end - position), position)
        if not block:
            return end
        if (place := block.find(_MARK)) >= 0:
            return position + place
        if len(block) < len(_MARK):
            return end
        position += len(block) - len(_MARK) + 1
    return end


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
