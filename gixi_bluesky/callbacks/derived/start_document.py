"""The start document of a derived run: what was analysed, and how."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from event_model import DocumentNames, schema_validators
from jsonschema import ValidationError  # type: ignore[import-untyped] # comes with event-model

from gixi_bluesky.callbacks.runs.raw_run import RawRun
from gixi_bluesky.callbacks.worker.jobs import Ready
from gixi_bluesky.log import get_logger
from gixi_bluesky.provenance import derived_uid
from gixi_bluesky.tiled_adapters.schema import PURPOSE, RUN_SPEC, SCHEMA_VERSION
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings

__all__ = ["start_document"]

_COPIED = re.compile(
    r"sample\w*|plan_name|proposal\w*|operator|project|experiment\w*|beamline\w*|cycle|title|folder"
)
_COPIED_BYTES = 64_000
_log = get_logger()


def start_document(
    raw: RawRun,
    ready: Ready,
    output: OutputSettings,
    tiled: TiledSettings,
    step: int = 1,
    attempt: int = 1,
) -> dict[str, Any]:
    """Return the start document of the derived run of a raw run, stream and image key.

    Its uid follows from these and from the hash of what decides the result. Metadata of the sample
    and the experiment are copied, unless event-model refuses them.

    step: distance of consecutive frame numbers
    attempt: which analysis of this raw run by these settings it is, from 1
    """
    provenance = _storable(ready.provenance.as_dict())
    decided = ready.provenance.result_hash
    start: dict[str, Any] = {
        "uid": derived_uid(raw.uid, raw.stream, raw.data_key, decided, attempt),
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
            "image_step": output.row_step,
            "frame_step": step,
            "attempt": attempt,
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
    validator = schema_validators[DocumentNames.start]
    described = {**_copied(raw.start.metadata), **start}
    try:
        validator.validate(described)
    except ValidationError as error:
        # A sample that event-model does not accept must not cost the analysis.
        _log.warning("metadata_not_copied", raw_uid=raw.uid, reason=error.message)
        validator.validate(start)
        return start
    return described


def _storable(value: Any) -> Any:
    """Turn mappings whose keys event-model refuses, such as paths, into lists of pairs."""
    if isinstance(value, Mapping):
        items = [(str(key), _storable(item)) for key, item in value.items()]
        if any("." in key or "/" in key or not key for key, _ in items):
            return [list(item) for item in items]
        return dict(items)
    return [_storable(item) for item in value] if isinstance(value, list | tuple) else value


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
