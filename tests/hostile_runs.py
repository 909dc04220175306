"""Runs of Bluesky documents with faults in them, from a source of chance: a seed or hypothesis."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
from raw_runs import KEY, RawRun, images

__all__ = ["hostile_run", "hostile_value"]

Documents = list[tuple[str, Any]]

_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2**31 - 1, 2**63, 2**64, -(2**70), 10**400, 0.0, -0.0, 1.7e12, 1e308,
    float("nan"), float("inf"), 1j, "", "x", "\udcff", "\0", "a" * 5000, "../../etc/passwd",
    "file:///dev/zero", "http://127.0.0.1:9/", "%d%s%n", "{0.__class__}", "{:99999d}", b"", b"\xff",
    [], [[]], [None], [1, "x"], {}, {"": 1}, {"a.b": {"c": 1}}, {1: 2}, set(), object,
)  # fmt: skip
_ARRAYS = (
    ((0,), "u2"), ((10**7, 0), "f8"), ((9, 12), "f8"), ((9, 12), "c16"), ((9, 12), "U3"),
    ((9, 12), "M8[s]"), ((3, 9, 12), "u2"), ((9, 12, 3), "u1"), ((1,) * 8, "i8"), ((), "u2"),
)  # fmt: skip


def hostile_value(chance: Random) -> Any:
    """Return a value that a document should not hold at most places."""
    kind = chance.randrange(10)
    if kind == 0:
        shape, dtype = chance.choice(_ARRAYS)
        return np.zeros(shape, dtype)
    if kind == 1:
        value: Any = 1
        for _ in range(chance.randrange(100)):
            value = [value] if chance.random() < 0.5 else {"x": value}
        return value
    if kind == 2:
        return [chance.choice(_VALUES[:30])] * chance.randrange(300)
    return chance.choice(_VALUES)


def hostile_run(chance: Random) -> Documents:
    """Return the documents of one run, most of them sound, some changed, lost or out of order."""
    documents = [_changed(name, doc, chance) for name, doc in _sound(chance)]
    if chance.random() < 0.3:
        i, j = chance.randrange(len(documents)), chance.randrange(len(documents))
        documents[i], documents[j] = documents[j], documents[i]
    if chance.random() < 0.3:
        documents.insert(chance.randrange(len(documents)), chance.choice(documents))
    if chance.random() < 0.2:
        del documents[chance.randrange(len(documents))]
    return documents


def _sound(chance: Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a run whose images are in its events, in stream files, or in classic files."""
    run, n = RawRun(), chance.randrange(1, 4)
    frames = images(n)
    yield run.start()
    kind = chance.choice(("events", "page", "stream", "classic"))
    if kind == "stream":
        yield run.descriptor()
        template = {"template": "{:06d}.tif"} if chance.random() < 0.5 else {}
        yield run.stream_resource("/no/such/file.h5", dataset="/d", **template)
        yield run.stream_datum(0, n)
        for number in range(n):
            yield run.event(number + 1)
    elif kind == "classic":
        yield run.descriptor(external="FILESTORE:")
        resource = {
            "uid": f"{run.uid}-r",
            "run_start": run.uid,
            "spec": chance.choice(("AD_TIFF", "AD_HDF5", "NPY_SEQ", "AD_EIGER", "OTHER")),
            "root": "/no",
            "resource_path": "such",
            "resource_kwargs": {"template": "%s%s_%06d.tif", "filename": "f", "frame_per_point": 1},
            "path_semantics": "posix",
        }
        yield "resource", resource
        for number in range(n):
            datum = {
                "datum_id": f"{run.uid}-r/{number}",
                "resource": f"{run.uid}-r",
                "datum_kwargs": {"point_number": number, "index": number, "seq_id": 1},
            }
            yield "datum", datum
            yield run.event(number + 1, **{KEY: datum["datum_id"]})
    else:
        yield run.descriptor(external="")
        events = [run.event(number + 1, **{KEY: frames[number]})[1] for number in range(n)]
        if kind == "events":
            yield from (("event", event) for event in events)
        else:
            yield (
                "event_page",
                {
                    "descriptor": run.descriptor_uid,
                    **{key: [event[key] for event in events] for key in ("uid", "seq_num", "time")},
                    "data": {KEY: [event["data"][KEY] for event in events]},
                    "timestamps": {KEY: [0.0] * n},
                    "filled": {},
                },
            )
    yield run.stop(n)


def _changed(name: str, doc: dict[str, Any], chance: Random) -> tuple[str, Any]:
    if chance.random() < 0.75:
        return name, doc
    if chance.random() < 0.02:
        return chance.choice(("start", "event", "nothing", "", "bulk_events")), doc
    return name, _with_fault(doc, chance)


def _with_fault(value: Any, chance: Random) -> Any:
    """Return a copy with a fault at some depth."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        changed = dict(value)
        fault = chance.randrange(8)
        if fault == 0:
            del changed[key]
        elif fault == 1:
            changed[chance.choice(("x", "", "\udc80", 7, "multiplier", "run_start"))] = (
                hostile_value(chance)
            )
        else:
            changed[key] = _with_fault(value[key], chance)
        return changed
    if isinstance(value, list) and value and chance.random() < 0.5:
        changed_list = list(value)
        index = chance.randrange(len(value))
        changed_list[index] = _with_fault(value[index], chance)
        return changed_list
    return hostile_value(chance)
