"""Stored polar images made ready for forced measurement: the noise from their own scatter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.types import PolarImage

__all__ = ["with_scatter"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_GROUPS = 16  # of columns, each with a noise of its own
_FEWEST = 30  # differences that a noise can be taken from
_ROW_STEP = 3  # every third row has enough of them
_NORMAL = 0.6745  # median of the absolute value of a standard normal number


def with_scatter(image: Float32, q: Float64, phi: Float64) -> PolarImage:
    """Return a polar image whose variance is proportional to the counts, as its scatter says.

    image: (n_phi, n_q) mean counts, NaN = no data; the factor is found in groups of columns from
    differences between every other row, which share few detector pixels and are free of rings.
    """
    valid = np.isfinite(image)
    level = np.where(valid, np.maximum(image, 0.0), 0.0)
    floor = max(float(np.mean(level[valid])) * 1e-2, 1e-6) if valid.any() else 1.0
    counts = np.maximum(level, floor)
    bend = image[4::_ROW_STEP] - 2 * image[2:-2:_ROW_STEP] + image[:-4:_ROW_STEP]
    stated = counts[4::_ROW_STEP] + 4 * counts[2:-2:_ROW_STEP] + counts[:-4:_ROW_STEP]
    z = bend / np.sqrt(stated)
    n_q = image.shape[1]
    group = max(n_q // _GROUPS, 1)
    centres, factors = [], []
    for first in range(0, n_q, group):
        known = z[:, first : first + group]
        known = known[np.isfinite(known) & (known != 0)]
        if known.size >= _FEWEST:
            centres.append(first + group / 2)
            factors.append((float(np.median(np.abs(known))) / _NORMAL) ** 2)
    factor = np.interp(np.arange(n_q), centres, factors) if centres else np.ones(n_q)
    variance = np.where(valid, counts * factor, np.nan).astype(np.float32)
    return PolarImage(image, variance, valid.astype(np.float32), q, phi)
