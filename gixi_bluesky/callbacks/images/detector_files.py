"""Image files of detectors: how many images one holds, of which size, and where each of them is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import fabio
import numpy as np
import tifffile

from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
from gixi_bluesky.callbacks.images.hdf5_images import AbsentFilesError, find_images
from gixi_bluesky.callbacks.images.locations import (
    FabioImage,
    FrameRef,
    Hdf5Image,
    NpyImage,
    TiffImage,
)
from gixi_bluesky.callbacks.images.readers import refuse_disguise, tiff_images
from gixi_bluesky.errors import FrameError, RefusedPathError, UnavailableError
from gixi_bluesky.plurals import counted

__all__ = [
    "ImageFile",
    "ImagePart",
    "NamedImages",
    "image_suffix",
    "is_image_file",
    "open_image_file",
    "open_named",
]

_TIFF = frozenset({".tif", ".tiff"})
_HDF5 = frozenset({".h5", ".hdf5", ".hdf", ".nxs", ".cxi"})
_NPY = frozenset({".npy"})
_FABIO = frozenset({".edf", ".cbf", ".img", ".mccd", ".mar3450", ".mar2300", ".gb", ".sfrm"})
_COMPRESSED = frozenset({".gz", ".bz2"})

# What tifffile decodes by itself: none, deflate (two codes), PackBits.
_TIFF_CODECS = frozenset({1, 8, 32946, 32773})
_MAX_IMAGES = 100_000  # of one file, which a stream_datum may announce
_ANYWHERE = FileAccess((), {})


@dataclass(frozen=True, slots=True)
class ImagePart:
    """Images (*leading) that follow each other in a file; `dataset` of an HDF5 file, else empty."""

    dataset: str = ""
    leading: tuple[int, ...] = ()

    @property
    def n_images(self) -> int:
        """Number of images."""
        return math.prod(self.leading)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file of one or more images.

    mimetype: what a stream_resource would call it
    parts: where the images are, in their order
    other_files: files that hold the images instead, where the file only leads to them
    notes: what a user should know of what was taken
    """

    path: Path
    mimetype: str
    parts: tuple[ImagePart, ...] = (ImagePart(),)
    other_files: frozenset[Path] = frozenset()
    notes: tuple[str, ...] = ()

    @property
    def n_images(self) -> int:
        """Number of images."""
        return sum(part.n_images for part in self.parts)

    @property
    def dataset(self) -> str:
        """The dataset of an HDF5 file, the first and the last one of several; else empty."""
        first, last = self.parts[0].dataset, self.parts[-1].dataset
        return first if len(self.parts) == 1 else f"{first} to {last}"

    def reference(self, index: int) -> FrameRef:
        """Return where image `index` is, for a FrameReader."""
        name = str(self.path)
        match self.mimetype:
            case "application/x-hdf5":
                return self._in_hdf5(index)
            case "image/tiff":
                return TiffImage(name, index)
            case "application/x-npy":
                return NpyImage(name, index)
            case _:
                return FabioImage(name, index)

    def _in_hdf5(self, index: int) -> FrameRef:
        name = str(self.path)
        for part in self.parts:
            if index < part.n_images:
                stack = part.leading[1:]
                event, image = divmod(index, math.prod(stack))
                return Hdf5Image(name, part.dataset, event, image, stack)
            index -= part.n_images
        message = f"{name} holds {counted(self.n_images, 'image')}"
        raise IndexError(message)


def image_suffix(path: Path) -> str:
    """Return the suffix that names the format, in lower case; that of x.cbf.gz is .cbf."""
    compressed = path.suffix.lower() in _COMPRESSED
    return Path(path.stem).suffix.lower() if compressed else path.suffix.lower()


def is_image_file(path: Path) -> bool:
    """Return whether the name of a file is that of a format that is read."""
    suffix = image_suffix(path)
    if path.suffix.lower() in _COMPRESSED:
        return suffix in _FABIO | _TIFF
    return suffix in _TIFF | _HDF5 | _NPY | _FABIO


def open_image_file(
    path: str | Path, dataset: str = "", access: FileAccess = _ANYWHERE
) -> ImageFile:
    """Look into an image file: TIFF, HDF5, NumPy, or what fabio reads (EDF, CBF, MarCCD, …).

    dataset: which one of an HDF5 file, or the group that it is below; empty = by the rules of NeXus
        and Dectris, see `hdf5_images`
    access: which files may be read, itself and those that it leads to
    Raises UnavailableError when the file is absent or cannot be read, RefusedPathError when it or
    what it leads to may not be read, FrameError when it holds no images or leaves a choice.
    """
    path = Path(path).absolute()
    access.admit(path)
    if not path.is_file():
        message = f"{path} is not there, or is no file; expected an image file"
        raise UnavailableError(message)
    look = _looker(path, access)
    try:
        file = look(path, dataset)
        if file.n_images > _MAX_IMAGES:
            message = (
                f"{path} holds {counted(file.n_images, 'image')}; at most {_MAX_IMAGES} are read"
            )
            raise FrameError(message)
        return file
    except (RefusedPathError, AbsentFilesError):
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


@dataclass(frozen=True, slots=True)
class NamedImages:
    """The images that a name on a command line means; `index` chooses one of the file."""

    name: str
    file: ImageFile
    index: int | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user: the dataset that was chosen, and missing datasets."""
        taken = (f"the images are {self.file.dataset}",) if self.file.dataset else ()
        return taken + self.file.notes

    def references(self) -> Iterator[tuple[str, FrameRef]]:
        """Yield (label, reference); the label of one of several images is `name::index`."""
        if self.index is not None:
            yield self.name, self.file.reference(self.index)
            return
        n = self.file.n_images
        for i in range(n):
            yield (f"{self.name}::{i}" if n > 1 else self.name), self.file.reference(i)


def open_named(name: str, access: FileAccess = _ANYWHERE) -> NamedImages:
    """Look up what a name means.

    name: a path, `path::dataset`, `path::3` (image 3 only) or `path::dataset::3`
    Other arguments and errors as of `open_image_file`.
    """
    path, dataset, index = _parsed(name)
    file = open_image_file(path, dataset, access)
    if index is not None and not 0 <= index < file.n_images:
        message = (
            f"{path} holds {counted(file.n_images, 'image')}; got number {index}, counted from 0"
        )
        raise UnavailableError(message)
    return NamedImages(name, file, index)


def _parsed(name: str) -> tuple[str, str, int | None]:
    path, *rest = name.split("::")
    index = int(rest.pop()) if rest and rest[-1].isdigit() else None
    return path, rest[0] if rest else "", index


def _looker(path: Path, access: FileAccess) -> Callable[[Path, str], ImageFile]:
    suffix = path.suffix.lower()
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
            return ImageFile(path, "image/tiff", _images(tiff_images(tiff)))
    return _look_with_fabio(path, dataset)


def _look_into_npy(path: Path, dataset: str) -> ImageFile:  # noqa: ARG001 - one signature for all
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    _require_flat(array.shape[-2:], path)
    return ImageFile(path, "application/x-npy", _images(math.prod(array.shape[:-2])))


def _look_with_fabio(path: Path, dataset: str) -> ImageFile:  # noqa: ARG001 - one signature for all
    refuse_disguise(path)
    with fabio.open(str(path)) as image:
        _require_flat(image.data.shape, path)
        return ImageFile(path, "application/x-fabio", _images(int(image.nframes)))


def _images(n: int) -> tuple[ImagePart, ...]:
    return (ImagePart(leading=(n,)),)


def _look_into_hdf5(access: FileAccess, path: Path, dataset: str) -> ImageFile:
    found = find_images(path, access.admit, dataset)
    notes: tuple[str, ...] = ()
    if found.absent:
        absent = f"{len(found.absent)} of {len(found.absent) + len(found.datasets)}"
        notes = (f"{absent} datasets of images are not there, such as {found.absent[0]}",)
    files = frozenset[Path]().union(*(one.files for one in found.datasets))
    return ImageFile(
        path,
        "application/x-hdf5",
        tuple(ImagePart(one.name, one.leading) for one in found.datasets),
        frozenset() if path.resolve() in files else files,
        notes,
    )


def _require_flat(shape: tuple[int, ...], path: Path) -> None:
    if len(shape) != 2:
        message = f"{path} holds an image of shape {shape}; expected (rows, columns)"
        raise FrameError(message)
