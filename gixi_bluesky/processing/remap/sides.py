"""Check that rings lie at the same |q| left and right of the beam, as folding assumes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.pixels.masks import invalid_pixels

__all__ = ["Sides"]

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]

_STEP = 1e-3  # of ln |q|
_LOWEST_Q = 0.1  # share of the largest |q|; below it a pixel is many steps wide
_PIXELS = 500_000
_WINDOW = 250
_LARGEST_LAG = 60
_SMOOTH, _BACKGROUND = 2.0, 25.0
_LEAST_CORRELATION = 0.6


class Sides:
    """Compares the radial profiles of both sides where each pixel has its mirror image.

    valid: (rows, columns) of frames after `orient`, False = masked; q_max in 1/angstrom
    """

    def __init__(self, geometry: Geometry, valid: Bool, q_max: float) -> None:
        self._every = -(-valid.size // _PIXELS)
        rows, columns = np.indices(valid[:: self._every].shape).astype(float)
        q_xy, q_z = geometry.q_at(rows * self._every, columns)
        log_q = np.log(np.maximum(np.hypot(q_xy, q_z), 1e-9) / (_LOWEST_Q * q_max))
        mirrored = _sampled(valid, *geometry.pixel_at(-q_xy, q_z))
        use = valid[:: self._every] & mirrored & (q_z > geometry.horizon_q_z)
        use &= (log_q > 0) & (log_q < -np.log(_LOWEST_Q))
        self._use = use
        self._bins = (log_q[use] / _STEP).astype(np.int32)
        self._right = q_xy[use] > 0
        self._n = int(-np.log(_LOWEST_Q) / _STEP) + 1

    def difference(self, frame: NDArray[np.generic]) -> float | None:
        """Return |q| of rings on the right over that on the left, minus 1; None without rings.

        frame: (rows, columns) after `orient`
        """
        part = frame[:: self._every]
        counts = part[self._use].astype(float)
        valid = ~invalid_pixels(part)[self._use]
        profiles = [self._profile(counts, valid & side) for side in (self._right, ~self._right)]
        if any(profile is None for profile in profiles):
            return None
        right, left = profiles
        lags, weights = [], []
        for start in range(0, self._n - _WINDOW + 1, _WINDOW // 2):
            lag, weight = _lag(right, left, start)  # type: ignore[arg-type] # None left above
            lags.append(lag)
            weights.append(weight)
        total = sum(weights)
        return float(np.dot(lags, weights) / total * _STEP) if total > 0 else None

    def _profile(self, counts: Float64, valid: Bool) -> Float64 | None:
        """Return what stands out of the mean over the ring, as multiples of its noise, about."""
        bins = self._bins[valid]
        n = np.bincount(bins, minlength=self._n)
        seen = np.flatnonzero(n)
        if len(seen) < _WINDOW:
            return None
        mean = np.bincount(bins, counts[valid], minlength=self._n)[seen] / n[seen]
        whole = np.interp(np.arange(self._n), seen, np.sqrt(np.maximum(mean, 0)))
        smooth = gaussian_filter1d(whole, _SMOOTH)
        standing: Float64 = smooth - gaussian_filter1d(whole, _BACKGROUND)
        standing[: seen[0]] = standing[seen[-1] + 1 :] = 0
        return standing


def _sampled(valid: Bool, rows: Float64, columns: Float64) -> Bool:
    """Return whether points lie on valid pixels."""
    row, column = (np.rint(np.nan_to_num(a, nan=-1)).astype(int) for a in (rows, columns))
    on = (row >= 0) & (row < valid.shape[0]) & (column >= 0) & (column < valid.shape[1])
    on[on] = valid[row[on], column[on]]
    return on


def _lag(right: Float64, left: Float64, start: int) -> tuple[float, float]:
    """Return by how many steps a window of `right` lies beyond `left`, and its weight, 0 = none."""
    window = left[start : start + _WINDOW]
    lags = np.arange(-_LARGEST_LAG, _LARGEST_LAG + 1)
    inside = lags[(start + lags >= 0) & (start + lags + _WINDOW <= len(right))]
    shifted = np.stack([right[start + lag : start + lag + _WINDOW] for lag in inside])
    power = float(window @ window)
    norms = np.sqrt(np.sum(shifted**2, axis=1) * power)
    match = np.divide(shifted @ window, norms, out=np.zeros(len(inside)), where=norms > 0)
    best = int(np.argmax(match))
    if not 0 < best < len(inside) - 1 or match[best] < _LEAST_CORRELATION:
        return 0.0, 0.0
    before, here, after = match[best - 1 : best + 2]
    curve = before - 2 * here + after
    return float(inside[best] + (0.5 * (before - after) / curve if curve < 0 else 0)), power
