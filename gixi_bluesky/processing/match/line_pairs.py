"""Pairs of candidate lines and features that lie near each other, at every trial scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.match.lines import POSITION_ERROR, ExpectedLines, Features

__all__ = ["GATE_SIGMAS", "LinePairs", "MatchLimits", "line_pairs"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

Place = Callable[[Int64, Int64], tuple[Float32, NDArray[np.bool_]]]

GATE_SIGMAS = 3.5


@dataclass(frozen=True, slots=True)
class MatchLimits:
    """Limits of the distance of lines from their position in a CIF.

    max_dq: 1/angstrom; max_strain: relative
    zero, zero_sigma: shift that all lines of the frame share and its standard error, 1/angstrom
    """

    max_dq: float
    max_strain: float
    zero: float = 0.0
    zero_sigma: float = 0.0


@dataclass(frozen=True, slots=True)
class LinePairs:
    """Lines and features within one FWHM or the position error: (e,) each, by line, then scale.

    line, scale, feature: indices; sigma: 1/angstrom, standard error of the distance
    position: density of finding the line where the feature is, 0 beyond the gate and where the
        feature is another line's of the same structure
    explains: the texture puts intensity where the feature has most of its own
    """

    line: Int64
    scale: Int64
    feature: Int64
    sigma: Float32
    position: Float32
    explains: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.line)

    def kept(self, which: NDArray[np.bool_] | Int64) -> LinePairs:
        """Return some of the pairs: (e,) bool, or indices."""
        return LinePairs(
            self.line[which],
            self.scale[which],
            self.feature[which],
            self.sigma[which],
            self.position[which],
            self.explains[which],
        )


def line_pairs(
    lines: ExpectedLines,
    slot: Int64,
    features: Features,
    limits: MatchLimits,
    scales: Float64,
    place: Place | None = None,
) -> LinePairs:
    """Find all pairs.

    slot: (n,) of each line's structure; scales: (s,) trial lattices
    place: returns for pairs of line and feature the factor by which the feature's phi speaks for
        the line, and whether the line explains the feature; None = 1 and always
    """
    line, first, count = _near(lines, features, limits)
    within = np.arange(int(count.max(initial=0)))
    feature = np.minimum(first[:, None] + within, len(features) - 1)
    present = within < count[:, None]
    q = lines.q[line]
    variance = (POSITION_ERROR * q) ** 2 + limits.zero_sigma**2
    sigma = np.sqrt(features.error[feature] ** 2 + variance[:, None]).astype(np.float32)
    reach = np.minimum(np.float32(limits.max_dq), np.float32(GATE_SIGMAS) * sigma)
    fwhm = features.fwhm.astype(np.float32)[feature]
    near = np.where(present, np.maximum(fwhm, reach), np.float32(-1))
    seen = (features.q - limits.zero)[feature]
    dq = (seen[:, None, :] - (q[:, None] / scales)[:, :, None]).astype(np.float32)
    row, scale, column = np.nonzero(abs(dq) <= near[:, None, :])
    apart, width = dq[row, scale, column], sigma[row, column]
    density = np.exp(np.float32(-0.5) * (apart / width) ** 2) / (width * np.sqrt(2 * np.pi))
    density = np.where(abs(apart) <= reach[row, column], density, 0).astype(np.float32)
    found, explains = feature[row, column], np.ones(len(row), bool)
    if place is not None:
        pair, which = np.unique(row * feature.shape[1] + column, return_inverse=True)
        at = np.unravel_index(pair, feature.shape)
        factor, explaining = place(line[at[0]], feature[at])
        density, explains = density * factor[which], explaining[which]
    claim = density * lines.intensity[line[row]].astype(np.float32)
    key = (slot[line[row]] * max(len(features), 1) + found) * len(scales) + scale
    return LinePairs(line[row], scale, found, width, _exclusive(density, claim, key), explains)


def _near(
    lines: ExpectedLines, features: Features, limits: MatchLimits
) -> tuple[Int64, Int64, Int64]:
    """Return the lines with features within reach at some scale: (line, first feature, count)."""
    widest = float(features.fwhm.max(initial=0))
    reach = max(limits.max_dq, widest) + limits.max_strain / (1 - limits.max_strain) * lines.q
    shifted = features.q - limits.zero
    first = np.searchsorted(shifted, lines.q - reach)
    count = np.searchsorted(shifted, lines.q + reach) - first
    line = np.flatnonzero(count)
    return line, first[line], count[line]


def _exclusive(density: Float32, claim: Float32, key: Int64) -> Float32:
    """Keep, at each scale, a feature for its structure's line with the largest claim to it.

    key: (e,) equal for pairs of one structure, one feature and one scale
    """
    if not len(key):
        return density
    largest = np.zeros(int(key.max()) + 1, np.float32)
    np.maximum.at(largest, key, claim)
    return np.where(claim >= largest[key], density, np.float32(0))
