"""The noise of one detector pixel: variance = gain · counts + readout_noise²."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.settings import CorrectionSettings

__all__ = ["Noise"]

Float32 = NDArray[np.float32]

# Cells this many rows apart share no detector pixel.
_LAG = 4
# A few thousand cells are plenty: about this many rows and columns of them.
_SAMPLES = 64
_LEVELS = 16
_FEWEST_CELLS = 8 * _LEVELS
# Median of the square of a standard normal number.
_MEDIAN_OF_SQUARE = 0.454936


@dataclass(frozen=True, slots=True)
class Noise:
    """Variance of a pixel with mean counts I: gain · I + floor.

    gain: counts
    floor: counts²
    """

    gain: float
    floor: float

    @classmethod
    def of_frame(
        cls,
        settings: CorrectionSettings,
        intensity: Float32,
        unit_variance: Float32,
        *,
        integer: bool,
        exposures: int = 1,
    ) -> Noise:
        """Return the noise the settings state, or that of the scatter of a float frame.

        intensity, unit_variance: (rows, columns) mean of each cell and the variance it would
        have if a pixel's were 1; rows along the direction in which intensity changes slowly
        exposures: how many the frame is the sum of
        """
        floor = settings.readout_noise**2 * exposures
        if settings.gain is not None:
            return cls(settings.gain, floor)
        if integer:
            return cls(1.0, floor)
        return cls._of_scatter(intensity, unit_variance)

    @classmethod
    def _of_scatter(cls, intensity: Float32, unit_variance: Float32) -> Noise:
        """Fit gain and floor to the differences between cells a few rows apart.

        Medians within levels of intensity keep the few cells on sharp features out.
        """
        down, across = (max(1, n // _SAMPLES) for n in intensity.shape)
        parts = [
            (intensity[rows, ::across], unit_variance[rows, ::across])
            for rows in (
                slice(None, -2 * _LAG, down),
                slice(_LAG, -_LAG, down),
                slice(2 * _LAG, None, down),
            )
        ]
        (below, v_below), (here, v_here), (above, v_above) = parts
        mean = (below + here + above) / 3
        difference = here - (below + above) / 2
        expected = v_here + (v_below + v_above) / 4
        use = np.isfinite(difference) & (expected > 0)
        mean, squared = mean[use], difference[use] ** 2 / expected[use]
        if mean.size < _FEWEST_CELLS:  # too few for levels; none at all leaves it unknown
            return cls(0.0, float(np.mean(squared)) if mean.size else math.nan)
        order = np.argsort(mean)[: mean.size // _LEVELS * _LEVELS].reshape(_LEVELS, -1)
        levels = mean[order].mean(axis=1, dtype=np.float64)
        variances = np.median(squared[order], axis=1) / _MEDIAN_OF_SQUARE
        return cls._through(levels, variances)

    @classmethod
    def _through(cls, levels: NDArray[np.float64], variances: NDArray[np.float64]) -> Noise:
        """Least squares of variance over level, neither gain nor floor below zero."""
        centred = levels - levels.mean()
        spread = float(centred @ centred)
        gain = max(float(centred @ variances) / spread, 0.0) if spread > 0 else 0.0
        floor = float(variances.mean() - gain * levels.mean())
        if floor < 0:
            square = float(levels @ levels)
            return cls(max(float(levels @ variances) / square, 0.0) if square > 0 else 0.0, 0.0)
        return cls(gain, floor)

    def variance(self, intensity: Float32, per_count: Float32, unit_variance: Float32) -> Float32:
        """Return the variance of each cell's mean (rows, columns); NaN where intensity is.

        per_count, unit_variance: the variance if a pixel's were its mean counts, and if it were 1
        """
        variance = intensity * per_count
        if self.gain != 1:
            variance *= np.float32(self.gain)
        if self.floor:
            variance += np.float32(self.floor) * unit_variance
        return np.maximum(variance, 0, out=variance)
