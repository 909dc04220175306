"""Images that belong to the detector and lie in files of their own: masks, darks, flats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import GeometryError
from gixi_bluesky.provenance import require_regular

__all__ = ["read_reference"]

_HDF5 = (".h5", ".hdf5", ".nxs")


def read_reference(
    path: str | Path, what: str, shape: tuple[int, int], *, stack: bool = False
) -> NDArray[Any]:
    """Read an image of `shape` (rows, columns), laid as frames are read, before `flip`.

    npy, HDF5 (the only image in it) and whatever fabio reads (edf, tiff, msk, …).
    what: its name in messages; stack: whether it may be several images (n, rows, columns).
    Raises GeometryError for a file that cannot be read, holds no numbers or does not fit.
    """
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
    if image.shape[-2:] != shape or not 2 <= image.ndim <= most or not image.size:
        message = (
            f"the {what} {path} has shape {image.shape}; expected {shape}, the frame's as read "
            "(before flip)"
        )
        raise GeometryError(message)
    return image


def _read(path: Path, most: int) -> Any:
    require_regular(path)
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if path.suffix in _HDF5:
        return _read_hdf5(path, most)
    import fabio

    with fabio.open(str(path)) as image:
        return image.data


def _read_hdf5(path: Path, most: int) -> Any:
    # HDF5 is loaded where images are read, never in the process of the scan.
    from gixi_bluesky.processing.hdf5_files import open_hdf5

    with open_hdf5(path) as file:
        found = [one for one in file.own_datasets() if 2 <= one.ndim <= most]
        if len(found) != 1:
            kind = "2-D" if most == 2 else "2-D or 3-D"
            names = ", ".join(str(one.name).strip("/") for one in found[:10])
            message = f"it holds {len(found)} {kind} datasets ({names}); expected one"
            raise ValueError(message)
        return found[0][()]
