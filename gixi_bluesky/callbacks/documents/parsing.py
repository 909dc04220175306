"""Bluesky documents parsed into frozen types: the only place that reads document keys."""

from __future__ import annotations

import numbers
import time
from collections.abc import Callable, Mapping
from typing import Any

from gixi_bluesky.callbacks.documents.budget import (
    MAX_CELLS,
    require_within_budget,
    storable,
)
from gixi_bluesky.callbacks.documents.data_keys import (
    configuration_of,
    shapes_of,
    units_of,
    unordered_keys,
)
from gixi_bluesky.callbacks.documents.document_types import (
    Datum,
    Descriptor,
    Document,
    Event,
    Resource,
    RunStart,
    RunStop,
    StreamDatum,
    StreamResource,
)
from gixi_bluesky.callbacks.documents.fields import (
    MAX_COUNT,
    MAX_EVENTS,
    counted,
    instant,
    is_row,
    mapping,
    row,
    span,
    text,
)
from gixi_bluesky.errors import DocumentError
from gixi_bluesky.log import get_logger

__all__ = ["parse"]

_LARGEST_SCAN_ID = 2**63
_log = get_logger()


def parse(name: str, doc: Mapping[str, Any]) -> tuple[Document, ...]:
    """Return the parsed items of a document: one a row of a page, none for unused names.

    Raises DocumentError when it breaks its schema, or holds more than one document may.
    """
    parser = _PARSERS.get(name)
    if parser is None:
        return ()
    if not isinstance(doc, Mapping):
        message = f"{name}: got {type(doc).__name__}; expected a mapping"
        raise DocumentError(message)
    require_within_budget(name, doc)
    try:
        return parser(doc)
    except DocumentError as error:
        message = f"{name}: {error}"
        raise DocumentError(message) from None


def _start(doc: Mapping[str, Any]) -> tuple[RunStart]:
    scan_id = doc.get("scan_id")
    whole = (
        isinstance(scan_id, numbers.Integral)
        and not isinstance(scan_id, bool)
        and abs(int(scan_id)) < _LARGEST_SCAN_ID
    )
    return (
        RunStart(
            uid=text(doc, "uid"),
            time=instant(doc.get("time"), "time"),
            scan_id=int(scan_id) if whole else None,  # type: ignore[arg-type] # checked as Integral
            metadata=storable(doc),
        ),
    )


def _descriptor(doc: Mapping[str, Any]) -> tuple[Descriptor]:
    data_keys = storable(mapping(doc, "data_keys"))
    return (
        Descriptor(
            uid=text(doc, "uid"),
            run_uid=text(doc, "run_start"),
            stream=text(doc, "name"),
            keys=frozenset(str(key) for key in data_keys),
            shapes=shapes_of(data_keys),
            configuration=configuration_of(doc),
            units=units_of(doc),
            unordered=unordered_keys(data_keys),
        ),
    )


def _event(doc: Mapping[str, Any]) -> tuple[Event]:
    return (
        Event(
            descriptor=text(doc, "descriptor"),
            seq_num=counted(doc.get("seq_num"), "seq_num", least=1),
            time=instant(doc.get("time"), "time"),
            data=mapping(doc, "data"),
        ),
    )


def _event_page(doc: Mapping[str, Any]) -> tuple[Event, ...]:
    seq_nums, times, data = row(doc, "seq_num"), row(doc, "time"), mapping(doc, "data")
    columns = {key: values for key, values in data.items() if is_row(values)}
    if any(len(values) != len(seq_nums) for values in (times, *columns.values())):
        message = f"got columns of different lengths for {len(seq_nums)} rows"
        raise DocumentError(message)
    _require_cells(len(seq_nums), len(columns))
    descriptor = text(doc, "descriptor")
    return tuple(
        Event(
            descriptor=descriptor,
            seq_num=counted(seq_num, "seq_num", least=1),
            time=instant(moment, "time"),
            data={key: values[i] for key, values in columns.items()},
        )
        for i, (seq_num, moment) in enumerate(zip(seq_nums, times, strict=True))
    )


def _bulk_events(doc: Mapping[str, Any]) -> tuple[Event, ...]:
    """Return the events of a document that older Bluesky made of many, by stream."""
    events = [one for stream in doc for one in row(doc, stream)]
    if len(events) > MAX_EVENTS:
        message = f"got {len(events)} events; expected at most {MAX_EVENTS} in one document"
        raise DocumentError(message)
    return tuple(event for one in events for event in _event(_mapping(one)))


def _resource(doc: Mapping[str, Any]) -> tuple[Resource]:
    root, path = _said(doc, "root"), text(doc, "resource_path", empty=True)
    # Some old documents give an absolute resource_path below their root.
    joined = f"{root.rstrip('/')}/{path.lstrip('/')}" if root else path
    run_uid = doc.get("run_start")
    return (
        Resource(
            uid=text(doc, "uid"),
            run_uid=run_uid if isinstance(run_uid, str) else "",
            spec=text(doc, "spec"),
            path=joined,
            kwargs=mapping(doc, "resource_kwargs"),
        ),
    )


def _datum(doc: Mapping[str, Any]) -> tuple[Datum]:
    return (Datum(text(doc, "datum_id"), text(doc, "resource"), mapping(doc, "datum_kwargs")),)


def _datum_page(doc: Mapping[str, Any]) -> tuple[Datum, ...]:
    resource, kwargs = text(doc, "resource"), mapping(doc, "datum_kwargs")
    ids = row(doc, "datum_id")
    if any(not is_row(values) or len(values) != len(ids) for values in kwargs.values()):
        message = f"got datum_kwargs of other lengths than the {len(ids)} datum ids"
        raise DocumentError(message)
    _require_cells(len(ids), len(kwargs))
    return tuple(
        Datum(str(datum_id), resource, {key: values[i] for key, values in kwargs.items()})
        for i, datum_id in enumerate(ids)
    )


def _bulk_datum(doc: Mapping[str, Any]) -> tuple[Datum, ...]:
    """Return the datums of a document that older Bluesky made of many."""
    resource, ids, kwargs = (
        text(doc, "resource"),
        row(doc, "datum_ids"),
        row(doc, "datum_kwarg_list"),
    )
    if len(ids) != len(kwargs):
        message = f"got {len(kwargs)} datum_kwarg_list for {len(ids)} datum_ids; expected as many"
        raise DocumentError(message)
    return tuple(
        Datum(str(datum_id), resource, _mapping(each))
        for datum_id, each in zip(ids, kwargs, strict=True)
    )


def _require_cells(rows: int, columns: int) -> None:
    if rows * columns > MAX_CELLS:
        message = f"got a page of {rows} rows and {columns} columns; expected {MAX_CELLS} values"
        raise DocumentError(f"{message} at most")


def _said(doc: Mapping[str, Any], key: str) -> str:
    """Return an optional text, empty where there is none."""
    value = doc.get(key)
    return value if isinstance(value, str) else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    message = f"got {type(value).__name__}; expected a mapping"
    raise DocumentError(message)


def _stream_resource(doc: Mapping[str, Any]) -> tuple[StreamResource]:
    return (
        StreamResource(
            uid=text(doc, "uid"),
            run_uid=text(doc, "run_start"),
            data_key=text(doc, "data_key"),
            uri=text(doc, "uri"),
            mimetype=text(doc, "mimetype"),
            parameters=mapping(doc, "parameters"),
        ),
    )


def _stream_datum(doc: Mapping[str, Any]) -> tuple[StreamDatum]:
    first_index, n_indices = span(doc, "indices", least=0)
    first_seq_num, n_seq_nums = span(doc, "seq_nums", least=1)
    if n_indices != n_seq_nums:
        message = f"got {n_indices} indices for {n_seq_nums} seq_nums; expected as many"
        raise DocumentError(message)
    return (
        StreamDatum(
            resource=text(doc, "stream_resource"),
            descriptor=text(doc, "descriptor"),
            first_index=first_index,
            first_seq_num=first_seq_num,
            count=n_indices,
        ),
    )


def _stop(doc: Mapping[str, Any]) -> tuple[RunStop]:
    """Return the stop; only a stop that names no run is refused, or its run would not end."""
    run_uid, counts = text(doc, "run_start"), doc.get("num_events")
    try:
        ended = instant(doc.get("time"), "time")
    except DocumentError as error:
        ended = time.time()
        _log.warning("time_of_stop_unknown", raw_uid=run_uid, reason=str(error))
    fields = storable({key: _said(doc, key) for key in ("exit_status", "reason")})
    return (
        RunStop(
            run_uid=run_uid,
            time=ended,
            exit_status=fields["exit_status"],
            reason=fields["reason"],
            num_events={
                str(stream): int(n)
                for stream, n in (counts.items() if isinstance(counts, Mapping) else ())
                if isinstance(n, numbers.Integral) and 0 <= int(n) <= MAX_COUNT
            },
        ),
    )


_PARSERS: dict[str, Callable[[Mapping[str, Any]], tuple[Document, ...]]] = {
    "start": _start,
    "descriptor": _descriptor,
    "event": _event,
    "event_page": _event_page,
    "bulk_events": _bulk_events,
    "resource": _resource,
    "datum": _datum,
    "datum_page": _datum_page,
    "bulk_datum": _bulk_datum,
    "stream_resource": _stream_resource,
    "stream_datum": _stream_datum,
    "stop": _stop,
}
