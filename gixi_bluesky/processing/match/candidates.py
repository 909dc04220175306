"""One candidate structure with its verdict, and the peaks that it explains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.match.bayes_factors import Trials
from gixi_bluesky.processing.match.phase_orientation import Spots
from gixi_bluesky.processing.structures.cif_files import Structure
from gixi_bluesky.processing.tables import Peaks

__all__ = ["Candidate", "matched_members", "spots_of"]

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
