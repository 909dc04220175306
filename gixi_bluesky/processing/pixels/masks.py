"""Which pixels are data: mask files, gaps, dead and saturated pixels; True in a mask = masked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import FrameError
from gixi_bluesky.processing.pixels.calibration_images import read_reference

__all__ = ["invalid_pixels", "load_mask", "require_image", "valid_pixels"]

Bool = NDArray[np.bool_]


def load_mask(path: str | Path, shape: tuple[int, int]) -> Bool:
    """Read a mask of `shape` (rows, columns), laid as the array is read; nonzero = masked.

    npy, HDF5 (the only 2-D dataset) and whatever fabio reads (edf, tiff, msk, …).
    Raises GeometryError for a file that cannot be read or does not fit the shape.
    """
    return read_reference(path, "mask", shape) != 0


def valid_pixels(
    frame: NDArray[Any], mask: Bool | None = None, dummy: Sequence[float] = ()
) -> Bool:
    """Return which pixels of `frame` (rows, columns) are data.

    Integer frames: not negative, not the dtype's maximum. Float frames: finite and no `dummy`;
    negatives are noise. Raises FrameError for what is no image or has no valid pixel.
    """
    frame = require_image(frame)
    valid = ~invalid_pixels(frame, dummy)
    if mask is not None:
        if mask.shape != frame.shape:
            message = f"the mask has shape {mask.shape}; expected the frame's {frame.shape}"
            raise FrameError(message)
        valid &= ~mask
    if not valid.any():
        message = "no pixel of the frame is data: all are masked, gaps, saturated or not finite"
        raise FrameError(message)
    return valid


def invalid_pixels(frame: NDArray[Any], dummy: Sequence[float] = ()) -> Bool:
    """Return which pixels are marked as no data in the frame, by the rules of `valid_pixels`."""
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
