"""Images that belong to the detector and lie in files of their own: masks, darks, flats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import GeometryError
from gixi_bluesky.provenance import require_regular

__all__ = ["file_of", "read_any_size", "read_reference"]

_HDF5 = (".h5", ".hdf5", ".nxs")
_TIFF = (".tif", ".tiff")


def file_of(path: str | Path) -> Path:
    """Return the file that FILE or FILE::DATASET names."""
    return Path(str(path).partition("::")[0])


def read_reference(
    path: str | Path,
    what: str,
    shape: tuple[int, int],
    *,
    stack: bool = False,
    corner: tuple[int, int] | None = None,
) -> NDArray[Any]:
    """Read an image of `shape` (rows, columns), laid as frames are read, before `flip`.

    npy, HDF5 (FILE::DATASET, or the only image in it) and what fabio reads (edf, tiff, msk, …).
    what: its name in messages; stack: whether it may be several images (n, rows, columns)
    corner: where frames begin on the detector; an image of the whole detector is then cut to them
    Raises GeometryError for a file that cannot be read, holds no numbers or does not fit.
    """
    image = read_any_size(path, what, stack=stack)
    if corner is not None and image.shape[-2:] != shape:
        (row, column), (rows, columns) = corner, shape
        image = image[..., row : row + rows, column : column + columns]
    if image.shape[-2:] != shape:
        message = (
            f"the {what} {path} has shape {image.shape}; expected {shape}, the frame's as read "
            "(before flip)"
        )
        raise GeometryError(message)
    return image


def read_any_size(path: str | Path, what: str, *, stack: bool = False) -> NDArray[Any]:
    """Read an image of any size, otherwise as `read_reference`."""
    path = Path(path)
    most = 3 if stack else 2
    try:
        image = np.asarray(_read(path, most))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        message = f"cannot read the {what} {path}: {error}"
        raise GeometryError(message) from error
    if image.dtype.kind not in "biuf":
        message = f"the {what} {path} holds {image.dtype}; expected numbers"
        raise GeometryError(message)
    if not 2 <= image.ndim <= most or not image.size:
        message = f"the {what} {path} has shape {image.shape}; expected an image (rows, columns)"
        raise GeometryError(message)
    return image


def _read(path: Path, most: int) -> Any:
    file, _, dataset = str(path).partition("::")
    path = Path(file)
    suffix = path.suffix.lower()
    require_regular(path)
    if dataset and suffix not in _HDF5:
        message = f"a dataset {dataset} is named, which only files ending in {_HDF5} have"
        raise ValueError(message)
    if suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if suffix in _HDF5:
        return _read_hdf5(path, dataset, most)
    if suffix in _TIFF and (image := _read_tiff(path)) is not None:
        return image
    import fabio

    with fabio.open(str(path)) as image:
        return image.data


def _read_tiff(path: Path) -> NDArray[Any] | None:
    """Return the values as they are stored, None for a compression that tifffile does not know.

    fabio inverts images of one bit, such as masks, where 0 is to be shown as white.
    """
    import tifffile

    try:
        return np.asarray(tifffile.imread(path, maxworkers=1))
    except (ValueError, KeyError, tifffile.TiffFileError):
        return None


def _read_hdf5(path: Path, dataset: str, most: int) -> Any:
    # HDF5 is loaded where images are read, never in the process of the scan.
    from gixi_bluesky.processing.hdf5_files import open_hdf5

    with open_hdf5(path) as file:
        if dataset:
            return file.dataset(dataset)[()]
        found = [one for one in file.own_datasets() if 2 <= one.ndim <= most]
        if len(found) != 1:
            kind = "2-D" if most == 2 else "2-D or 3-D"
            names = ", ".join(str(one.name) for one in found[:10])
            message = (
                f"it holds {len(found)} {kind} datasets ({names}); expected one, or its name as "
                "FILE::DATASET"
            )
            raise ValueError(message)
        return found[0][()]
