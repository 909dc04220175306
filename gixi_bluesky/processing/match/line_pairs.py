"""Pairs of expected lines and features that lie near each other, at every trial scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.match.lines import POSITION_ERROR, ExpectedLines, Features

__all__ = ["GATE_SIGMAS", "LinePairs", "MatchLimits", "line_pairs"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

Place = Callable[[Int64, Int64], tuple[Float32, Bool]]

GATE_SIGMAS = 3.5


@dataclass(frozen=True, slots=True)
class MatchLimits:
    """Limits of the distance of lines from their position in a CIF.

    max_dq: 1/angstrom; max_strain: relative
    zero, zero_sigma: shift that all lines of the frame share and its standard error, 1/angstrom
    position_error: relative, of single lines; strains that one scale leaves come on top
    """

    max_dq: float
    max_strain: float
    zero: float = 0.0
    zero_sigma: float = 0.0
    position_error: float = POSITION_ERROR


@dataclass(frozen=True, slots=True)
class LinePairs:
    """Lines and features within one FWHM or the position error of each other.

    A couple is a line and a feature that are near at some scale: (p,) each, sorted by line.
    line, feature: indices; sigma: 1/angstrom, standard error of the distance
    explains: the texture puts intensity where the feature has most of its own

    A pair is a couple at one scale: (e,) each, sorted by scale, then couple.
    couple, scale: indices; position: density of finding the line where the feature is, 0 beyond the
        gate and where the feature is another line's of the same structure
    """

    line: Int64
    feature: Int64
    sigma: Float32
    explains: Bool
    couple: Int64
    scale: Int64
    position: Float32

    def __len__(self) -> int:
        return len(self.couple)

    def kept(self, couples: Bool) -> tuple[LinePairs, Bool]:
        """Return the pairs of some couples (p,) bool, and which of all pairs they are (e,)."""
        own = couples[self.couple]
        number = np.cumsum(couples) - 1
        return (
            LinePairs(
                self.line[couples],
                self.feature[couples],
                self.sigma[couples],
                self.explains[couples],
                number[self.couple[own]],
                self.scale[own],
                self.position[own],
            ),
            own,
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
    place: returns for couples of line and feature the factor by which the feature's phi speaks for
        the line, and whether the line explains the feature; None = 1 and always
    """
    line, feature = _near(lines, features, limits)
    q = lines.q[line]
    relative = limits.position_error**2 + lines.strain[line] ** 2
    variance = features.error[feature] ** 2 + relative * q**2 + limits.zero_sigma**2
    sigma = np.sqrt(variance).astype(np.float32)
    reach = np.minimum(np.float32(limits.max_dq), np.float32(GATE_SIGMAS) * sigma)
    largest = np.maximum(features.fwhm.astype(np.float32)[feature], reach)
    seen = (features.q - limits.zero)[feature]
    dq = (seen - q / scales[:, None]).astype(np.float32)
    scale, couple = np.nonzero(abs(dq) <= largest)
    apart, width = dq[scale, couple], sigma[couple]
    density = np.exp(np.float32(-0.5) * (apart / width) ** 2) / (width * np.sqrt(2 * np.pi))
    density[abs(apart) > reach[couple]] = 0
    found = LinePairs(
        line, feature, sigma, np.ones(len(line), bool), couple, scale, density.astype(np.float32)
    )
    used = np.zeros(len(line), bool)
    used[couple] = True
    found, _ = found.kept(used)
    if place is not None:
        factor, explains = place(found.line, found.feature)
        position = found.position * factor[found.couple]
        found = replace(found, position=position, explains=explains)
    claim = found.position * lines.intensity.astype(np.float32)[found.line][found.couple]
    home = slot[found.line] * max(len(features), 1) + found.feature
    key = home[found.couple] * len(scales) + found.scale
    return replace(found, position=_exclusive(found.position, claim, key))


def _near(lines: ExpectedLines, features: Features, limits: MatchLimits) -> tuple[Int64, Int64]:
    """Return the couples of line and feature within reach at some scale, sorted by line."""
    widest = float(features.fwhm.max(initial=0))
    reach = max(limits.max_dq, widest) + limits.max_strain / (1 - limits.max_strain) * lines.q
    shifted = features.q - limits.zero
    first = np.searchsorted(shifted, lines.q - reach)
    count = np.searchsorted(shifted, lines.q + reach) - first
    line = np.repeat(np.arange(len(lines)), count)
    within = np.arange(len(line)) - np.repeat(np.cumsum(count) - count, count)
    return line, first[line] + within


def _exclusive(density: Float32, claim: Float32, key: Int64) -> Float32:
    """Keep, at each scale, a feature for its structure's line with the largest claim to it.

    key: (e,) equal for pairs of one structure, one feature and one scale
    """
    if not len(key):
        return density
    largest = np.zeros(int(key.max()) + 1, np.float32)
    np.maximum.at(largest, key, claim)
    return np.where(claim >= largest[key], density, np.float32(0))
