"""The calibration file of a configured geometry, and how it lays the frames."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.geometry.array_orientation import Orientation
from gixi_bluesky.processing.geometry.nexus_calibration import read_nexus
from gixi_bluesky.processing.geometry.poni import Poni, read_poni
from gixi_bluesky.processing.settings import GeometrySettings

__all__ = ["binning_note", "calibration_of", "orient", "orientation_of"]

Scalar = TypeVar("Scalar", bound=np.generic)


def orientation_of(settings: GeometrySettings) -> Orientation:
    """Return how frames are turned: by `flip` or `orientation`, else by the PONI file, else not."""
    if settings.flip is not None:
        return Orientation.from_flip(settings.flip)
    if settings.orientation is not None:
        return Orientation.from_sample(settings.orientation)
    calibration = calibration_of(settings)
    return Orientation() if calibration is None else calibration.orientation


def binning_note(settings: GeometrySettings, shape: tuple[int, int]) -> str | None:
    """Return how frames of `shape` are binned against the detector of the file, None if not."""
    calibration = calibration_of(settings)
    if calibration is None or settings.roi_offset_px is not None:
        return None
    binning = calibration.binning_for(shape)
    if binning == 1:
        return None
    return (
        f"frames of {shape[0]} x {shape[1]} pixels are taken as {binning} x {binning} binned "
        f"images of the detector of {calibration.path}"
    )


def calibration_of(settings: GeometrySettings) -> Poni | None:
    """Return the calibration that a file states, None where the settings hold the numbers.

    Raises GeometryError for a file that cannot be used.
    """
    if settings.poni is not None:
        return read_poni(settings.poni)
    return None if settings.nexus is None else read_nexus(settings.nexus)


def orient(frame: NDArray[Scalar], settings: GeometrySettings) -> NDArray[Scalar]:
    """Return the frame (rows, columns) as a view with q_z growing with the row."""
    return orientation_of(settings).apply(frame)
