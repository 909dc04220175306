"""Image files of detectors: how many images one holds, of which size, and where each of them is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import fabio
import h5py
import numpy as np
import tifffile

from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
from gixi_bluesky.callbacks.images.locations import (
    FabioImage,
    FrameRef,
    Hdf5Image,
    NpyImage,
    TiffImage,
)
from gixi_bluesky.errors import FrameError, RefusedPathError, UnavailableError
from gixi_bluesky.processing.hdf5_files import Hdf5File, open_hdf5

__all__ = ["IMAGE_SUFFIXES", "ImageFile", "image_references", "open_image_file"]

_TIFF = frozenset({".tif", ".tiff"})
_HDF5 = frozenset({".h5", ".hdf5", ".hdf", ".nxs", ".cxi"})
_NPY = frozenset({".npy"})
_FABIO = frozenset({".edf", ".cbf", ".img", ".mccd", ".mar3450", ".mar2300", ".gb", ".sfrm"})
IMAGE_SUFFIXES = _TIFF | _HDF5 | _NPY | _FABIO

# What tifffile decodes by itself: none, deflate (two codes), PackBits.
_TIFF_CODECS = frozenset({1, 8, 32946, 32773})
# Where detectors write, looked at before every other dataset.
_HDF5_PLACES = ("/entry/data/data", "/entry/instrument/detector/data")
_MAX_IMAGES = 100_000  # of one file, which a stream_datum may announce
_MAX_DEFAULTS = 8  # groups that name the next one as their default
_ANYWHERE = FileAccess((), {})


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file of one or more images.

    mimetype: what a stream_resource would call it
    dataset: the dataset of an HDF5 file, else empty
    """

    path: Path
    mimetype: str
    n_images: int = 1
    dataset: str = ""

    def reference(self, index: int) -> FrameRef:
        """Return where image `index` is, for a FrameReader."""
        name = str(self.path)
        match self.mimetype:
            case "application/x-hdf5":
                return Hdf5Image(name, self.dataset, index)
            case "image/tiff":
                return TiffImage(name, index)
            case "application/x-npy":
                return NpyImage(name, index)
            case _:
                return FabioImage(name, index)


def open_image_file(
    path: str | Path, dataset: str = "", access: FileAccess = _ANYWHERE
) -> ImageFile:
    """Look into an image file: TIFF, HDF5, NumPy, or what fabio reads (EDF, CBF, MarCCD, …).

    dataset: which one of an HDF5 file; empty = its default, else the largest stack of images
    access: which files may be read, itself and those that it leads to
    Raises UnavailableError when the file is absent or cannot be read, RefusedPathError when it or
    what it leads to may not be read, FrameError when it holds no images.
    """
    path = Path(path).absolute()
    access.admit(path)
    if not path.is_file():
        message = f"{path} is not there, or is no file; expected an image file"
        raise UnavailableError(message)
    look = _looker(path.suffix.lower(), access)
    try:
        file = look(path, dataset)
        if file.n_images > _MAX_IMAGES:
            message = f"{path} holds {file.n_images} images; at most {_MAX_IMAGES} are read"
            raise FrameError(message)
        return file
    except RefusedPathError:
        raise
    except FrameError as error:
        if not isinstance(error, UnavailableError):
            raise
        message = f"{path} cannot be read as an image file: {error}"
        raise UnavailableError(message) from error
    # Damaged files fail in as many ways as there are formats.
    except Exception as error:
        message = f"{path} cannot be read as an image file: {error}"
        raise UnavailableError(message) from error


def image_references(name: str, access: FileAccess = _ANYWHERE) -> Iterator[tuple[str, FrameRef]]:
    """Yield (label, reference) of each image that `name` means.

    name: a path, `path::dataset`, `path::3` (image 3 only) or `path::dataset::3`; the label of one
    of several images is `path::index`.
    Other arguments and errors as of `open_image_file`.
    """
    path, dataset, index = _parsed(name)
    file = open_image_file(path, dataset, access)
    if index is not None:
        if not 0 <= index < file.n_images:
            message = f"{path} holds {file.n_images} images; got number {index}, counted from 0"
            raise UnavailableError(message)
        yield name, file.reference(index)
        return
    for i in range(file.n_images):
        yield (f"{name}::{i}" if file.n_images > 1 else name), file.reference(i)


def _parsed(name: str) -> tuple[str, str, int | None]:
    path, *rest = name.split("::")
    index = int(rest.pop()) if rest and rest[-1].isdigit() else None
    return path, rest[0] if rest else "", index


def _looker(suffix: str, access: FileAccess) -> Callable[[Path, str], ImageFile]:
    if suffix in _TIFF:
        return _look_into_tiff
    if suffix in _HDF5:
        return partial(_look_into_hdf5, access)
    return _look_into_npy if suffix in _NPY else _look_with_fabio


def _look_into_tiff(path: Path, dataset: str) -> ImageFile:
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        if int(page.compression) in _TIFF_CODECS:
            _require_flat(page.shape, path)
            return ImageFile(path, "image/tiff", len(tiff.pages))
    return _look_with_fabio(path, dataset)


def _look_into_npy(path: Path, dataset: str) -> ImageFile:  # noqa: ARG001 - one signature for all
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    _require_flat(array.shape[-2:], path)
    return ImageFile(path, "application/x-npy", math.prod(array.shape[:-2]))


def _look_with_fabio(path: Path, dataset: str) -> ImageFile:  # noqa: ARG001 - one signature for all
    with fabio.open(str(path)) as image:
        _require_flat(image.data.shape, path)
        return ImageFile(path, "application/x-fabio", int(image.nframes))


def _look_into_hdf5(access: FileAccess, path: Path, dataset: str) -> ImageFile:
    with open_hdf5(path, access.admit) as file:
        name, found = (dataset, _stack(file, dataset)) if dataset else _image_dataset(file)
        if found is None:
            message = (
                f"{path} has no images at {name or 'any place'}; expected a dataset of shape "
                "(rows, columns) or (n, rows, columns); name it as FILE::/path/to/dataset"
            )
            raise FrameError(message)
        n = found.shape[0] if found.ndim == 3 else 1
        return ImageFile(path, "application/x-hdf5", n, name)


def _image_dataset(file: Hdf5File) -> tuple[str, h5py.Dataset | None]:
    """Return the NeXus default plot, where detectors write, or the largest stack of images."""
    for name in (_nexus_default(file), *_HDF5_PLACES):
        if name and (found := _stack(file, name)) is not None:
            return name, found
    stacks = [dataset for dataset in file.own_datasets() if _is_stack(dataset)]
    largest = max(stacks, key=lambda stack: stack.size, default=None)
    return ("" if largest is None else str(largest.name)), largest


def _stack(file: Hdf5File, name: str) -> h5py.Dataset | None:
    """Return the dataset of images that a name means, None where there is none."""
    try:
        found = file.dataset(name)
    except (FrameError, UnavailableError):
        return None
    return found if _is_stack(found) else None


def _nexus_default(file: Hdf5File) -> str:
    """Return the path of the signal that the file names as its default plot, empty if none."""
    path = PurePosixPath("/")
    for _ in range(_MAX_DEFAULTS):
        try:
            group = file.node(str(path))
        except (RefusedPathError, UnavailableError):
            return ""
        if not isinstance(group, h5py.Group):
            return ""
        if default := file.attribute(group, "default"):
            path /= default
        else:
            signal = file.attribute(group, "signal")
            return str(path / signal) if signal else ""
    return ""


def _is_stack(dataset: h5py.Dataset) -> bool:
    return dataset.ndim in (2, 3) and dataset.dtype.kind in "buif" and min(dataset.shape[-2:]) > 1


def _require_flat(shape: tuple[int, ...], path: Path) -> None:
    if len(shape) != 2:
        message = f"{path} holds an image of shape {shape}; expected (rows, columns)"
        raise FrameError(message)
