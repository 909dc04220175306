"""The maps that the variance of each cell of a grid follows from, as arrays or on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.pixels.counts import PixelCorrection
from gixi_bluesky.processing.pixels.noise import Array, Noise, not_negative
from gixi_bluesky.processing.remap.footprint import Footprint

__all__ = ["Lacking", "Spread"]

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Lacking(Generic[Array]):
    """Maps of a footprint for frames that lack some pixels, each (grid rows, grid columns).

    share: valid share of each cell's weight, NaN where it is no data; None if all is there
    unit_variance: variance of the mean if that of every pixel were 1
    per_count: variance of the mean per count, if a pixel's variance were its counts
    pixels: detector pixels per cell, 0 where no data; always on the CPU
    """

    share: Array | None
    unit_variance: Array
    per_count: Array
    pixels: Float32


@dataclass(frozen=True, slots=True)
class Spread(Generic[Array]):
    """The effect of dark and flat on the noise of each cell, (grid rows, grid columns).

    A pixel's variance is (gain · raw + floor + dark variance) / flat², raw = counts · flat + dark;
    each term is taken as the mean over the cell's pixels.

    per_count: 1 / flat; unit: 1 / flat²; dark: dark / flat², dark_variance: dark variance / flat²
    """

    per_count: Array
    unit: Array
    dark: Array
    dark_variance: Array

    @staticmethod
    def of(pixels: PixelCorrection, footprint: Footprint) -> Spread[Float32]:
        """Return the means over the cells of a footprint, laid as its frames are."""

        def mean(values: Float32) -> Float32:
            known = np.nan_to_num(values[footprint.window])
            window = np.ascontiguousarray(footprint.layout.inverse.apply(known))
            return np.take(footprint.means(window), footprint.places) / footprint.scale

        inverse = pixels.inverse_flat
        square = inverse * inverse
        return Spread(
            mean(inverse),
            mean(square),
            mean(pixels.dark * square),
            mean(pixels.dark_variance * square),
        )

    def variance(
        self,
        noise: Noise,
        intensity: Array,
        per_count: Array,
        unit_variance: Array,
        exposures: int,
    ) -> Array:
        """Return the variance of each cell's mean, as `Noise.variance` does without correction.

        The same dark is taken off each exposure, so its own error grows with their number.
        """
        signal = noise.variance(intensity, per_count * self.per_count, unit_variance * self.unit)
        n = np.float32(exposures)
        extra = self.dark * float(np.float32(noise.gain) * n) + self.dark_variance * float(n * n)
        return signal + unit_variance * not_negative(extra)
