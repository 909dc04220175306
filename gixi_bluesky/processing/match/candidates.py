"""One candidate structure with its verdict, and the peaks that it explains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.match.bayes_factors import INTENSITY_SPREAD, Trials
from gixi_bluesky.processing.match.lattice import LineSet
from gixi_bluesky.processing.match.phase_orientation import Spots
from gixi_bluesky.processing.structures.cif_files import Structure
from gixi_bluesky.processing.tables import Peaks

__all__ = ["Candidate", "line_set", "matched_members", "spots_of"]

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True, slots=True)
class Candidate:
    """A structure with its verdict.

    slot, scale, amount: of its likeliest trial in `tried`; slot -1 = no line in the visible range
    group: slugs of the structures that cannot be distinguished from it, itself included
    """

    structure: Structure
    probability: float
    log_odds: float
    tried: Trials
    slot: int
    scale: int
    amount: int
    accepted: bool = False
    group: tuple[str, ...] = ()

    @property
    def bounded_probability(self) -> float:
        """The probability, never 0 or 1."""
        return min(max(self.probability, LEAST_PROBABILITY), 1 - LEAST_PROBABILITY)

    @property
    def reported_amount(self) -> int:
        """The likeliest amount; for a phase that is not accepted the one that matches the most.

        Lines that a texture hides make a small amount likelier, at which few lines are expected.
        """
        if self.accepted:
            return self.amount
        return self.tried.most_matched(self.slot, self.scale, self.amount)


def matched_members(tried: Trials, pairs: Int64) -> tuple[Int64, Int64]:
    """Return the index of each matched peak and the index in `pairs` of its line, (n,) each."""
    members = [tried.features.members[f] for f in tried.feature_of(pairs).tolist()]
    row = np.repeat(np.arange(len(pairs)), [len(m) for m in members])
    return np.concatenate([*members, np.empty(0, np.int64)]), row


def spots_of(structure: Structure, tried: Trials, pairs: Int64, peaks: Peaks) -> Spots:
    """Return the matched peaks with their lines, as the search for a texture reads them."""
    peak, row = matched_members(tried, pairs)
    line = tried.line_of(pairs)[row]
    q = tried.lines.q[line]
    return Spots(
        cell=structure.cell,
        hkl=tried.lines.hkl[line],
        q=q,
        strength=tried.lines.intensity[line],
        phi=peaks.phi[peak],
        fwhm_phi=peaks.fwhm_phi[peak],
        size_deg=np.degrees(peaks.fwhm_q[peak] / np.maximum(q, 1e-6)),
        intensity=np.maximum(peaks.intensity[peak], 0.0),
    )


def line_set(candidate: Candidate, pairs: Int64, matched: Int64, peaks: Peaks) -> LineSet:
    """Return the lines of some pairs with the q that their peaks show together.

    matched: all pairs of the structure; a line without one that lies within a feature's FWHM of
    another line is a part of what that feature shows
    """
    tried = candidate.tried
    peak, row = matched_members(tried, pairs)
    weight = 1 / np.maximum(peaks.q_error[peak], 1e-6) ** 2
    total = np.bincount(row, weight, len(pairs))
    q = np.bincount(row, weight * peaks.q[peak], len(pairs)) / total
    line = tried.line_of(pairs)
    q_cif, unsure = _blended(tried, candidate.slot, pairs, tried.line_of(matched))
    return LineSet(
        cell=candidate.structure.cell,
        system=candidate.structure.crystal_system,
        hkl=tried.lines.hkl[line],
        q_cif=q_cif,
        q=q,
        error=np.hypot(total**-0.5, unsure),
    )


def _blended(tried: Trials, slot: int, pairs: Int64, matched: Int64) -> tuple[Float64, Float64]:
    """Return the mean q of the lines that each pair's feature shows, and its error, (n,).

    Intensities err by INTENSITY_SPREAD, and the mean by what that makes of it.
    """
    lines, line = tried.lines, tried.line_of(pairs)
    every = np.arange(*tried.own_lines[slot])
    alone = every[~np.isin(every, matched)]
    reach = tried.features.fwhm[tried.feature_of(pairs)]
    hidden = abs(lines.q[alone] - lines.q[line, None]) < reach[:, None]
    strength = np.column_stack([lines.intensity[line], hidden * lines.intensity[alone]])
    q = np.column_stack([lines.q[line], np.broadcast_to(lines.q[alone], hidden.shape)])
    own = np.column_stack([lines.spread[line], np.broadcast_to(lines.spread[alone], hidden.shape)])
    share = strength / strength.sum(axis=1, keepdims=True)
    mean = (share * q).sum(axis=1)
    moved = INTENSITY_SPREAD * share * (q - mean[:, None])
    return mean, np.sqrt((moved**2 + share * own**2).sum(axis=1))
