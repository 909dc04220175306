"""Locations of the pixels of one frame, and the reader that fetches them."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
from gixi_bluesky.callbacks.images.readers import (
    read_fabio,
    read_npy,
    read_tiff,
    refuse_huge,
)
from gixi_bluesky.errors import FrameError, UnavailableError
from gixi_bluesky.processes.retries import retrying

__all__ = [
    "EventImage",
    "FabioImage",
    "FrameReader",
    "FrameRef",
    "Hdf5Image",
    "InlineImage",
    "NpyImage",
    "SpilledImage",
    "SummedImages",
    "TiffImage",
    "Unreadable",
    "check_image",
    "with_a_name",
]

Image = NDArray[Any]

_RETRY_S = 0.02
_REF_BYTES = 1024  # what a reference to a file costs in memory, about
_MARK_BYTES = 256  # what a frame without any costs


@dataclass(frozen=True, slots=True)
class EventImage:
    """One of the images of an event, as its descriptor declares them.

    number: within the event, from 0
    stack: leading axes of the event's data, before rows and columns
    size: (rows, columns); None = not declared
    """

    number: int
    stack: tuple[int, ...]
    size: tuple[int, int] | None

    @property
    def per_event(self) -> int:
        """Number of images of an event."""
        return math.prod(self.stack)


@dataclass(frozen=True, slots=True, eq=False)
class InlineImage:
    """The pixels themselves, as they came inside an event."""

    array: Image

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return int(self.array.nbytes) + _REF_BYTES


@dataclass(frozen=True, slots=True)
class _Reference:
    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return _REF_BYTES


@dataclass(frozen=True, slots=True)
class SpilledImage(_Reference):
    """An inline image that the queue has written to disk."""

    path: str


@dataclass(frozen=True, slots=True)
class Hdf5Image(_Reference):
    """Image `image` of event `event` in a dataset.

    stack: declared leading axes of one event's data; the dataset may be flat
        (events · stack[0], …, rows, columns) or hold them per event (events, *stack, rows, columns)
    rows_columns: declared size of one image; None = not declared
    """

    name: str
    dataset: str
    event: int
    image: int = 0
    stack: tuple[int, ...] = ()
    rows_columns: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class TiffImage(_Reference):
    """One page of a TIFF file."""

    name: str
    page: int = 0
    rows_columns: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class NpyImage(_Reference):
    """A NumPy file; `image` counts along its leading axes, if it has any."""

    name: str
    image: int = 0


@dataclass(frozen=True, slots=True)
class FabioImage(_Reference):
    """One image of a file in a format that fabio knows, such as EDF, CBF or MarCCD."""

    name: str
    image: int = 0


@dataclass(frozen=True, slots=True)
class SummedImages(_Reference):
    """Several images of one size that are added before the analysis."""

    parts: tuple[FrameRef, ...]


@dataclass(frozen=True, slots=True)
class Unreadable(_Reference):
    """A frame that was dropped, or that is known to be unreadable before a file is opened."""

    status: str
    reason: str
    name: str = ""  # of the file, where it is one

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return _MARK_BYTES


FrameRef = (
    InlineImage
    | SpilledImage
    | Hdf5Image
    | TiffImage
    | NpyImage
    | FabioImage
    | SummedImages
    | Unreadable
)


def with_a_name(ref: FrameRef) -> FrameRef:
    """Return the reference if its names can be written, as they will be in reasons.

    Raises ValueError for a name that is no text.
    """
    for name in (getattr(ref, "name", ""), getattr(ref, "dataset", "")):
        name.encode()  # raises UnicodeEncodeError, a ValueError
    return ref


def check_image(array: Any) -> Image:
    """Return `array` if it is a 2-D array of real numbers. Raises FrameError."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "buif" or array.ndim != 2:
        got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array)
        message = f"got {got}; expected a 2-D image of real numbers"
        raise FrameError(message)
    return array


class FrameReader:
    """Fetches the pixels of one frame, waiting for a file or row that is not there yet."""

    def __init__(self, access: FileAccess) -> None:
        self._access = access

    def read(self, ref: FrameRef, deadline: float = 0.0) -> Image:
        """Return the image (rows, columns); try again until `deadline` (time.monotonic).

        Raises UnavailableError when the file, dataset or row did not come, RefusedPathError when
        it lies outside the roots, FrameError when it is no such image.
        """
        patience = max(deadline - time.monotonic(), 0.0)
        again = retrying(
            UnavailableError, patience_s=patience, first_s=_RETRY_S, longest_s=_RETRY_S
        )
        return check_image(again(self._read, ref))

    def _read(self, ref: FrameRef) -> Image:
        match ref:
            case InlineImage():
                return ref.array
            case SpilledImage():
                return read_npy(Path(ref.path))
            case Hdf5Image():
                return self._read_hdf5(ref)
            case TiffImage():
                return read_tiff(self._access.locate(ref.name), ref.page, ref.rows_columns)
            case NpyImage():
                return read_npy(self._access.locate(ref.name), ref.image)
            case FabioImage():
                return read_fabio(self._access.locate(ref.name), ref.image)
            case SummedImages():
                message = "a sum is no single image; read its parts"
                raise FrameError(message)
            case Unreadable():
                raise UnavailableError(ref.reason)

    def _read_hdf5(self, ref: Hdf5Image) -> Image:
        # HDF5 is loaded where frames are read, never in the process of the scan.
        from gixi_bluesky.processing.hdf5_files import open_hdf5

        path = self._access.locate(ref.name)
        with open_hdf5(path, self._access.admit) as file:
            dataset = file.dataset(ref.dataset)
            index = _position(dataset.shape, ref, str(path))
            rows, columns = dataset.shape[-2:]
            refuse_huge(rows * columns * dataset.dtype.itemsize, path)
            refuse_huge(math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize, path)
            try:
                return np.asarray(dataset[index])
            except (OSError, RuntimeError) as error:
                message = f"{path} {ref.dataset} cannot be read at {index}: {error}"
                raise UnavailableError(message) from error


def _position(shape: tuple[int, ...], ref: Hdf5Image, path: str) -> tuple[int, ...]:
    """Return the leading indices of the image in a dataset of `shape`.

    Stream indices count events, not rows: a flat file of 4 images an event has row 4 · event.
    """
    if len(shape) < 2 or (ref.rows_columns and tuple(shape[-2:]) != ref.rows_columns):
        expected = ref.rows_columns or "(…, rows, columns)"
        message = f"{path} {ref.dataset} has shape {shape}; expected images of {expected}"
        raise FrameError(message)
    within = tuple(int(i) for i in np.unravel_index(ref.image, ref.stack)) if ref.stack else ()
    leading = shape[:-2]
    if len(leading) == len(ref.stack) + 1:
        index: tuple[int, ...] = (ref.event, *within)
    elif len(leading) == len(ref.stack) and leading:
        index = (ref.event * ref.stack[0] + within[0], *within[1:])
    elif not leading and ref.event == 0:
        index = ()
    elif leading and not ref.stack and all(n == 1 for n in leading[1:]):
        index = (ref.event, *(0 for _ in leading[1:]))
    else:
        message = (
            f"{path} {ref.dataset} has shape {shape}; expected one or no axis more than the "
            f"declared {(*ref.stack, *shape[-2:])}"
        )
        raise FrameError(message)
    if any(i >= n for i, n in zip(index[:1], leading[:1], strict=True)):
        message = f"{path} {ref.dataset} has {leading[0]} rows; row {index[0]} is not there (yet)"
        raise UnavailableError(message)
    if any(i >= n for i, n in zip(index, leading, strict=True)):
        message = f"{path} {ref.dataset} has shape {shape}; it has no image at {index}"
        raise FrameError(message)
    return index
