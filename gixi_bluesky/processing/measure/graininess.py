"""Unevenness of the intensity along a ring beyond counting noise and texture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["graininess"]

Float64 = NDArray[np.float64]

_ORDER = 4  # of the polynomial that stands for the texture
_FEWEST = 10  # cells along phi
_LEAST_SNR = 10.0  # of the mean along phi


def graininess(rows: Float64, height: Float64, variance: Float64) -> Float64:
    """Return (n,) the relative scatter of profiles along phi, 0 = smooth, NaN = unknown.

    The scatter is that around a polynomial of fourth order, less what the errors explain, over the
    mean: about the root of the cells over the number of crystallites of equal size.

    rows: (n, k) places; height, variance: (n, k) of the peak there, 0 variance = no data
    """
    result = np.full(len(rows), np.nan)
    for i in range(len(rows)):
        used = variance[i] > 0
        count = int(used.sum())
        if count < _FEWEST:
            continue
        y, noise = height[i, used], variance[i, used]
        mean = float(y.mean())
        if mean <= _LEAST_SNR * float(np.sqrt(noise.sum())) / count:
            continue
        place = rows[i, used]
        x = 2 * (place - place.min()) / max(float(np.ptp(place)), 1e-9) - 1
        basis = np.linalg.qr(np.polynomial.legendre.legvander(x, _ORDER))[0]
        rest = y - basis @ (basis.T @ y)
        free = 1 - (basis**2).sum(axis=1)
        scatter = (float(rest @ rest) - float(noise @ free)) / (count - _ORDER - 1)
        result[i] = np.sqrt(max(scatter, 0.0)) / mean
    return result
