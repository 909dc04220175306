"""Frozen types of Bluesky documents, one for each kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "Datum",
    "Descriptor",
    "Document",
    "Event",
    "Resource",
    "RunStart",
    "RunStop",
    "StreamDatum",
    "StreamResource",
]

_SMALLEST_IMAGE = 8  # pixels on a side: smaller arrays are matrices, not detectors


@dataclass(frozen=True, slots=True)
class RunStart:
    """A raw run begins; `metadata` is the whole start document, as far as stores take it."""

    uid: str
    time: float
    scan_id: int | None
    metadata: Mapping[str, Any]

    @property
    def purpose(self) -> str:
        """Purpose of the run; "gixi" marks derived runs."""
        return str(self.metadata.get("purpose", ""))


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A stream of a run: its keys, the declared shapes of its arrays, device configuration.

    units: of the keys, and of those of the configuration, that state any
    unordered: keys whose shape may be (columns, rows)
    """

    uid: str
    run_uid: str
    stream: str
    keys: frozenset[str]
    shapes: Mapping[str, tuple[int, ...]]
    configuration: Mapping[str, Any]
    units: Mapping[str, str]
    unordered: frozenset[str] = frozenset()

    @property
    def image_keys(self) -> tuple[str, ...]:
        """The keys whose declared shape is that of a grey-scale image or a stack of them."""
        return tuple(sorted(key for key, shape in self.shapes.items() if _is_image(shape)))


@dataclass(frozen=True, slots=True)
class Event:
    """One reading; images are arrays, nested lists or, when they lie in a file, datum ids."""

    descriptor: str
    seq_num: int
    time: float
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """A file or folder in the classic style; `run_uid` is empty in old documents."""

    uid: str
    run_uid: str
    spec: str
    path: str
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Datum:
    """The part of a classic resource that belongs to one event."""

    datum_id: str
    resource: str
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StreamResource:
    """A file or sequence of files in the modern style, for one data key."""

    uid: str
    run_uid: str
    data_key: str
    uri: str
    mimetype: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StreamDatum:
    """`count` events of a stream resource, from index `first_index` and `first_seq_num` on.

    Indices count events of the resource, never rows of a file.
    """

    resource: str
    descriptor: str
    first_index: int
    first_seq_num: int
    count: int


@dataclass(frozen=True, slots=True)
class RunStop:
    """The end of a raw run; `abandoned`: assumed, after a long silence."""

    run_uid: str
    time: float
    exit_status: str
    reason: str
    num_events: Mapping[str, int]
    abandoned: bool = False


Document = RunStart | Descriptor | Event | Resource | Datum | StreamResource | StreamDatum | RunStop


def _is_image(shape: tuple[int, ...]) -> bool:
    # A colour image ends in an axis of 3 or 4 and so is none.
    return len(shape) >= 2 and min(shape[-2:]) >= _SMALLEST_IMAGE
