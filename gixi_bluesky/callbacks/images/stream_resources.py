"""From stream_resource documents to the place of each image on disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from gixi_bluesky.callbacks.documents.document_types import StreamResource
from gixi_bluesky.callbacks.images.file_names import file_name
from gixi_bluesky.callbacks.images.locations import (
    EventImage,
    FabioImage,
    FrameRef,
    Hdf5Image,
    NpyImage,
    TiffImage,
    Unreadable,
    with_a_name,
)
from gixi_bluesky.errors import DocumentError

__all__ = ["MAX_IMAGES_PER_EVENT", "UNREADABLE", "stream_image", "stream_stack"]

MAX_IMAGES_PER_EVENT = 10_000

# The mimetype of a file that cannot be read; status and reason are among the parameters.
UNREADABLE = "application/x-gixi-unreadable"


def stream_stack(resource: StreamResource, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the leading axes of one event's data, as descriptor and resource together say.

    Raises DocumentError for more images than an event may have.
    """
    stack = shape[:-2]
    multiplier = resource.parameters.get("multiplier")
    if isinstance(multiplier, int) and not stack and multiplier > 0:
        if multiplier > MAX_IMAGES_PER_EVENT:
            message = (
                f"stream_resource: got a multiplier of {min(multiplier, 2**63)}; expected at most "
                f"{MAX_IMAGES_PER_EVENT} images for an event"
            )
            raise DocumentError(message)
        return (multiplier,)
    return stack


def stream_image(resource: StreamResource, event: int, wanted: EventImage) -> FrameRef:
    """Return where an image of event number `event` of a stream resource lies."""
    try:
        kind = resource.mimetype.removeprefix("multipart/related;type=")
        if kind == "application/x-hdf5":
            return with_a_name(_in_hdf5(resource, event, wanted))
        if kind in _FILES:
            return with_a_name(_in_files(resource, _FILES[kind], event, wanted))
        if kind == UNREADABLE:
            status = "failed" if resource.parameters["status"] == "failed" else "unavailable"
            return Unreadable(status, str(resource.parameters["reason"]), resource.uri)
    except (KeyError, TypeError, ValueError) as error:
        return Unreadable("failed", f"stream_resource cannot be understood: {error!r}")
    return Unreadable("unavailable", f"no reader for files of type {resource.mimetype!r}")


def _in_hdf5(resource: StreamResource, event: int, wanted: EventImage) -> FrameRef:
    """Return where an image of one HDF5 file, or of a sequence of them, lies."""
    dataset = str(resource.parameters.get("dataset") or resource.parameters["path"])
    if not resource.parameters.get("template"):
        return Hdf5Image(resource.uri, dataset, event, wanted.number, wanted.stack, wanted.size)

    def build(name: str, position: int, size: tuple[int, int] | None) -> FrameRef:
        return Hdf5Image(name, dataset, position, rows_columns=size)

    return _in_files(resource, build, event, wanted)


def _in_files(
    resource: StreamResource,
    build: Callable[[str, int, tuple[int, int] | None], FrameRef],
    event: int,
    wanted: EventImage,
) -> FrameRef:
    """Return where an image of the resource lies: one file, or a sequence."""
    position = event * wanted.per_event + wanted.number
    template = resource.parameters.get("template")
    if not template:
        return build(resource.uri, position, wanted.size)
    per_file = _images_per_file(resource.parameters, wanted.stack)
    tail = file_name(
        str(template), str(resource.parameters.get("filename", "")), position // per_file
    )
    folder = resource.uri.rstrip("/") if tail.startswith("/") else resource.uri
    return build(folder + tail, position % per_file, wanted.size)


def _images_per_file(parameters: Mapping[str, Any], stack: tuple[int, ...]) -> int:
    """Return how many images one file of a sequence holds, as Tiled's consolidators see it."""
    per_event = math.prod(stack)
    if files := parameters.get("files_per_datum"):
        return max(per_event // int(files), 1)
    chunk = tuple(parameters.get("chunk_shape") or ())
    if parameters.get("join_method") == "concat":
        return max(int(chunk[0]), 1) if chunk else 1
    if parameters.get("multiplier"):
        return 1
    if stack and len(chunk) == len(stack) + 2 and per_event % int(chunk[0]) == 0:
        return int(chunk[0])
    return max(per_event, 1)


_FILES: dict[str, Callable[[str, int, tuple[int, int] | None], FrameRef]] = {
    "image/tiff": TiffImage,
    "application/x-npy": lambda name, image, _: NpyImage(name, image),
    "application/x-fabio": lambda name, image, _: FabioImage(name, image),
}
