"""The documents of a derived run: deterministic, so that a replay makes the same ones."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

from event_model import DocumentNames, schema_validators
from jsonschema import ValidationError  # type: ignore[import-untyped] # comes with event-model

from gixi_bluesky.callbacks.runs.raw_run import RawRun, RunClosed
from gixi_bluesky.callbacks.worker.jobs import Ready
from gixi_bluesky.log import get_logger
from gixi_bluesky.provenance import derived_uid
from gixi_bluesky.tiled_adapters.schema import (
    IMAGE_KEY,
    IMAGES,
    PURPOSE,
    RUN_SPEC,
    SCHEMA_VERSION,
    data_keys,
    image_data_keys,
    stored_columns,
    stored_values,
)
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings

__all__ = ["DerivedDocuments"]

_COPIED = re.compile(
    r"sample\w*|plan_name|proposal\w*|operator|project|experiment\w*|beamline\w*|cycle|title"
)
_COPIED_BYTES = 64_000
_log = get_logger()
_KEYS = {
    "event_page": DocumentNames.event_page,
    "descriptor": DocumentNames.descriptor,
    "start": DocumentNames.start,
    "stop": DocumentNames.stop,
    "stream_resource": DocumentNames.stream_resource,
    "stream_datum": DocumentNames.stream_datum,
}


class DerivedDocuments:
    """Composes the documents of one derived run; rows become event pages with fixed columns.

    The first document of each kind and stream, of a page its first row, is checked against
    event-model's schema; the others have the same shape, and checking every page would cost more
    than storing it.
    """

    def __init__(
        self, raw: RawRun, ready: Ready, output: OutputSettings, tiled: TiledSettings
    ) -> None:
        self.uid = derived_uid(raw.uid, raw.stream, raw.data_key, ready.provenance.result_hash)
        self._raw = raw
        self._namespace = UUID(self.uid)
        self._checked: set[tuple[str, str]] = set()
        self.start = self._start(ready, output, tiled)

    def _start(self, ready: Ready, output: OutputSettings, tiled: TiledSettings) -> dict[str, Any]:
        raw, provenance = self._raw, _storable(ready.provenance.as_dict())
        start: dict[str, Any] = {
            "uid": self.uid,
            "time": raw.start.time,
            "purpose": PURPOSE,
            "tiled_specs": [RUN_SPEC],
            "gixi": {
                "schema_version": SCHEMA_VERSION,
                "raw_uid": raw.uid,
                "raw_stream": raw.stream,
                "raw_data_key": raw.data_key,
                "raw_scan_id": raw.start.scan_id,
                "raw_time": raw.start.time,
                "image_step": output.image_step,
                "provenance": provenance,
                "geometry": provenance["geometry"],
                "grid": provenance["config"].get("grid", {}),
                "phases_searched": list(ready.phases),
            },
        }
        if raw.start.scan_id is not None:
            start["scan_id"] = raw.start.scan_id
        tags = tiled.access_tags
        if tags == "from_raw":
            tags = raw.start.metadata.get("tiled_access_tags")
        if isinstance(tags, list | tuple) and all(isinstance(tag, str) for tag in tags):
            start["tiled_access_tags"] = list(tags)
        try:
            return self._valid("start", "", {**_copied(raw.start.metadata), **start})
        except ValidationError as error:
            # Somebody's sample is no sample to event-model: that must not cost the analysis.
            _log.warning("metadata_not_copied", raw_uid=raw.uid, reason=error.message)
            return self._valid("start", "", start)

    def descriptor(self, stream: str) -> dict[str, Any]:
        """Return the descriptor of a table."""
        return self._descriptor(stream, data_keys(stream))

    def image_descriptor(self, n_phi: int, n_q: int, *, external: bool = True) -> dict[str, Any]:
        """Return the descriptor of the stream of polar images, in files or in the event pages."""
        return self._descriptor(IMAGES, image_data_keys(n_phi, n_q, external=external))

    def image_page(self, first: int, images: Sequence[Any], time: float) -> dict[str, Any]:
        """Return consecutive images, the first in row `first`, as an event page that holds them."""
        times = [time] * len(images)
        seq_nums = list(range(first + 1, first + 1 + len(images)))
        return {
            "descriptor": self._descriptor_uid(IMAGES),
            "uid": [self._uid(f"{IMAGES}/{number}") for number in seq_nums],
            "seq_num": seq_nums,
            "time": times,
            "data": {IMAGE_KEY: list(images)},
            "timestamps": {IMAGE_KEY: times},
            "filled": {},
        }

    def page(
        self, stream: str, columns: Mapping[str, Sequence[Any]], first: int, time: float
    ) -> dict[str, Any]:
        """Return rows of a table as an event page whose first seq_num is `first`.

        The uid of a row follows from its frame, so that it is the same however often it is made.
        """
        n = len(columns["frame"])
        values = {c.name: stored_values(c, columns[c.name]) for c in stored_columns(stream)}
        times = [time] * n
        page = {
            "descriptor": self._descriptor_uid(stream),
            "uid": [self._uid(f"{stream}/{row}") for row in _rows(columns["frame"])],
            "seq_num": list(range(first, first + n)),
            "time": times,
            "data": values,
            "timestamps": dict.fromkeys(values, times),
            "filled": {},
        }
        if n and ("event_page", stream) not in self._checked:
            # One row tells; checking hundreds would delay the first results by a second.
            self._valid("event_page", stream, _first_row(page))
        return page

    def image_resource(self, uri: str, dataset: str, chunk_shape: Sequence[int]) -> dict[str, Any]:
        """Return the stream_resource of an HDF5 part."""
        return self._valid(
            "stream_resource",
            IMAGES,
            {
                "uid": self._uid(uri),
                "run_start": self.uid,
                "data_key": IMAGE_KEY,
                "mimetype": "application/x-hdf5",
                "uri": uri,
                "parameters": {
                    "dataset": dataset,
                    "chunk_shape": list(chunk_shape),
                    "swmr": True,
                },
            },
        )

    def image_datum(self, resource: str, start: int, stop: int) -> dict[str, Any]:
        """Return the stream_datum of image rows start…stop-1."""
        return self._valid(
            "stream_datum",
            IMAGES,
            {
                "uid": f"{resource}/{start}-{stop}",
                "stream_resource": resource,
                "descriptor": self._descriptor_uid(IMAGES),
                "indices": {"start": start, "stop": stop},
                "seq_nums": {"start": start + 1, "stop": stop + 1},
            },
        )

    def stop(
        self, closed: RunClosed, rows: Mapping[str, int], summary: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the stop document with the summary; it says which frames never came."""
        whole = "incomplete" if closed.n_missing else "complete"
        summary = {**summary, "completeness": "abandoned" if closed.stop.abandoned else whole}
        reason = closed.stop.reason
        if closed.n_missing:
            summary["n_missing"] = closed.n_missing
            summary["missing_frames"] = list(closed.missing)
            total = (closed.n_images or closed.n_frames) + closed.n_missing
            reason = f"{closed.n_missing} of {total} frames never came. {reason}".strip()
        status = closed.stop.exit_status
        stop = {
            "uid": self._uid("stop"),
            "run_start": self.uid,
            "time": closed.stop.time,
            "exit_status": status if status in {"success", "abort", "fail"} else "fail",
            "reason": reason,
            "num_events": dict(rows),
            "gixi": summary,
        }
        return self._valid("stop", "", stop)

    def _descriptor(self, stream: str, keys: dict[str, dict[str, Any]]) -> dict[str, Any]:
        descriptor = {
            "uid": self._descriptor_uid(stream),
            "run_start": self.uid,
            "name": stream,
            "time": self._raw.start.time,
            "data_keys": keys,
            "object_keys": {PURPOSE: list(keys)},
            "configuration": {},
            "hints": {},
        }
        return self._valid("descriptor", stream, descriptor)

    def _descriptor_uid(self, stream: str) -> str:
        return self._uid(f"descriptor/{stream}")

    def _uid(self, name: str) -> str:
        return str(uuid5(self._namespace, name))

    def _valid(self, kind: str, stream: str, doc: dict[str, Any]) -> dict[str, Any]:
        if (kind, stream) not in self._checked:
            schema_validators[_KEYS[kind]].validate(doc)
            self._checked.add((kind, stream))
        return doc


def _storable(value: Any) -> Any:
    """Turn mappings whose keys event-model refuses, such as paths, into lists of pairs."""
    if isinstance(value, Mapping):
        items = [(str(key), _storable(item)) for key, item in value.items()]
        if any("." in key or "/" in key or not key for key, _ in items):
            return [list(item) for item in items]
        return dict(items)
    return [_storable(item) for item in value] if isinstance(value, list | tuple) else value


def _rows(frames: Sequence[int]) -> Iterator[str]:
    """Yield frame/row for the rows of each frame, which stand together."""
    for frame, rows in itertools.groupby(frames):
        for row, _ in enumerate(rows):
            yield f"{frame}/{row}"


def _first_row(page: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event page of the first row alone."""
    columns = {
        part: {name: values[:1] for name, values in page[part].items()}
        for part in ("data", "timestamps")
    }
    return {**page, **{key: page[key][:1] for key in ("uid", "seq_num", "time")}, **columns}


def _copied(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what describes the sample and the experiment, as plain JSON of bounded size."""
    copied: dict[str, Any] = {}
    for key, value in metadata.items():
        if not _COPIED.fullmatch(str(key)):
            continue
        try:
            text = json.dumps(_plain(value), allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            continue
        if len(text) <= _COPIED_BYTES:
            copied[str(key)] = json.loads(text)
    return copied


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.tolist() if hasattr(value, "tolist") else value
