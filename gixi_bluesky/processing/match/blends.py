"""Lines of accepted phases as their peaks show them: alone, or several as one peak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.match.candidates import Candidate, matched_members
from gixi_bluesky.processing.match.lattice import HiddenLines, Lattice, LatticeFit, LineSet
from gixi_bluesky.processing.match.lines import Features
from gixi_bluesky.processing.tables import Peaks

__all__ = ["line_sets"]

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

MERGED_SPREADS = 7.0  # a reflection that is farther from a merged line's mean is none of its


def line_sets(
    candidates: Sequence[Candidate],
    own: Sequence[Int64],
    pairs: Sequence[Int64],
    peaks: Peaks,
    fit: LatticeFit | None = None,
) -> tuple[list[LineSet], HiddenLines]:
    """Return the lines that place each phase, with the q their peaks show, and what these hide.

    own: pairs of the features that a phase brings most of; pairs: all that it matches
    A peak shows all reflections, of every phase, of the lines that are matched to its feature, and
    of lines without a feature of their own that lie within its FWHM. With the `fit` of such sets it
    shows those that the fitted cells put within its FWHM and no nearer to another feature.
    """
    reflections = [
        _Reflections.of(c, matched) for c, matched in zip(candidates, pairs, strict=True)
    ]
    if fit is not None:
        reflections = [
            every.placed(c, lattice, fit.zero)
            for every, c, lattice in zip(reflections, candidates, fit.lattices, strict=True)
        ]
    sets, hidden, count = [], [], 0
    for number, (c, mine) in enumerate(zip(candidates, own, strict=True)):
        feature = c.tried.feature_of(mine)
        main = reflections[number].strongest_at(feature)
        mine, feature, main = mine[main >= 0], feature[main >= 0], main[main >= 0]
        q, error, tilt = _seen(c, mine, peaks)
        sets.append(
            LineSet(
                cell=c.structure.cell,
                system=c.structure.crystal_system,
                hkl=reflections[number].hkl[main],
                q_cif=reflections[number].q[main],
                q=q,
                error=error,
                tilt=tilt,
            )
        )
        for phase, every in enumerate(reflections):
            shows = feature[:, None] == every.feature
            if phase == number:
                shows[np.arange(len(main)), main] = False
            row, which = np.nonzero(shows)
            hidden.append(
                HiddenLines(
                    shown=count + row,
                    phase=np.full(len(row), phase),
                    hkl=every.hkl[which],
                    q_cif=every.q[which],
                    strength=every.strength[which] / reflections[number].strength[main[row]],
                )
            )
        count += len(mine)
    return sets, HiddenLines.together(hidden)


@dataclass(frozen=True, slots=True)
class _Reflections:
    """Reflections of the lines of one phase: (n,) each.

    strength: expected intensity; feature: that shows it, -1 = none
    """

    hkl: Int64
    q: Float64
    strength: Float64
    feature: Int64

    @classmethod
    def of(cls, candidate: Candidate, pairs: Int64) -> _Reflections:
        """Return the reflections of a candidate's lines; pairs: all that it matches."""
        tried, every = candidate.tried, candidate.structure.reflections
        first, last = tried.own_lines[candidate.slot]
        own = first + np.argsort(tried.lines.q[first:last], kind="stable")
        centre, spread = tried.lines.q[own], tried.lines.spread[own]
        after = np.searchsorted(centre, every.q)
        below, above = np.maximum(after - 1, 0), np.minimum(after, len(own) - 1)
        nearer = abs(every.q - centre[above]) < abs(every.q - centre[below])
        place = np.where(nearer, above, below)
        within = abs(every.q - centre[place]) <= MERGED_SPREADS * spread[place] + 1e-9
        which, line = np.flatnonzero(within), own[place[within]]
        total = np.bincount(line, every.intensity[which], len(tried.lines))
        strength = np.exp(tried.log_amount[candidate.amount]) * tried.lines.intensity[line]
        return cls(
            hkl=every.hkl[which],
            q=every.q[which],
            strength=strength * every.intensity[which] / total[line],
            feature=_features_of_lines(candidate, pairs)[line],
        )

    def placed(self, candidate: Candidate, lattice: Lattice, zero: float) -> _Reflections:
        """Return them where a refined cell puts them, each at the nearest feature in reach."""
        expected = lattice.q_at(self.hkl, self.q, candidate.structure.cell) + zero
        return replace(self, feature=_nearest(candidate.tried.features, expected))

    def strongest_at(self, features: Int64) -> Int64:
        """Return the strongest reflection that each feature shows, -1 = none."""
        strength = np.where(features[:, None] == self.feature, self.strength, 0.0)
        if not strength.size:
            return np.full(len(features), -1)
        return np.where(strength.any(axis=1), strength.argmax(axis=1), -1)


def _nearest(features: Features, q: Float64) -> Int64:
    """Return the feature that is nearest to each q if its FWHM reaches there, else -1."""
    if not len(features):
        return np.full(len(q), -1)
    after = np.searchsorted(features.q, q)
    near = np.stack([np.maximum(after - 1, 0), np.minimum(after, len(features) - 1)])
    off = abs(features.q[near] - q)
    nearest = np.where(off[0] <= off[1], near[0], near[1])
    return np.where(off.min(axis=0) < features.fwhm[nearest], nearest, -1)


def _features_of_lines(candidate: Candidate, pairs: Int64) -> Int64:
    """Return the feature that shows each line, -1 = none; matched ones keep theirs."""
    tried = candidate.tried
    own = np.arange(*tried.own_lines[candidate.slot])
    expected = tried.lines.q[own] / tried.scales[candidate.scale] + tried.limits.zero
    result = np.full(len(tried.lines), -1)
    result[own] = _nearest(tried.features, expected)
    result[tried.line_of(pairs)] = tried.feature_of(pairs)
    return result


def _seen(candidate: Candidate, pairs: Int64, peaks: Peaks) -> tuple[Float64, Float64, Float64]:
    """Return |q| of the lines of some pairs, as peaks show it, its error and tilt."""
    peak, row = matched_members(candidate.tried, pairs)
    weight = 1 / np.maximum(peaks.q_error[peak], 1e-6) ** 2
    phi = np.radians(peaks.phi[peak])
    total, q, tilt = (
        np.bincount(row, weight * value, len(pairs))
        for value in (np.ones(len(peak)), peaks.q[peak], np.cos(phi) - np.sin(phi))
    )
    return q / total, 1 / np.sqrt(total), tilt / total
