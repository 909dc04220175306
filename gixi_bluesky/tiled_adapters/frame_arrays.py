"""Arrays of a derived run with one row a frame, beside its polar images: cuts and q images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.tiled_adapters.schema import IMAGES

__all__ = [
    "CUTS",
    "CUT_GROUP",
    "Q_IMAGE",
    "Q_IMAGE_GROUP",
    "ArrayAxis",
    "FrameArray",
    "MeasuredCut",
    "StoredAxis",
    "StoredRows",
    "array_data_keys",
    "axis_configuration",
    "cut_arrays",
    "q_image_array",
]

CUTS = "cuts"
CUT_GROUP = "/entry/cuts"
Q_IMAGE = "q_image"
Q_IMAGE_GROUP = "/entry/q_image"

_DIGITS = 9  # of an axis in a document
_COUNTS = "mean counts per detector pixel; NaN = no data"


class MeasuredCut(Protocol):
    """The part of a cut that decides how it is stored."""

    @property
    def along(self) -> str: ...  # noqa: D102
    @property
    def unit(self) -> str: ...  # noqa: D102
    @property
    def axis(self) -> NDArray[np.float64]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class StoredAxis:
    """The axis of a stored cut.

    along: q, phi, q_xy or q_z; axis: (n,) centres of the bins
    """

    along: str
    unit: str
    axis: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ArrayAxis:
    """One axis of a row.

    name: q, phi, q_xy or q_z
    label: its name as a dimension in documents, distinct among the arrays of a stream
    values: (n,) centres of the bins
    """

    name: str
    label: str
    unit: str
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FrameArray:
    """An array of float32 whose row k belongs to frame k · step; NaN = no data.

    stream, key: where it stands in documents and in Tiled
    group, field: its NXdata group in HDF5 and its name there
    axes: of a row, the last one varies fastest
    """

    stream: str
    key: str
    group: str
    field: str
    description: str
    step: int
    axes: tuple[ArrayAxis, ...]

    @property
    def dataset(self) -> str:
        """The path in HDF5."""
        return f"{self.group}/{self.field}"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a row."""
        return tuple(len(axis.values) for axis in self.axes)

    @property
    def is_image(self) -> bool:
        """True if a row is an image, which is a chunk of its own."""
        return len(self.axes) > 1


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Number of rows of an array in a file."""

    array: FrameArray
    rows: int


def cut_arrays(name: str, cut: MeasuredCut, step: int) -> tuple[FrameArray, FrameArray]:
    """Return the arrays of a cut, (frame, bin): the intensity `name`, and `<name>_error`."""
    axes = (ArrayAxis(cut.along, f"{name}_{cut.along}", cut.unit, np.asarray(cut.axis)),)
    group = f"{CUT_GROUP}/{name}"
    return (
        FrameArray(CUTS, name, group, "intensity", _COUNTS, step, axes),
        FrameArray(
            CUTS, f"{name}_error", group, "intensity_errors", "standard error, counts", step, axes
        ),
    )


def q_image_array(q_xy: NDArray[np.float64], q_z: NDArray[np.float64], step: int) -> FrameArray:
    """Return the array of the images on (q_z, q_xy), row 0 at the lowest q_z."""
    axes = (
        ArrayAxis("q_z", "q_z", "1/angstrom", np.asarray(q_z)),
        ArrayAxis("q_xy", "q_xy", "1/angstrom", np.asarray(q_xy)),
    )
    return FrameArray(IMAGES, Q_IMAGE, Q_IMAGE_GROUP, "intensity", _COUNTS, step, axes)


def array_data_keys(arrays: Sequence[FrameArray], *, external: bool) -> dict[str, dict[str, Any]]:
    """Return the event-model data_keys of the arrays of one stream.

    external: the rows are in files; False = the event pages hold them
    """
    where = {"external": "STREAM:"} if external else {}
    return {
        array.key: {
            "source": "gixi_bluesky",
            "dtype": "array",
            "dtype_numpy": "<f4",
            "shape": list(array.shape),
            "dims": [axis.label for axis in array.axes],
            "units": "counts",
            "description": array.description,
            **where,
        }
        for array in arrays
    }


def axis_configuration(arrays: Sequence[FrameArray], time: float) -> Mapping[str, Any]:
    """Return the axes of the arrays as a descriptor's configuration, by their labels."""
    axes = {axis.label: axis for array in arrays for axis in array.axes}
    return {
        "data": {
            label: [float(f"{value:.{_DIGITS}g}") for value in axis.values]
            for label, axis in axes.items()
        },
        "timestamps": dict.fromkeys(axes, time),
        "data_keys": {
            label: {
                "source": "gixi_bluesky",
                "dtype": "array",
                "shape": [len(axis.values)],
                "units": axis.unit,
                "description": axis.name,
            }
            for label, axis in axes.items()
        },
    }
