"""Masks of pixels without data: mask files, gaps, dead and saturated pixels; True = masked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import FrameError
from gixi_bluesky.processing.pixels.calibration_images import read_any_size, read_reference
from gixi_bluesky.processing.settings import MaskFile

__all__ = [
    "invalid_pixels",
    "load_mask",
    "mask_of_any_size",
    "mask_warning",
    "require_image",
]

Bool = NDArray[np.bool_]

_MOST_MASKED = 0.5


def load_mask(
    mask: MaskFile | str | Path, shape: tuple[int, int], corner: tuple[int, int] | None = None
) -> Bool:
    """Read a mask of `shape` (rows, columns), laid as the array is read, True = masked.

    mask: the file, whose nonzero pixels are masked, or a file and the value of its good pixels;
    npy, HDF5 (FILE::DATASET, or the only 2-D dataset) and what fabio reads (edf, tiff, msk, …)
    corner: where frames begin on the detector, of which the mask may be whole
    Raises GeometryError for a file that cannot be read or does not fit the shape.
    """
    one = mask if isinstance(mask, MaskFile) else MaskFile(file=Path(mask))
    return _masked(read_reference(one.file, "mask", shape, corner=corner), one)


def mask_of_any_size(mask: MaskFile) -> Bool:
    """Read a mask of any size, otherwise as `load_mask`."""
    return _masked(read_any_size(mask.file, "mask"), mask)


def mask_warning(masked: Bool) -> str | None:
    """Return what a user should know of a mask that leaves less than half of the pixels."""
    share = float(masked.mean())
    if share <= _MOST_MASKED:
        return None
    return (
        f"the mask leaves out {share:.1%} of the pixels; if its good pixels are those that are "
        "not zero, write geometry.mask as {file: FILE, good: 1}"
    )


def _masked(values: NDArray[Any], mask: MaskFile) -> Bool:
    return np.asarray(values == 0 if mask.good else values != 0)


def invalid_pixels(frame: NDArray[Any], dummy: Sequence[float] = ()) -> Bool:
    """Return which pixels of an image (rows, columns) are marked as no data.

    Integer images: negative values and the dtype's maximum. Float images: values that are not
    finite, and `dummy`; negative values are noise.
    """
    if frame.dtype.kind == "u":
        return frame == np.iinfo(frame.dtype).max
    if frame.dtype.kind == "i":
        return (frame < 0) | (frame == np.iinfo(frame.dtype).max)
    invalid = ~np.isfinite(frame)
    for value in dummy:
        invalid |= frame == value
    return invalid


def require_image(frame: NDArray[Any]) -> NDArray[Any]:
    """Return the frame if it is a real image (rows, columns), else raise FrameError."""
    if frame.ndim != 2 or frame.size == 0:
        message = f"got an array of shape {frame.shape}; expected one image (rows, columns)"
        raise FrameError(message)
    if frame.dtype.kind not in "iuf":
        message = f"got an image of {frame.dtype}; expected integer or floating-point counts"
        raise FrameError(message)
    return frame
