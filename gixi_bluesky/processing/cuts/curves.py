"""The curve of one cut through one frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.cuts.settings import UNITS, Along

__all__ = ["Cut"]

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cut:
    """Mean counts per pixel along one coordinate; NaN where the detector sees nothing.

    axis: (n,) centres of the bins, in `unit`
    intensity, error: (n,) mean counts per pixel and standard error, counts
    n_pixels: (n,) int64, detector pixels in each bin
    coverage: (n,) share of the area of each bin that valid pixels cover, 0 to 1
    """

    name: str
    along: Along
    axis: Float64
    intensity: Float64
    error: Float64
    n_pixels: NDArray[np.int64]
    coverage: Float64

    @property
    def unit(self) -> str:
        """Unit of the axis."""
        return UNITS[self.along]
