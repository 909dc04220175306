"""What one document may hold, looked at before anything walks through it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gixi_bluesky.errors import DocumentError
from gixi_bluesky.log import get_logger

__all__ = ["MAX_CELLS", "require_within_budget", "storable"]

MAX_CELLS = 1_000_000  # rows times columns of a page
_MAX_KEYS = 40_000  # a schema takes up to a millisecond for each
_MAX_ITEMS = 100_000  # of lists and arrays outside the data of events
_MAX_DEPTH = 32
_DATA = frozenset({"event", "event_page", "bulk_events", "datum_page", "bulk_datum"})
_INTEGERS = range(-(2**63), 2**64)  # what JSON stores, msgpack and SQL hold
_log = get_logger()


def require_within_budget(name: str, doc: Mapping[str, Any]) -> None:
    """Raise DocumentError for a document with too many keys, list items or levels.

    The lists and arrays of events are not counted: they are images, or rows of a page, whose
    parsers look at their lengths.
    """
    keys = items = 0
    counts_items = name not in _DATA
    waiting: list[tuple[Any, int]] = [(doc, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            message = f"{name}: nested deeper than {_MAX_DEPTH} levels"
            raise DocumentError(message)
        if isinstance(value, Mapping):
            keys += len(value)
            if keys <= _MAX_KEYS:
                waiting += [(one, depth + 1) for one in value.values()]
        elif counts_items and isinstance(value, np.ndarray):
            # An array without elements may still become a long list of empty lists.
            items += math.prod(max(length, 1) for length in value.shape)
        elif counts_items and isinstance(value, list | tuple | set | frozenset):
            items += len(value)
            if items <= _MAX_ITEMS:
                waiting += [(one, depth + 1) for one in value]
        if keys > _MAX_KEYS or items > _MAX_ITEMS:
            message = (
                f"{name}: got more than {_MAX_KEYS} keys or {_MAX_ITEMS} list items; large values "
                "belong in events or files"
            )
            raise DocumentError(message)


def storable(doc: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a document without what no store takes: the same one, mostly.

    Lone surrogates in texts become question marks, whole numbers beyond 64 bits become texts; both
    are reported.
    """
    cleaned = _storable(doc)
    if cleaned is doc:
        return doc
    uid = str(doc.get("uid", "")).encode(errors="replace").decode()
    _log.warning("metadata_changed", uid=uid, reason="it holds texts or numbers no store takes")
    return cleaned  # type: ignore[no-any-return] # a mapping of a mapping


def _storable(value: Any) -> Any:
    """Return `value` itself, or a changed copy."""
    if isinstance(value, str):
        return value if _is_text(value) else value.encode(errors="replace").decode()
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value in _INTEGERS else f"{value:#x}"
    if isinstance(value, Mapping):
        pairs = {_storable(key): _storable(one) for key, one in value.items()}
        same = all(a is b for a, b in zip(pairs.values(), value.values(), strict=False))
        return value if same and pairs.keys() == value.keys() else pairs
    if isinstance(value, list | tuple):
        items = [_storable(one) for one in value]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else items
    return value


def _is_text(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
