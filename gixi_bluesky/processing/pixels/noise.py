"""The noise of one detector pixel: variance = gain · counts + readout_noise²."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.settings import CorrectionSettings

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Array", "Noise", "not_negative", "sampled"]

Float32 = NDArray[np.float32]
Samples = Callable[[], tuple[Float32, ...]]
# One formula for arrays and for tensors on any device.
Array = TypeVar("Array", Float32, "Tensor")

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
        intensity: Samples,
        unit_variance: Samples,
        *,
        integer: bool,
        exposures: int = 1,
    ) -> Noise:
        """Return the noise the settings state, or that of the scatter of a float frame.

        intensity, unit_variance: `sampled` (rows, columns) mean of each cell and the variance it
        would have if a pixel's were 1; rows along the direction in which intensity changes slowly;
        called where noise is estimated
        exposures: how many the frame is the sum of
        """
        floor = settings.readout_noise**2 * exposures
        if settings.gain is not None:
            return cls(settings.gain, floor)
        if integer:
            return cls(1.0, floor)
        return cls._of_scatter(intensity(), unit_variance())

    @classmethod
    def _of_scatter(
        cls, intensity: tuple[Float32, ...], unit_variance: tuple[Float32, ...]
    ) -> Noise:
        """Fit gain and floor to the differences between cells a few rows apart.

        Medians within levels of intensity keep the few cells on sharp features out.
        """
        below, here, above = intensity
        v_below, v_here, v_above = unit_variance
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

    def variance(self, intensity: Array, per_count: Array, unit_variance: Array) -> Array:
        """Return the variance of each cell's mean (rows, columns); NaN where intensity is.

        per_count, unit_variance: the variance if a pixel's were its mean counts, and if it were 1
        """
        variance = intensity * per_count
        if self.gain != 1:
            variance *= self.gain
        if self.floor:
            variance += unit_variance * self.floor
        return not_negative(variance)


def not_negative(values: Array) -> Array:
    """Return an array or tensor with 0 in place of what is below, changed in place."""
    if isinstance(values, np.ndarray):
        return np.maximum(values, 0, out=values)
    return values.clamp_(min=0)


def sampled(image: Array) -> tuple[Array, Array, Array]:
    """Return the samples of an image that noise is estimated from, and those rows above them."""
    down, across = (max(1, n // _SAMPLES) for n in image.shape)
    return (
        image[: -2 * _LAG : down, ::across],
        image[_LAG:-_LAG:down, ::across],
        image[2 * _LAG :: down, ::across],
    )
