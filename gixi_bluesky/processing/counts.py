"""From what the detector read to counts of each pixel: (raw - dark) / flat, saturation left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import GeometryError
from gixi_bluesky.processing.masks import invalid_pixels
from gixi_bluesky.processing.references import read_reference
from gixi_bluesky.processing.settings import CorrectionSettings

__all__ = ["PixelCorrection"]

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Turn = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class PixelCorrection:
    """What is done to each pixel before the frame is remapped; arrays as frames after `orient`.

    dark, dark_variance: (rows, columns) float32, counts and counts²; inverse_flat: 1 / flat
    usable: (rows, columns), False where the dark or the flat says nothing
    saturation: raw counts from which on a pixel is no data, None = no such limit
    dummy: raw values that mean no data in float frames
    """

    dark: Float32
    dark_variance: Float32
    inverse_flat: Float32
    usable: Bool
    saturation: float | None
    dummy: tuple[float, ...]

    @classmethod
    def from_settings(
        cls, settings: CorrectionSettings, shape: tuple[int, int], turn: Turn
    ) -> PixelCorrection | None:
        """Read the files for frames of `shape` (rows, columns) as read, None if there are none.

        turn: lays an array as `orient` does. A zero in the flat, or anything not finite, is no
        data. Raises GeometryError for files that cannot be used.
        """
        if settings.dark is None and settings.flat is None and settings.saturation is None:
            return None
        dark, variance, flat = np.zeros(shape), np.zeros(shape), np.ones(shape)
        if settings.dark is not None:
            dark, variance = _dark(settings, shape)
        if settings.flat is not None:
            flat = read_reference(settings.flat, "flat", shape).astype(float)
        usable = np.isfinite(dark) & np.isfinite(flat) & (flat > 0)
        if not usable.any():
            message = "no pixel is left by dark and flat: one of them is all zero or not finite"
            raise GeometryError(message)
        inverse = 1 / np.where(usable, flat, 1)

        def laid(values: NDArray[np.float64]) -> Float32:
            return turn(np.where(usable, values, 0).astype(np.float32))

        return cls(
            dark=laid(dark),
            dark_variance=laid(variance),
            inverse_flat=laid(inverse),
            usable=turn(usable),
            saturation=settings.saturation,
            dummy=settings.dummy,
        )

    def __call__(self, frame: NDArray[Any]) -> Float32:
        """Return corrected counts (rows, columns) of a frame after `orient`; no data is NaN."""
        invalid = invalid_pixels(frame, self.dummy)
        if self.saturation is not None:
            invalid |= frame >= self.saturation
        with np.errstate(over="ignore", invalid="ignore"):  # not finite is no data
            counts = frame.astype(np.float32) - self.dark
        counts *= self.inverse_flat
        counts[invalid] = np.nan
        return counts


def _dark(
    settings: CorrectionSettings, shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean dark and its variance: the scatter of a stack, else the noise model's."""
    if settings.dark is None:
        return np.zeros(shape), np.zeros(shape)
    read = read_reference(settings.dark, "dark", shape, stack=True)
    stack = read.reshape(-1, *shape).astype(float)
    mean = stack.mean(axis=0)
    if len(stack) > 1:
        return mean, stack.var(axis=0, ddof=1) / len(stack)
    gain = settings.gain or (1.0 if read.dtype.kind in "iu" else 0.0)
    return mean, np.maximum(gain * mean, 0) + settings.readout_noise**2
