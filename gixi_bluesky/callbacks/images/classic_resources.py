"""From classic resource and datum documents to the place of each image on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gixi_bluesky.callbacks.documents.document_types import Datum, Resource
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

__all__ = ["CLASSIC_SPECS", "classic_image"]

_DATASET = "/entry/data/data"  # where area detector HDF5 plugins write


def classic_image(resource: Resource, datum: Datum, wanted: EventImage) -> FrameRef:
    """Return where an image of a classic datum lies."""
    reader = _CLASSIC.get(resource.spec)
    if reader is None:
        known = ", ".join(sorted(_CLASSIC))
        return Unreadable(
            "unavailable",
            f"no reader for resource spec {resource.spec!r}; known are {known}. Where files lie "
            "as one of these has them, say so in input.specs",
        )
    try:
        return with_a_name(reader(resource, datum.kwargs, wanted))
    except (KeyError, TypeError, ValueError) as error:
        return Unreadable("failed", f"resource {resource.spec} cannot be understood: {error!r}")


_Reader = Callable[[Resource, Mapping[str, Any], EventImage], FrameRef]


def _npy_sequence(resource: Resource, datum: Mapping[str, Any], wanted: EventImage) -> FrameRef:
    return NpyImage(f"{resource.path}_{int(datum['index'])}.npy", wanted.number)


def _area_detector_hdf5(
    resource: Resource, datum: Mapping[str, Any], wanted: EventImage
) -> FrameRef:
    """Area detector files are flat: row = point · frame_per_point + image."""
    kwargs = {**resource.kwargs, **datum}
    point = kwargs["point_number"] if "point_number" in kwargs else kwargs["frame"]
    dataset = kwargs.get("dataset") or kwargs.get("key") or _DATASET
    row = int(point) * _frames_per_point(resource, wanted) + wanted.number
    return Hdf5Image(resource.path, str(dataset), row, rows_columns=wanted.size)


def _area_detector_tiff(
    resource: Resource, datum: Mapping[str, Any], wanted: EventImage
) -> FrameRef:
    return TiffImage(_area_detector_file(resource, datum, wanted), 0, wanted.size)


def _area_detector_single_hdf5(
    resource: Resource, datum: Mapping[str, Any], wanted: EventImage
) -> FrameRef:
    dataset = str(resource.kwargs.get("key") or _DATASET)
    name = _area_detector_file(resource, datum, wanted)
    return Hdf5Image(name, dataset, 0, rows_columns=wanted.size)


def _area_detector_cbf(
    resource: Resource, datum: Mapping[str, Any], wanted: EventImage
) -> FrameRef:
    first = int(resource.kwargs.get("initial_number", 1))
    return FabioImage(_area_detector_file(resource, datum, wanted, first), 0)


def _eiger(resource: Resource, datum: Mapping[str, Any], wanted: EventImage) -> FrameRef:
    """Return an image of the data files of a sequence, without the links of its master file."""
    kwargs = resource.kwargs
    per_file = int(kwargs.get("images_per_file") or kwargs.get("frame_per_point") or 1)
    number = int(datum["frame_num"]) * wanted.per_event if datum.get("frame_num") else 0
    file, row = divmod(number + wanted.number, per_file)
    name = f"{resource.path}_{int(datum['seq_id'])}_data_{file + 1:06d}.h5"
    return Hdf5Image(name, _DATASET, row, rows_columns=wanted.size)


def _area_detector_file(
    resource: Resource, datum: Mapping[str, Any], wanted: EventImage, first: int = 0
) -> str:
    """Return the path of a file that holds one image; the first one's number is `first`."""
    number = (
        first + int(datum["point_number"]) * _frames_per_point(resource, wanted) + wanted.number
    )
    name = file_name(str(resource.kwargs["template"]), str(resource.kwargs["filename"]), number)
    # The template's first %s is the folder, with its slash; file_name leaves the folder out.
    return f"{resource.path.rstrip('/')}/{name}"


def _frames_per_point(resource: Resource, wanted: EventImage) -> int:
    return int(resource.kwargs.get("frame_per_point") or wanted.per_event)


_CLASSIC: dict[str, _Reader] = {
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
