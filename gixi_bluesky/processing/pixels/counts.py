"""From what the detector read to counts of each pixel: (raw - dark) / flat, saturation left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import FrameError, GeometryError
from gixi_bluesky.processing.pixels.calibration_images import read_reference
from gixi_bluesky.processing.pixels.masks import invalid_pixels
from gixi_bluesky.processing.pixels.noise import Noise
from gixi_bluesky.processing.settings import CorrectionSettings, FetchedFile

__all__ = ["Dark", "PixelCorrection"]

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Turn = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Dark:
    """Counts without beam of one exposure, laid as frames are read.

    mean, variance: (rows, columns) float64, counts, and counts² of that mean; NaN = not known
    """

    mean: Float64
    variance: Float64

    @classmethod
    def of(cls, images: NDArray[Any], settings: CorrectionSettings) -> Dark:
        """Average (n, rows, columns): the variance is their scatter, of one the noise model's."""
        stack = np.where(invalid_pixels(images, settings.dummy), np.nan, images.astype(float))
        mean = stack.mean(axis=0)
        if len(stack) > 1:
            return cls(mean, stack.var(axis=0, ddof=1) / len(stack))
        gain = settings.gain or (1.0 if images.dtype.kind in "iu" else 0.0)
        return cls(mean, np.maximum(gain * mean, 0) + settings.readout_noise**2)


@dataclass(frozen=True, slots=True)
class PixelCorrection:
    """Correction of each pixel before the remap; arrays as frames after `orient`.

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
        cls,
        settings: CorrectionSettings,
        shape: tuple[int, int],
        turn: Turn,
        corner: tuple[int, int] | None = None,
    ) -> PixelCorrection | None:
        """Read the files for frames of `shape` (rows, columns) as read, None if there are none.

        turn: lays an array as `orient` does; corner: as of `read_reference`
        A zero in the flat, or anything not finite, is no data.
        Raises GeometryError for files that cannot be used.
        """
        if settings.dark is None and settings.flat is None and settings.saturation is None:
            return None
        dark, flat = _dark(settings, shape, corner), np.ones(shape)
        if settings.flat is not None:
            flat = read_reference(settings.flat, "flat", shape, corner=corner).astype(float)
        usable = np.isfinite(dark.mean) & np.isfinite(flat) & (flat > 0)
        if not usable.any():
            message = "no pixel is left by dark and flat: one of them is all zero or not finite"
            raise GeometryError(message)
        inverse = 1 / np.where(usable, flat, 1)

        def laid(values: NDArray[np.float64]) -> Float32:
            return turn(np.where(usable, values, 0).astype(np.float32))

        return cls(
            dark=laid(dark.mean),
            dark_variance=laid(dark.variance),
            inverse_flat=laid(inverse),
            usable=turn(usable),
            saturation=settings.saturation,
            dummy=settings.dummy,
        )

    def with_dark(self, dark: Dark, turn: Turn) -> PixelCorrection:
        """Return the correction with another dark; pixels that it does not know are no data.

        Raises FrameError for a dark of another shape.
        """
        mean, variance = (turn(part).astype(np.float32) for part in (dark.mean, dark.variance))
        if mean.shape != self.dark.shape:
            message = f"the dark has shape {dark.mean.shape}; expected that of the frame"
            raise FrameError(message)
        known = np.isfinite(mean) & np.isfinite(variance)
        return replace(self, dark=mean, dark_variance=np.where(known, variance, np.float32(0)))

    def __call__(self, frame: NDArray[Any], exposures: int = 1) -> Float32:
        """Return corrected counts (rows, columns) of a frame after `orient`; no data is NaN.

        exposures: how many the frame is the sum of; saturated pixels of a sum are already marked
        """
        invalid = invalid_pixels(frame, self.dummy)
        if self.saturation is not None and exposures == 1:
            invalid |= frame >= self.saturation
        with np.errstate(over="ignore", invalid="ignore"):  # not finite is no data
            counts = frame.astype(np.float32) - np.float32(exposures) * self.dark
        counts *= self.inverse_flat
        counts[invalid] = np.nan
        return counts

    def variance(self, frame: NDArray[Any], noise: Noise, exposures: int = 1) -> Float32:
        """Return the variance of the corrected counts of each pixel, counts²; no data is any value.

        The same dark is taken off each exposure, so its own error grows with their number.
        """
        n = np.float32(exposures)
        with np.errstate(over="ignore", invalid="ignore"):
            raw = np.maximum(frame.astype(np.float32), 0) * np.float32(noise.gain)
            floor = np.float32(noise.floor) + n * n * self.dark_variance
            return (raw + floor) * self.inverse_flat**2


def _dark(
    settings: CorrectionSettings, shape: tuple[int, int], corner: tuple[int, int] | None
) -> Dark:
    """Return the dark of a file; none, or one that each run brings, is zero here."""
    if isinstance(settings.dark, FetchedFile) and settings.dark.file is None:
        message = (
            f"the dark is not on this machine; expected a copy of {settings.dark}, or a file as "
            "corrections.dark"
        )
        raise GeometryError(message)
    if settings.dark_file is None:
        return Dark(np.zeros(shape), np.zeros(shape))
    read = read_reference(settings.dark_file, "dark", shape, stack=True, corner=corner)
    return Dark.of(read.reshape(-1, *shape), settings)
