"""Files of single images, read with bounds: TIFF, NumPy, and the formats that fabio knows."""

from __future__ import annotations

import bz2
import gzip
import math
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import tifffile
from numpy.typing import NDArray

from gixi_bluesky.errors import FrameError, UnavailableError
from gixi_bluesky.plurals import counted

__all__ = [
    "read_fabio",
    "read_npy",
    "read_tiff",
    "refuse_disguise",
    "refuse_huge",
    "tiff_images",
]

Image = NDArray[Any]

_MAX_IMAGE_BYTES = 1 << 30
_CHUNK_BYTES = 1 << 20
_PACKED = (".gz", ".bz2")
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def read_tiff(path: Path, page: int, rows_columns: tuple[int, int] | None = None) -> Image:
    """Read one page. Raises UnavailableError or, for an image of another size, FrameError."""
    try:
        with tifffile.TiffFile(path) as tiff:
            behind = tiff_images(tiff) > len(tiff.pages)
            series = tiff.pages[0 if behind else page]
            size = tuple(series.shape)
            if rows_columns and size != rows_columns:
                message = f"{path} holds an image of {size}; expected {rows_columns}"
                raise FrameError(message)
            refuse_huge(math.prod(size) * np.dtype(series.dtype).itemsize, path)
            if behind:
                return _image_behind(path, tiff, page)
            return np.asarray(series.asarray(maxworkers=1))
    except FrameError:
        raise
    # A half-written TIFF fails in as many ways as there are tags; all mean "not yet" or "damaged".
    except Exception as error:
        message = f"{path} page {page} is not there, or no readable TIFF (yet): {error}"
        raise UnavailableError(message) from error


def tiff_images(tiff: tifffile.TiffFile) -> int:
    """Return how many images a TIFF file holds.

    ImageJ writes large stacks with one directory, and the other images behind the first one.
    """
    stack = tiff.series[0] if tiff.is_imagej and len(tiff.pages) == 1 else None
    if stack is None or stack.dataoffset is None or len(stack.shape) < 3:
        return len(tiff.pages)
    return math.prod(stack.shape[:-2])


def _image_behind(path: Path, tiff: tifffile.TiffFile, image: int) -> Image:
    stack = tiff.series[0]
    if image >= tiff_images(tiff) or stack.dataoffset is None:
        message = f"{path} holds {counted(tiff_images(tiff), 'image')}; image {image} was announced"
        raise FrameError(message)
    size = stack.shape[-2:]
    dtype = np.dtype(stack.dtype).newbyteorder(tiff.byteorder)
    offset = stack.dataoffset + image * math.prod(size) * dtype.itemsize
    mapped = np.memmap(path, dtype, "r", offset, size)
    return np.array(mapped, dtype=dtype.newbyteorder("="))


def read_fabio(path: Path, image: int) -> Image:
    """Read one image of a file in a format of its own. Raises UnavailableError, FrameError."""
    try:
        refuse_disguise(path)
        # It loads HDF5, which stays out of the process of the scan.
        import fabio

        with fabio.open(str(path)) as file:
            if not 0 <= image < file.nframes:
                message = (
                    f"{path} holds {counted(file.nframes, 'image')}; image {image} was announced"
                )
                raise FrameError(message)
            frame = file.getframe(image) if file.nframes > 1 else file
            refuse_huge(math.prod(frame.shape) * np.dtype(frame.dtype).itemsize, path)
            return np.asarray(frame.data)
    except FrameError:
        raise
    # Each format fails in its own way, a half-written file in several.
    except Exception as error:
        message = f"{path} is not there, or no readable image file (yet): {error!r}"
        raise UnavailableError(message) from error


def read_npy(path: Path, image: int | None = None) -> Image:
    """Read a NumPy file, or image number `image` of the stack it holds; never unpickles.

    Raises UnavailableError, FrameError.
    """
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        if image is not None and mapped.ndim > 2:
            mapped = _one_of(mapped.reshape(-1, *mapped.shape[-2:]), image, path)
        refuse_huge(mapped.nbytes, path)
        return np.array(mapped)
    except FrameError:
        raise
    except (OSError, ValueError, EOFError) as error:
        message = f"{path} is not there, or no readable NumPy file (yet): {error}"
        raise UnavailableError(message) from error


def _one_of(stack: Image, image: int, path: Path) -> Image:
    if image >= len(stack):
        message = f"{path} holds {counted(len(stack), 'image')}; image {image} was announced"
        raise FrameError(message)
    return np.asarray(stack[image])


def refuse_disguise(path: Path) -> None:
    """Raise FrameError for what fabio would open as HDF5, whose links are not checked there.

    Also for compressed files that would fill the memory: their headers come too late.
    """
    with _unpacked(path) as file:
        start = file.read(len(_HDF5_SIGNATURE))
        if start == _HDF5_SIGNATURE or "::" in path.name:
            message = f"{path} is an HDF5 file; expected an image format such as EDF or CBF"
            raise FrameError(message)
        nbytes = len(start)
        while path.suffix.lower() in _PACKED and (chunk := file.read(_CHUNK_BYTES)):
            nbytes += len(chunk)
            refuse_huge(nbytes, path)


def _unpacked(path: Path) -> IO[bytes]:
    match path.suffix.lower():
        case ".gz":
            return cast("IO[bytes]", gzip.open(path, "rb"))
        case ".bz2":
            return cast("IO[bytes]", bz2.open(path, "rb"))
        case _:
            return path.open("rb")


def refuse_huge(nbytes: int, path: Path) -> None:
    """Raise FrameError for an image that would fill the memory."""
    if nbytes > _MAX_IMAGE_BYTES:
        message = f"{path} holds an image of {nbytes} bytes; at most {_MAX_IMAGE_BYTES} are read"
        raise FrameError(message)
