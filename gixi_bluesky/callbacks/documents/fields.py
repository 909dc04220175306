"""Checked access to fields of foreign documents: each getter raises DocumentError."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gixi_bluesky.errors import DocumentError

__all__ = [
    "MAX_COUNT",
    "MAX_EVENTS",
    "counted",
    "instant",
    "is_row",
    "mapping",
    "row",
    "span",
    "text",
]

# One document may announce this many events; a fly scan announces thousands, an attack billions.
MAX_EVENTS = 100_000
MAX_COUNT = 10_000_000  # events of a run, so that one number cannot fill a disk
_LONGEST_TEXT = 4096  # of a uid, a name or a path
_LARGEST_SHOWN = 10**40
_LAST_TIME = 1e11  # seconds since 1970, in the year 5138; as milliseconds it is in 1973


def text(doc: Mapping[str, Any], key: str, *, empty: bool = False) -> str:
    """Return doc[key] if it is a text."""
    value = doc.get(key)
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        message = f"{key}: got a text of {len(value)} letters; expected at most {_LONGEST_TEXT}"
        raise DocumentError(message)
    if isinstance(value, str) and (value or empty):
        try:
            value.encode()
        except UnicodeEncodeError:
            message = f"{key}: got {_brief(value)}; expected a text that UTF-8 can write"
            raise DocumentError(message) from None
        return value
    message = f"{key}: got {_brief(value)}; expected a text"
    raise DocumentError(message)


def mapping(doc: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return doc[key] if it is a mapping."""
    value = doc.get(key)
    if isinstance(value, Mapping):
        return value
    message = f"{key}: got {_brief(value)}; expected a mapping"
    raise DocumentError(message)


def row(doc: Mapping[str, Any], key: str) -> Sequence[Any]:
    """Return doc[key] if it is a list of at most MAX_EVENTS items."""
    value = doc.get(key)
    if not is_row(value):
        message = f"{key}: got {_brief(value)}; expected a list"
        raise DocumentError(message)
    if len(value) > MAX_EVENTS:  # type: ignore[arg-type] # _is_row checked its length
        message = f"{key}: got more than {MAX_EVENTS} rows in one document"
        raise DocumentError(message)
    return value  # type: ignore[return-value] # checked by _is_row


def is_row(value: Any) -> bool:
    """Return whether a value is a list, a tuple or an array with an axis."""
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def instant(value: Any, key: str) -> float:
    """Return `value` if it is a time in seconds since 1970; `key` is for the message."""
    try:
        seconds = float(value) if isinstance(value, numbers.Real) else -1.0
    except OverflowError:
        seconds = -1.0
    if 0 <= seconds < _LAST_TIME:
        return seconds
    message = f"{key}: got {_brief(value)}; expected seconds since 1970, no other unit"
    raise DocumentError(message)


def counted(value: Any, key: str, *, least: int) -> int:
    """Return `value` if it is a whole number from `least` to MAX_COUNT."""
    if isinstance(value, numbers.Integral) and least <= int(value) <= MAX_COUNT:
        return int(value)
    message = f"{key}: got {_brief(value)}; expected a whole number from {least} to {MAX_COUNT}"
    raise DocumentError(message)


def span(doc: Mapping[str, Any], key: str, *, least: int) -> tuple[int, int]:
    """Return (start, length) of the range doc[key], of at most MAX_EVENTS."""
    limits = mapping(doc, key)
    start = counted(limits.get("start"), f"{key}.start", least=least)
    stop = counted(limits.get("stop"), f"{key}.stop", least=least)
    if not 0 <= stop - start <= MAX_EVENTS:
        message = f"{key}: got {start} to {stop}; expected at most {MAX_EVENTS} rising"
        raise DocumentError(message)
    return start, stop - start


def _brief(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= _LARGEST_SHOWN:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, str):
        return ascii(value[:80])
    if isinstance(value, int | float | bool | None):
        return repr(value)
    return type(value).__name__
