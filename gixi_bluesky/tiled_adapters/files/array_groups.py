"""Cuts and q images in HDF5: an NXdata group for each, with a row a frame."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.tiled_adapters.files.hdf5_text import group_of, text
from gixi_bluesky.tiled_adapters.files.polar_images import create_stack, is_stored, write_image
from gixi_bluesky.tiled_adapters.frame_arrays import (
    CUT_GROUP,
    Q_IMAGE_GROUP,
    FrameArray,
    StoredAxis,
    cut_arrays,
    q_image_array,
)

__all__ = [
    "create_array",
    "create_arrays",
    "create_group",
    "stored_arrays",
    "stored_rows",
    "write_rows",
]

_STEP = "frame_step"
_CHUNK_BYTES = 64 << 10
_ROWS_PER_CHUNK = 4096


def create_arrays(file: h5py.File, arrays: Iterable[FrameArray], rows: int | None = None) -> None:
    """Create the datasets of arrays, resizable when `rows` is None, filled with NaN."""
    for array in arrays:
        create_array(file, array, rows)


def create_array(file: h5py.File, array: FrameArray, rows: int | None = None) -> h5py.Dataset:
    """Create the dataset of an array, and its group with the axes unless it is there."""
    if array.group not in file:
        create_group(file, array, rows)
    if array.is_image:
        return create_stack(file, array.dataset, array.shape, rows)
    chunk = max(_CHUNK_BYTES // (4 * array.shape[0]), 1)
    dataset = file.create_dataset(
        array.dataset,
        shape=(rows or 0, *array.shape),
        maxshape=(rows, *array.shape),
        dtype="<f4",
        fillvalue=np.nan,
        # A growing file is not compressed: a chunk that is written again would leave a hole.
        **(
            {"chunks": (chunk, *array.shape)}
            if rows is None
            else {"compression": "gzip", "compression_opts": 4, "shuffle": True}
            if rows
            else {}
        ),
    )
    dataset.attrs["units"] = text("counts")
    dataset.attrs["long_name"] = text(array.description)
    return dataset


def create_group(file: h5py.File, array: FrameArray, rows: int | None) -> None:
    """Create the NXdata group of an array with its axes, for `rows` rows or growing."""
    parent, name = array.group.rsplit("/", 1)
    if parent not in file:
        group_of(file["/entry"], parent.rsplit("/", 1)[1], "NXcollection")
    how = "image" if array.is_image else "spectrum"
    group = group_of(file[parent], name, "NXdata", signal="intensity", interpretation=how)
    group.attrs["axes"] = np.array([b"frame", *(axis.name.encode() for axis in array.axes)])
    group.attrs[_STEP] = array.step
    for axis in array.axes:
        dataset = group.create_dataset(axis.name, data=np.asarray(axis.values, dtype="<f8"))
        dataset.attrs["units"] = text(axis.unit)
    frames = group.create_dataset(
        "frame",
        data=np.arange(rows or 0, dtype="<i8") * array.step,
        maxshape=(rows,),
        chunks=(_ROWS_PER_CHUNK,) if rows is None else None,
    )
    frames.attrs["long_name"] = text("frame")


def write_rows(file: h5py.File, array: FrameArray, rows: Mapping[int, NDArray[np.float32]]) -> None:
    """Write rows of an array, which grows as needed; rows left out stay NaN."""
    if not rows:
        return
    dataset = file[array.dataset]
    _grow(file, array, dataset, max(rows) + 1)
    for row, values in sorted(rows.items()):
        if array.is_image:
            write_image(dataset, row, np.asarray(values, dtype="<f4"))
        else:
            dataset[row] = values


def stored_arrays(file: h5py.File) -> list[FrameArray]:
    """Return the arrays of a file, with their axes; those of older files have no step and none."""
    arrays: list[FrameArray] = []
    if Q_IMAGE_GROUP in file:
        group = file[Q_IMAGE_GROUP]
        step = int(group.attrs[_STEP])
        arrays.append(q_image_array(group["q_xy"][()], group["q_z"][()], step))
    for name, group in file[CUT_GROUP].items() if CUT_GROUP in file else ():
        if _STEP in group.attrs:
            arrays += cut_arrays(name, _axis_of(group), int(group.attrs[_STEP]))
    return [array for array in arrays if array.dataset in file]


def stored_rows(
    dataset: h5py.Dataset, array: FrameArray, committed: Collection[int] | None
) -> dict[int, NDArray[np.float32]]:
    """Return the rows of a dataset that hold data, of committed frames if these are given."""
    wanted = [
        row for row in range(len(dataset)) if committed is None or row * array.step in committed
    ]
    if array.is_image:
        return {row: dataset[row] for row in wanted if is_stored(dataset, row)}
    values = dataset[()]
    return {row: values[row] for row in wanted}


def _axis_of(group: h5py.Group) -> StoredAxis:
    """Return the axis of a cut in a file."""
    along = str(_decoded(group.attrs["axes"][1]))
    return StoredAxis(along, str(_decoded(group[along].attrs["units"])), group[along][()])


def _grow(file: h5py.File, array: FrameArray, dataset: h5py.Dataset, rows: int) -> None:
    if rows > len(dataset):
        dataset.resize(rows, axis=0)
    frames = file[array.group]["frame"]
    before = len(frames)
    if rows > before:
        frames.resize(rows, axis=0)
        frames[before:] = np.arange(before, rows) * array.step


def _decoded(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
