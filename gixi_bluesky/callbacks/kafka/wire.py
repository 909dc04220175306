"""Messages as bluesky-kafka writes them: msgpack of [name, document], arrays as msgpack-numpy.

msgpack-numpy itself is not used, as it unpickles data of the message.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
import numpy as np
from event_model import DocumentNames, schema_validators
from jsonschema import ValidationError  # type: ignore[import-untyped] # comes with event-model

from gixi_bluesky.callbacks.documents.budget import require_within_budget
from gixi_bluesky.errors import DocumentError

__all__ = ["decode", "encode"]

_KINDS = "biufcSUmM"  # no objects, no raw memory
_MAX_DIMENSIONS = 16
_MAX_FIELDS = 256
_COMPLEX_DIGITS = 100
_MAX_MAPPINGS = 200_000  # in one message, each of which costs a call
_MAX_LISTS = 1_000_000
_MAX_ITEMS = 20_000_000  # of all lists; an image of 4096 x 4096 as lists has 17 million
_MAX_EMPTY = 1_000_000  # elements along the axes of an array that has none
_ROWS_CHECKED = 100  # of a page: its parser looks at each row, the schema would take minutes
_SCHEMAS = {
    kind.name: schema_validators[kind] for kind in DocumentNames if kind in schema_validators
}


def decode(value: bytes | None) -> tuple[str, dict[str, Any]]:
    """Return the name and the document of a message; arrays are read-only views of it.

    Raises DocumentError for anything that is not a document of event-model's schema.
    """
    if not value:
        message = "got an empty message; expected msgpack of [name, document]"
        raise DocumentError(message)
    try:
        counter = _Counter()
        content = msgpack.unpackb(
            value,
            object_hook=counter.mapping,
            list_hook=counter.list,
            max_array_len=_MAX_ITEMS,
            max_map_len=_MAX_MAPPINGS,
            strict_map_key=False,
            timestamp=3,
        )
    except DocumentError:
        raise
    # A hostile message can make msgpack and numpy raise almost any error.
    except Exception as error:
        message = f"the message is no msgpack of a document: {type(error).__name__}: {error}"
        raise DocumentError(message[:500]) from error
    if not isinstance(content, list) or len(content) != 2:
        message = f"got msgpack of {_brief(content)}; expected [name, document]"
        raise DocumentError(message)
    name, doc = content
    if not isinstance(name, str) or name not in _SCHEMAS:
        message = f"got a document named {name!r:.80}; expected start, event, stop, …"
        raise DocumentError(message)
    if not isinstance(doc, dict):
        message = f"{name}: got {_brief(doc)}; expected a mapping"
        raise DocumentError(message)
    require_within_budget(name, doc)
    _check_schema(name, _sampled(doc) if name.endswith("_page") else doc)
    return name, doc


def encode(name: str, doc: Mapping[str, Any]) -> bytes:
    """Return the message of a document in the format of bluesky-kafka.

    Times that are no numbers become ISO 8601 texts. Raises TypeError for objects.
    """
    packed: bytes = msgpack.packb([name, dict(doc)], default=_packed)
    return packed


class _Counter:
    """Counts the mappings and lists of a message while it is unpacked."""

    def __init__(self) -> None:
        self._mappings = self._lists = self._items = 0

    def mapping(self, found: dict[Any, Any]) -> Any:
        self._mappings += 1
        if self._mappings > _MAX_MAPPINGS:
            message = f"got more than {_MAX_MAPPINGS} mappings in one message"
            raise DocumentError(message)
        return _array_or_number(found)

    def list(self, found: list[Any]) -> list[Any]:
        self._lists += 1
        self._items += len(found)
        if self._lists > _MAX_LISTS or self._items > _MAX_ITEMS:
            message = f"got more than {_MAX_LISTS} lists or {_MAX_ITEMS} list items in one message"
            raise DocumentError(message)
        return found


def _sampled(page: dict[str, Any]) -> dict[str, Any]:
    """Return the first rows of a page."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cut(one) for key, one in value.items()}
        return value[:_ROWS_CHECKED] if isinstance(value, list) else value

    return {key: cut(value) for key, value in page.items()}


def _check_schema(name: str, doc: dict[str, Any]) -> None:
    try:
        _SCHEMAS[name].validate(doc)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.absolute_path)
        message = f"{name}: {where + ': ' if where else ''}{error.message[:300]}"
        raise DocumentError(message) from None
    # A validator walks what it is given, however deep or odd that is.
    except Exception as error:
        message = f"{name}: cannot be checked: {type(error).__name__}: {error}"
        raise DocumentError(message[:500]) from error


def _array_or_number(found: dict[Any, Any]) -> Any:
    """Return the array, number or complex number that a mapping stands for, else the mapping."""
    if b"nd" in found:
        return _array(found) if found[b"nd"] is True else _scalar(found)
    if b"complex" in found:
        text = found.get(b"data", "")
        text = text.decode("ascii") if isinstance(text, bytes) else str(text)
        return complex(text[:_COMPLEX_DIGITS])
    return found


def _array(found: Mapping[bytes, Any]) -> np.ndarray[Any, Any]:
    dtype = _dtype(found)
    shape = found[b"shape"]
    if not isinstance(shape, Sequence) or len(shape) > _MAX_DIMENSIONS:
        message = f"got an array of shape {_brief(shape)}; expected a short list of lengths"
        raise DocumentError(message)
    lengths = [length for length in shape if isinstance(length, int) and length >= 0]
    data = found[b"data"]
    expected = math.prod(lengths) * dtype.itemsize
    if len(lengths) != len(shape) or not isinstance(data, bytes) or len(data) != expected:
        message = (
            f"got {len(data) if isinstance(data, bytes) else _brief(data)} bytes for an array of "
            f"shape {shape!r:.80} and type {dtype}; expected {expected}"
        )
        raise DocumentError(message)
    if not expected:
        if math.prod(max(length, 1) for length in lengths) > _MAX_EMPTY:
            message = f"got an array without elements of shape {shape!r:.80}"
            raise DocumentError(message)
        return np.zeros(lengths, dtype)
    return np.frombuffer(data, dtype).reshape(lengths)


def _scalar(found: Mapping[bytes, Any]) -> Any:
    dtype, data = _dtype(found), found[b"data"]
    if not isinstance(data, bytes) or len(data) != dtype.itemsize or not data:
        message = f"got {_brief(data)} for one number of type {dtype}"
        raise DocumentError(message)
    return np.frombuffer(data, dtype)[0]


def _dtype(found: Mapping[bytes, Any]) -> np.dtype[Any]:
    kind, described = found.get(b"kind", b""), found[b"type"]
    if kind in {b"O", "O"}:
        message = "got an array of pickled objects; expected numbers: such messages are refused"
        raise DocumentError(message)
    dtype = np.dtype(_fields(described) if isinstance(described, list) else _text(described))
    _refuse_objects(dtype)
    return dtype


def _fields(described: list[Any]) -> list[tuple[Any, ...]]:
    """Return a record type in the form that numpy.dtype takes."""
    if len(described) > _MAX_FIELDS:
        message = f"got a record of {len(described)} fields; expected at most {_MAX_FIELDS}"
        raise DocumentError(message)
    fields: list[tuple[Any, ...]] = []
    for name, kind, *shape in described:
        inner = _fields(kind) if isinstance(kind, list) else _text(kind)
        fields.append((_text(name), inner, *(tuple(lengths) for lengths in shape)))
    return fields


def _refuse_objects(dtype: np.dtype[Any]) -> None:
    if dtype.subdtype is not None:
        _refuse_objects(dtype.subdtype[0])
    elif dtype.fields is not None:
        for inner, *_ in dtype.fields.values():
            _refuse_objects(inner)
    elif dtype.kind not in _KINDS or dtype.hasobject:
        message = f"got an array of type {dtype}; expected numbers, texts or times"
        raise DocumentError(message)


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _packed(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        _refuse_objects(value.dtype)
        record = value.dtype.kind == "V"
        return {
            b"nd": True,
            b"type": value.dtype.descr if record else value.dtype.str,
            b"kind": b"V" if record else b"",
            b"shape": value.shape,
            b"data": np.ascontiguousarray(value).tobytes(),
        }
    if isinstance(value, np.bool_ | np.number):
        return {b"nd": False, b"type": value.dtype.str, b"data": value.tobytes()}
    if isinstance(value, complex):
        return {b"complex": True, b"data": repr(value)}
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, set | frozenset):
        return sorted(value)
    message = f"got a {type(value).__name__} in a document; expected JSON types, numbers and arrays"
    raise TypeError(message)


def _brief(value: Any) -> str:
    if isinstance(value, list | tuple | dict | str | bytes):
        return f"{type(value).__name__} of length {len(value)}"
    return type(value).__name__
