"""Stacks of polar images in HDF5: one image a chunk, with the filters shuffle and gzip.

Every HDF5 reader has these filters. The chunks are compressed here, by ISA-L, which is six times
as fast as HDF5's own zlib (`benchmarks/image_filters.py`), and written as they are.
"""

from __future__ import annotations

import zlib
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the filters of files from earlier versions
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from gixi_bluesky.tiled_adapters.schema import IMAGE_DATASET

__all__ = [
    "checksum",
    "copy_image",
    "create_images",
    "create_stack",
    "is_stored",
    "write_image",
]

_LEVEL = 2
_FILTERS = {"compression": "gzip", "compression_opts": _LEVEL, "shuffle": True}
_ROWS_PER_CHUNK = 4096


def create_images(file: h5py.File, shape: tuple[int, int], rows: int | None = None) -> h5py.Dataset:
    """Create the images (frame, phi, q), resizable when `rows` is None, filled with NaN."""
    images = create_stack(file, IMAGE_DATASET, shape, rows)
    frames = file.create_dataset(
        "/entry/polar/frame",
        shape=(rows or 0,),
        maxshape=(None if rows is None else rows,),
        dtype="<i8",
        chunks=(_ROWS_PER_CHUNK,) if rows is None else None,
    )
    frames.attrs["long_name"] = np.bytes_("frame")
    return images


def create_stack(
    file: h5py.File, dataset: str, shape: tuple[int, ...], rows: int | None = None
) -> h5py.Dataset:
    """Create images of `shape` at the path `dataset`, resizable when `rows` is None."""
    images = file.create_dataset(
        dataset,
        shape=(rows or 0, *shape),
        maxshape=(None if rows is None else rows, *shape),
        dtype="<f4",
        chunks=(1, *shape),
        fillvalue=np.nan,
        **_FILTERS,
    )
    images.attrs["units"] = np.bytes_("counts")
    images.attrs["long_name"] = np.bytes_("mean counts per detector pixel; NaN = no data")
    return images


def write_image(images: h5py.Dataset, row: int, image: NDArray[np.float32]) -> None:
    """Write the image of a row, (n_phi, n_q) float32."""
    if image.shape != images.shape[1:]:
        message = f"got an image of shape {image.shape}; expected {images.shape[1:]}"
        raise ValueError(message)
    images.id.write_direct_chunk((row, 0, 0), _packed(image))


def copy_image(source: h5py.Dataset, row: int, target: h5py.Dataset) -> int:
    """Copy a row and return the checksum of its image.

    Raises OSError when it cannot be read. A chunk with the filters of the target is not packed
    again.
    """
    image = source[row]
    if _filters(source) == _filters(target):
        mask, packed = source.id.read_direct_chunk((row, 0, 0))
        target.id.write_direct_chunk((row, 0, 0), packed, mask)
    else:
        write_image(target, row, image)
    return checksum(image)


def is_stored(images: h5py.Dataset, row: int) -> bool:
    """Return True when the row was written; others are NaN throughout."""
    return images.id.get_chunk_info_by_coord((row, 0, 0)).byte_offset is not None


def checksum(image: NDArray[Any]) -> int:
    """Return the CRC-32 of an image as little-endian float32."""
    return zlib.crc32(np.ascontiguousarray(image, dtype="<f4").data)


def _packed(image: NDArray[np.float32]) -> bytes:
    array = np.ascontiguousarray(image, dtype="<f4")
    shuffled = np.ascontiguousarray(array.view(np.uint8).reshape(-1, array.itemsize).T)
    return isal_zlib.compress(shuffled.data, _LEVEL)


def _filters(images: h5py.Dataset) -> list[tuple[int, tuple[int, ...]]]:
    plist = images.id.get_create_plist()
    filters = (plist.get_filter(k) for k in range(plist.get_nfilters()))
    return [(code, tuple(values)) for code, _, values, _ in filters]
