"""Cells and textures of the accepted phases of a frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.match.blends import line_sets
from gixi_bluesky.processing.match.candidates import Candidate, spots_of
from gixi_bluesky.processing.match.lattice import Lattice, refine_lattices
from gixi_bluesky.processing.match.lines import Visibility
from gixi_bluesky.processing.match.phase_orientation import PhaseOrientation, phase_orientation
from gixi_bluesky.processing.match.plane_angles import PlaneAngles
from gixi_bluesky.processing.structures.cif_files import Structure
from gixi_bluesky.processing.tables import Peaks

__all__ = ["Refined", "refine"]

Int64 = NDArray[np.int64]

MOSTLY_OWN = 0.8  # of a feature's expected intensity; a phase with less does not place it


@dataclass(frozen=True, slots=True)
class Refined:
    """A candidate with what is known of it in detail; lattice, orientation: None = not accepted.

    amount: index of the reported one; pairs: of line and feature; zero: 1/angstrom, of the frame
    """

    candidate: Candidate
    amount: int
    pairs: Int64
    zero: float
    lattice: Lattice | None = None
    orientation: PhaseOrientation | None = None


def refine(
    candidates: Sequence[Candidate],
    peaks: Peaks,
    visibility: Visibility,
    zero_sigma: float,
    angles_of: Callable[[Structure], PlaneAngles],
) -> list[Refined]:
    """Refine the accepted candidates' cells together, with the zero error, and their textures.

    A line places its phase only where that phase brings most of the feature's intensity.
    zero_sigma: prior of the zero error, 1/angstrom; angles_of: of a structure's lines
    """
    amounts = [c.reported_amount for c in candidates]
    pairs = [
        c.tried.pairs(c.slot, c.scale, amount)
        for c, amount in zip(candidates, amounts, strict=True)
    ]
    accepted = [i for i, c in enumerate(candidates) if c.accepted]
    own = _own_pairs([candidates[i] for i in accepted], [pairs[i] for i in accepted])
    mine = ([candidates[i] for i in accepted], own, [pairs[i] for i in accepted], peaks)
    fit = refine_lattices(*line_sets(*mine), zero_sigma)
    # at the refined cells other lines may share a peak than at the trial's
    fit = refine_lattices(*line_sets(*mine, fit), zero_sigma)
    lattices = dict(zip(accepted, fit.lattices, strict=True))
    refined = []
    for i, (candidate, amount, matched) in enumerate(zip(candidates, amounts, pairs, strict=True)):
        orientation = None
        if i in lattices:
            spots = spots_of(candidate.structure, candidate.tried, matched, peaks)
            orientation = phase_orientation(spots, visibility, angles_of(candidate.structure))
        zero = fit.zero if accepted else candidate.tried.limits.zero
        refined.append(Refined(candidate, amount, matched, zero, lattices.get(i), orientation))
    return refined


def _own_pairs(candidates: list[Candidate], pairs: list[Int64]) -> list[Int64]:
    if not candidates:
        return []
    features = candidates[0].tried.features
    expected = np.zeros((len(candidates), len(features)))
    for row, c in zip(expected, candidates, strict=True):
        row += c.tried.claims(c.slot, c.scale, c.amount).intensity
    total = np.maximum(expected.sum(axis=0), np.finfo(float).tiny)
    return [
        own[(row >= MOSTLY_OWN * total)[c.tried.feature_of(own)]]
        for c, own, row in zip(candidates, pairs, expected, strict=True)
    ]
