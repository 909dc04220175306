"""Profiles of a prepared image along phi at the boxes' |q|, above what lies beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "PhiBlockSums", "PhiProfiles"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

BLOCK = 6  # rows of the image in a block
_LEAST_DATA = 0.4  # of a block
_FEWEST_SIDE_COLUMNS = 3
_LEAST_NOISE = 2e-3  # of grey levels 0…1
_UNKNOWN_NOISE = 0.05
_FEWEST_BLOCKS = 8
_SIGMA_PER_MAD = 1.4826


@dataclass(frozen=True, slots=True)
class PhiProfiles:
    """Excess of n lines over both their sides, in blocks of rows.

    excess: (n, blocks) grey levels, 0 = no data; known: (n, blocks) where there are data
    noise: (n,) standard error of a block
    """

    excess: Float64
    known: Bool
    noise: Float64

    def smooth(self) -> Float64:
        """Return the mean over three blocks, those without data left out."""
        total, count = self.excess.copy(), self.known.astype(float)
        for array, source in ((total, self.excess), (count, self.known)):
            array[:, 1:] += source[:, :-1]
            array[:, :-1] += source[:, 1:]
        return np.where(self.known, total / np.maximum(count, 1.0), 0.0)


class PhiBlockSums:
    """Sums over blocks of rows of a prepared image (n_phi, n_q), NaN = no data."""

    def __init__(self, image: Float32) -> None:
        blocks = len(image) // BLOCK
        cut = image[: blocks * BLOCK]
        known = np.isfinite(cut)
        shape = (blocks, BLOCK, image.shape[1])
        rows = np.where(known, cut, np.float32(0)).reshape(shape).sum(axis=1, dtype=np.float64)
        counts = known.reshape(shape).sum(axis=1, dtype=np.float64)
        # One more column in front, so that differences are sums over ranges of columns.
        self._sums = np.pad(rows.cumsum(axis=1), ((0, 0), (1, 0)))
        self._counts = np.pad(counts.cumsum(axis=1), ((0, 0), (1, 0)))
        self.blocks = blocks

    def profiles(self, centre: Float64, width: Float64) -> PhiProfiles:
        """Return the profiles of lines at columns (n,), with their FWHM in columns (n,).

        The noise is that of the difference of both sides, which peaks of other lines hardly move.
        """
        half, off = np.maximum(width / 2, 1.0), np.maximum(width, 2.0)
        side = np.maximum(np.rint(width), _FEWEST_SIDE_COLUMNS)
        left, right = np.rint(centre - off), np.rint(centre + off) + 1
        core, n_core = self._means(np.ceil(centre - half), np.floor(centre + half) + 1)
        low, n_low = self._means(left - side, left)
        high, n_high = self._means(right, right + side)
        below, above = np.isfinite(low), np.isfinite(high)
        beside = np.where(below & above, (low + high) / 2, np.where(below, low, high))
        excess = core - beside
        known = np.isfinite(excess)
        noise = _noise(np.where(below & above, (low - high) / 2, np.nan), n_low + n_high, n_core)
        return PhiProfiles(np.where(known, excess, 0.0), known, noise)

    def _means(self, first: Float64, last: Float64) -> tuple[Float64, Float64]:
        n = self._sums.shape[1] - 1
        low, high = (np.clip(edge, 0, n).astype(np.int64) for edge in (first, last))
        count = (self._counts[:, high] - self._counts[:, low]).T
        total = (self._sums[:, high] - self._sums[:, low]).T
        enough = count >= np.maximum(_LEAST_DATA * BLOCK * (high - low), 1)[:, None]
        return np.divide(total, count, out=np.full(count.shape, np.nan), where=enough), count


def _noise(differences: Float64, n_sides: Float64, n_core: Float64) -> Float64:
    """Return the standard errors (n,) of blocks, from (n, blocks) half differences of the sides."""
    known = np.isfinite(differences)
    enough = known.sum(axis=1) >= _FEWEST_BLOCKS
    spread = _median(np.abs(differences - _median(differences, known)[:, None]), known)
    sides = np.maximum((n_sides * known).max(axis=1, initial=0), 1)
    core = np.maximum(n_core.max(axis=1, initial=0), 1)
    # A half difference of two means has the variance 1 / sides of one bin's.
    noise = _SIGMA_PER_MAD * spread * np.sqrt(sides) * np.sqrt(1 / core + 1 / sides)
    return np.where(enough, np.maximum(noise, _LEAST_NOISE), _UNKNOWN_NOISE)


def _median(values: Float64, known: Bool) -> Float64:
    """Return medians (n,) of the known values of each row, 0 where there are none."""
    ordered = np.sort(np.where(known, values, np.inf), axis=1)
    count = known.sum(axis=1)
    low, high = np.maximum(count - 1, 0) // 2, np.maximum(count // 2, 0)
    rows = np.arange(len(values))
    high = np.minimum(high, ordered.shape[1] - 1)
    middle = (ordered[rows, low] + ordered[rows, high]) / 2
    return np.where(count > 0, middle, 0.0)
