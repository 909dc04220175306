"""From resource and stream_resource documents to the place of each image on disk."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from gixi_bluesky.callbacks.documents.parsing import Datum, Resource, StreamResource
from gixi_bluesky.callbacks.images.locations import (
    FabioImage,
    FrameRef,
    Hdf5Image,
    NpyImage,
    TiffImage,
    Unreadable,
)
from gixi_bluesky.errors import DocumentError

__all__ = [
    "CLASSIC_SPECS",
    "MAX_IMAGES_PER_EVENT",
    "UNREADABLE",
    "classic_image",
    "stream_image",
    "stream_stack",
]

MAX_IMAGES_PER_EVENT = 10_000

# The mimetype of a file that cannot be read; status and reason are among the parameters.
UNREADABLE = "application/x-gixi-unreadable"

_DATASET = "/entry/data/data"  # where area detector HDF5 plugins write
# Formatting codes of file names; anything richer could fill the memory or reach attributes.
_PERCENT_CODE = re.compile(r"%(%|s|[-+ 0]*\d{0,2}(?:\.\d{1,2})?d)")
_BRACE_CODE = re.compile(r"\{(filename|0?(?::[+ 0<>-]*\d{0,2}d?)?)\}")


def classic_image(
    resource: Resource,
    datum: Datum,
    image: int,
    stack: tuple[int, ...],
    size: tuple[int, int] | None,
) -> FrameRef:
    """Return where image number `image` of a classic datum lies."""
    reader = _CLASSIC.get(resource.spec)
    if reader is None:
        known = ", ".join(sorted(_CLASSIC))
        return Unreadable(
            "unavailable",
            f"no reader for resource spec {resource.spec!r}; known are {known}. Where files lie "
            "as one of these has them, say so in input.specs",
        )
    try:
        return _with_a_name(reader(resource, datum.kwargs, image, stack, size))
    except (KeyError, TypeError, ValueError) as error:
        return Unreadable("failed", f"resource {resource.spec} cannot be understood: {error!r}")


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


def stream_image(
    resource: StreamResource,
    event: int,
    image: int,
    stack: tuple[int, ...],
    size: tuple[int, int] | None,
) -> FrameRef:
    """Return where image number `image` of event number `event` of a stream resource lies."""
    try:
        kind = resource.mimetype.removeprefix("multipart/related;type=")
        if kind == "application/x-hdf5":
            return _with_a_name(_in_hdf5(resource, event, image, stack, size))
        if kind in _FILES:
            position = event * math.prod(stack) + image
            return _with_a_name(_in_files(resource, _FILES[kind], position, stack, size))
        if kind == UNREADABLE:
            status = "failed" if resource.parameters["status"] == "failed" else "unavailable"
            return Unreadable(status, str(resource.parameters["reason"]), resource.uri)
    except (KeyError, TypeError, ValueError) as error:
        return Unreadable("failed", f"stream_resource cannot be understood: {error!r}")
    return Unreadable("unavailable", f"no reader for files of type {resource.mimetype!r}")


def _with_a_name(ref: FrameRef) -> FrameRef:
    """Return the reference if its names can be written, as they will be in reasons."""
    for name in (getattr(ref, "name", ""), getattr(ref, "dataset", "")):
        name.encode()  # raises UnicodeEncodeError, a ValueError
    return ref


def _in_hdf5(
    resource: StreamResource,
    event: int,
    image: int,
    stack: tuple[int, ...],
    size: tuple[int, int] | None,
) -> FrameRef:
    """Return where an image of one HDF5 file, or of a sequence of them, lies."""
    dataset = str(resource.parameters.get("dataset") or resource.parameters["path"])
    if not resource.parameters.get("template"):
        return Hdf5Image(resource.uri, dataset, event, image, stack, size)

    def build(name: str, position: int, size: tuple[int, int] | None) -> FrameRef:
        return Hdf5Image(name, dataset, position, rows_columns=size)

    return _in_files(resource, build, event * math.prod(stack) + image, stack, size)


def _in_files(
    resource: StreamResource,
    build: Callable[[str, int, tuple[int, int] | None], FrameRef],
    position: int,
    stack: tuple[int, ...],
    size: tuple[int, int] | None,
) -> FrameRef:
    """Return where image number `position` of the resource lies: one file, or a sequence."""
    template = resource.parameters.get("template")
    if not template:
        return build(resource.uri, position, size)
    per_file = _images_per_file(resource.parameters, stack)
    tail = _file_name(
        str(template), str(resource.parameters.get("filename", "")), position // per_file
    )
    folder = resource.uri.rstrip("/") if tail.startswith("/") else resource.uri
    return build(folder + tail, position % per_file, size)


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


def _file_name(template: str, filename: str, number: int) -> str:
    """Fill an old (%s%s_%06d.tif) or new ({:06d}.tif) template; the folder takes no place."""
    if _PERCENT_CODE.search(template) and "{" not in template:
        _require_plain(_PERCENT_CODE.sub("", template), "%", template)
        names = iter((filename,))
        return _PERCENT_CODE.sub(lambda code: _percent(code, names, number), template)
    _require_plain(_BRACE_CODE.sub("", template), "{}%", template)
    return _BRACE_CODE.sub(
        lambda code: filename if code[1] == "filename" else code[0].format(number), template
    )


def _percent(code: re.Match[str], names: Any, number: int) -> str:
    if code[1] == "%":
        return "%"
    return next(names, "") if code[1] == "s" else code[0] % number


def _require_plain(rest: str, forbidden: str, template: str) -> None:
    if any(sign in rest for sign in forbidden):
        message = f"the file name template {template[:80]!r} holds more than plain numbers"
        raise ValueError(message)


_Classic = Callable[
    [Resource, Mapping[str, Any], int, tuple[int, ...], tuple[int, int] | None], FrameRef
]


def _npy_sequence(
    resource: Resource,
    datum: Mapping[str, Any],
    image: int,
    stack: tuple[int, ...],  # noqa: ARG001 - one signature for all specs
    size: tuple[int, int] | None,  # noqa: ARG001
) -> FrameRef:
    return NpyImage(f"{resource.path}_{int(datum['index'])}.npy", image)


def _area_detector_hdf5(
    resource: Resource,
    datum: Mapping[str, Any],
    image: int,
    stack: tuple[int, ...],
    size: tuple[int, int] | None,
) -> FrameRef:
    """Area detector files are flat: row = point · frame_per_point + image."""
    kwargs = {**resource.kwargs, **datum}
    point = kwargs["point_number"] if "point_number" in kwargs else kwargs["frame"]
    dataset = kwargs.get("dataset") or kwargs.get("key") or _DATASET
    row = int(point) * _frames_per_point(resource, stack) + image
    return Hdf5Image(resource.path, str(dataset), row, rows_columns=size)


def _area_detector_tiff(
    resource: Resource,
    datum: Mapping[str, Any],
    image: int,
    stack: tuple[int, ...],
    size: tuple[int, int] | None,
) -> FrameRef:
    return TiffImage(_area_detector_file(resource, datum, image, stack), 0, size)


def _area_detector_single_hdf5(
    resource: Resource,
    datum: Mapping[str, Any],
    image: int,
    stack: tuple[int, ...],
    size: tuple[int, int] | None,
) -> FrameRef:
    dataset = str(resource.kwargs.get("key") or _DATASET)
    name = _area_detector_file(resource, datum, image, stack)
    return Hdf5Image(name, dataset, 0, rows_columns=size)


def _area_detector_cbf(
    resource: Resource,
    datum: Mapping[str, Any],
    image: int,
    stack: tuple[int, ...],
    size: tuple[int, int] | None,  # noqa: ARG001 - one signature for all specs
) -> FrameRef:
    first = int(resource.kwargs.get("initial_number", 1))
    return FabioImage(_area_detector_file(resource, datum, image, stack, first), 0)


def _eiger(
    resource: Resource,
    datum: Mapping[str, Any],
    image: int,
    stack: tuple[int, ...],
    size: tuple[int, int] | None,
) -> FrameRef:
    """Return an image of the data files of a sequence, without the links of its master file."""
    kwargs = resource.kwargs
    per_file = int(kwargs.get("images_per_file") or kwargs.get("frame_per_point") or 1)
    number = int(datum["frame_num"]) * math.prod(stack) if datum.get("frame_num") else 0
    file, row = divmod(number + image, per_file)
    name = f"{resource.path}_{int(datum['seq_id'])}_data_{file + 1:06d}.h5"
    return Hdf5Image(name, _DATASET, row, rows_columns=size)


def _area_detector_file(
    resource: Resource,
    datum: Mapping[str, Any],
    image: int,
    stack: tuple[int, ...],
    first: int = 0,
) -> str:
    """Return the path of a file that holds one image; the first one's number is `first`."""
    number = first + int(datum["point_number"]) * _frames_per_point(resource, stack) + image
    name = _file_name(str(resource.kwargs["template"]), str(resource.kwargs["filename"]), number)
    # The template's first %s is the folder, with its slash; _file_name leaves the folder out.
    return f"{resource.path.rstrip('/')}/{name}"


def _frames_per_point(resource: Resource, stack: tuple[int, ...]) -> int:
    return int(resource.kwargs.get("frame_per_point") or math.prod(stack))


_FILES: dict[str, Callable[[str, int, tuple[int, int] | None], FrameRef]] = {
    "image/tiff": TiffImage,
    "application/x-npy": lambda name, image, _: NpyImage(name, image),
    "application/x-fabio": lambda name, image, _: FabioImage(name, image),
}
_CLASSIC: dict[str, _Classic] = {
    "NPY_SEQ": _npy_sequence,
    "AD_HDF5": _area_detector_hdf5,
    "AD_HDF5_SWMR": _area_detector_hdf5,
    "AD_HDF5_SWMR_STREAM": _area_detector_hdf5,
    "AD_HDF5_SINGLE": _area_detector_single_hdf5,
    "AD_TIFF": _area_detector_tiff,
    "AD_CBF": _area_detector_cbf,
    "AD_EIGER": _eiger,
    "AD_EIGER2": _eiger,
    "AD_EIGER_SLICE": _eiger,
}
CLASSIC_SPECS = frozenset(_CLASSIC)
