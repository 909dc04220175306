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
    used = variance > 0
    count = used.sum(axis=1)
    safe = np.maximum(count, 1)
    y, noise = np.where(used, height, 0), np.where(used, variance, 0)
    mean = y.sum(axis=1) / safe
    known = (count >= _FEWEST) & (mean > _LEAST_SNR * np.sqrt(noise.sum(axis=1)) / safe)
    result = np.full(len(rows), np.nan)
    if not known.any():
        return result
    used, y, noise, place = used[known], y[known], noise[known], rows[known]
    low = np.where(used, place, np.inf).min(axis=1)
    high = np.where(used, place, -np.inf).max(axis=1)
    x = 2 * (place - low[:, None]) / np.maximum(high - low, 1e-9)[:, None] - 1
    # cells without data are rows of zeros, which leave the basis of the others as it is
    terms = np.polynomial.legendre.legvander(np.where(used, x, 0), _ORDER)
    basis = np.linalg.qr(terms * used[:, :, None])[0]
    rest = y - (basis @ (basis.transpose(0, 2, 1) @ y[:, :, None]))[:, :, 0]
    free = 1 - (basis**2).sum(axis=2)
    scatter = (rest**2).sum(axis=1) - (noise * free).sum(axis=1)
    scatter /= count[known] - _ORDER - 1
    result[known] = np.sqrt(np.maximum(scatter, 0)) / mean[known]
    return result
