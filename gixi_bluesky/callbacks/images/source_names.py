"""Names of images in tables: file and number, or run and event."""

from __future__ import annotations

import math
from urllib.parse import unquote, urlsplit

from gixi_bluesky.callbacks.images.locations import (
    FabioImage,
    FrameRef,
    Hdf5Image,
    NpyImage,
    SummedImages,
    TiffImage,
    Unreadable,
)

__all__ = ["source_name"]

_LONGEST = 300  # as the column of the table


def source_name(image: FrameRef, run_uid: str, seq_num: int) -> str:
    """Return FILE::DATASET::NUMBER or FILE::NUMBER, which `process` takes, or RUN event NUMBER.

    Of a name that is too long, the end is kept.
    """
    match image:
        case Hdf5Image():
            number = image.event * math.prod(image.stack) + image.image
            name = f"{_path(image.name)}::{image.dataset}::{number}"
        case TiffImage():
            name = f"{_path(image.name)}::{image.page}"
        case NpyImage() | FabioImage():
            name = f"{_path(image.name)}::{image.image}"
        case SummedImages():
            name = source_name(image.parts[0], run_uid, seq_num)
        case Unreadable() if image.name:
            name = _path(image.name)
        case _:
            name = f"{run_uid} event {seq_num}"
    return name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}"


def _path(name: str) -> str:
    return unquote(urlsplit(name).path) if name.startswith("file:") else name
