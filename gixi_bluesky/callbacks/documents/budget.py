"""Limits of one document, checked before anything iterates over it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gixi_bluesky.errors import DocumentError
from gixi_bluesky.log import get_logger

__all__ = ["MAX_CELLS", "held_bytes", "payload_bytes", "require_within_budget", "storable"]

MAX_CELLS = 1_000_000  # rows times columns of a page
_MAX_KEYS = 40_000  # a schema takes up to a millisecond for each
_MAX_DESCRIBED = 100_000  # list items in the data keys of a descriptor, which a schema looks at too
_MAX_ITEMS = 2_000_000  # list items outside the data of events
_MAX_COPIED = 20_000  # list items or array elements of one key of a start document
_MAX_DEPTH = 32
_DATA = frozenset({"event", "event_page", "bulk_events", "datum_page", "bulk_datum"})
_INTEGERS = range(-(2**63), 2**64)  # what JSON stores, msgpack and SQL hold
_MAX_DIGITS = 1000
_LISTS = (list, tuple, set, frozenset)
_HOLDERS = (Mapping, np.ndarray, *_LISTS)
_log = get_logger()


def require_within_budget(name: str, doc: Mapping[str, Any]) -> None:
    """Raise DocumentError for a document with too many keys, list items or levels.

    The lists of events are not counted: they are images, or rows of a page, whose parsers look at
    their lengths.
    """
    _require(name, doc, _MAX_ITEMS)
    if name == "descriptor":
        configuration = doc.get("configuration")
        devices = configuration.values() if isinstance(configuration, Mapping) else ()
        for holder in (doc, *(one for one in devices if isinstance(one, Mapping))):
            _require(name, holder.get("data_keys"), _MAX_DESCRIBED)


def _require(name: str, value: Any, max_items: int) -> None:
    keys = items = 0
    waiting: list[tuple[Any, int]] = [(value, 0)]
    while waiting:
        value, depth = waiting.pop()
        inside: Iterable[Any] = ()
        if isinstance(value, Mapping):
            keys += len(value)
            inside = value.values()
        elif name not in _DATA and isinstance(value, _LISTS):
            items += len(value)
            inside = value
        if keys > _MAX_KEYS or items > max_items or depth > _MAX_DEPTH:
            message = (
                f"{name}: got more than {_MAX_KEYS} keys, {max_items} list items or {_MAX_DEPTH} "
                "levels; large values belong in events or files"
            )
            raise DocumentError(message)
        waiting += [(one, depth + 1) for one in inside if isinstance(one, _HOLDERS)]


def payload_bytes(doc: Any) -> int:
    """Return the approximate bytes of the images inside an event document; never raises."""
    data = doc.get("data") if isinstance(doc, Mapping) else None
    if not isinstance(data, Mapping):
        return 0
    return sum(_array_bytes(value) for value in tuple(data.values()))


def held_bytes(doc: Any) -> int:
    """Return about how many bytes the arrays and lists of a document hold beside its `data`."""
    if not isinstance(doc, Mapping):
        return 0
    return sum(_array_bytes(value) for value in tuple(doc.values()))


def _array_bytes(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if isinstance(value, list) and value:
        return len(value) * max(8, _array_bytes(value[0]))
    return 0


def storable(doc: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a document without values that no store accepts; mostly the same object.

    Lone surrogates in texts become question marks and whole numbers beyond 64 bits texts; the
    value of a key that holds very many numbers becomes a text that says so. All are reported.
    """
    changed = {}
    for key, value in doc.items():
        n = _n_items(value)
        stored = f"left out: {n} values" if n > _MAX_COPIED else _storable(value)
        if stored is not value or _storable(key) is not key:
            changed[key] = stored
    if not changed:
        return doc
    uid = str(doc.get("uid", "")).encode(errors="replace").decode()
    names = [ascii(key)[:80] for key in list(changed)[:10]]
    _log.warning("metadata_changed", uid=uid, keys=names, reason="no store takes their values")
    return {_storable(key): changed.get(key, value) for key, value in doc.items()}


def _n_items(value: Any) -> int:
    """Return the number of values in nested lists or an array, counted to a limit."""
    n, waiting = 0, [value]
    while waiting and n <= _MAX_COPIED:
        one = waiting.pop()
        if isinstance(one, np.ndarray):
            # An array without elements may still become a long list of empty lists.
            n += math.prod(max(length, 1) for length in one.shape)
        elif isinstance(one, Mapping):
            waiting += one.values()
        elif isinstance(one, _LISTS):
            n += len(one)
            waiting += [inner for inner in one if isinstance(inner, _HOLDERS)]
    return n


def _storable(value: Any) -> Any:
    """Return `value` itself, or a changed copy."""
    if isinstance(value, str):
        return value if _is_text(value) else value.encode(errors="replace").decode()
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value in _INTEGERS else f"{value:#x}"[:_MAX_DIGITS]
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
