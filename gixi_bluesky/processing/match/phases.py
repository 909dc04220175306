"""Which phases explain the peaks of a frame, with a probability each and hkl per peak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from gixi_bluesky.processing.match.bayes_factors import Evidence, Trials, trials
from gixi_bluesky.processing.match.lines import (
    Features,
    expected_lines,
    features_of,
    visibility_of,
)
from gixi_bluesky.processing.settings import MatchingSettings
from gixi_bluesky.processing.structures.cif_files import Structure
from gixi_bluesky.processing.types import Matches, MatchPeaks, Peaks, PolarImage

__all__ = ["match"]

PRIOR_LOG_ODDS = float(np.log(0.1))  # of a candidate before a frame is seen
ACCEPTED_LOG_ODDS = 0.0  # a phase more probable than not explains its peaks away for others
LOWEST_REPORTED, FEWEST_REPORTED = 0.01, 5
LOWEST_ASSIGNED = 0.05  # phases less probable name no hkl


@dataclass(slots=True)
class _Candidate:
    structure: Structure
    trials: Trials
    alone: Evidence
    given: Evidence
    accepted: bool = False
    probability: float = 0.0

    @property
    def odds_alone(self) -> float:
        return self.alone.log_factor + PRIOR_LOG_ODDS

    @property
    def odds_given(self) -> float:
        return self.given.log_factor + PRIOR_LOG_ODDS

    def shares(self, other: _Candidate) -> int:
        return len(np.intersect1d(self.alone.explained, other.given.explained))


def match(
    peaks: Peaks,
    structures: Sequence[Structure],
    settings: MatchingSettings,
    polar: PolarImage,
) -> tuple[Matches, MatchPeaks]:
    """Weigh every candidate structure by itself, then against those that explain the same peaks.

    The probability is the posterior of a Bayes factor (see `evidence.Trials.weigh`) with prior
    odds of 1:10 per candidate. The surest phase is accepted first; the others are then weighed on
    what it leaves unexplained, and phases that would explain the same peaks share probability.
    In match_peaks, dq is the observed |q| minus that of the CIF divided by lattice_scale.
    """
    visibility = visibility_of(polar, peaks)
    features = features_of(peaks, visibility)
    limits = (settings.max_dq_inv_angstrom, settings.max_lattice_strain)
    unclaimed = np.zeros(len(features.q), bool)
    candidates = []
    for structure in structures:
        tried = trials(expected_lines(structure.reflections, visibility), features, *limits)
        alone = tried.weigh(unclaimed)
        candidates.append(_Candidate(structure, tried, alone, alone))
    _accept(candidates, unclaimed)
    _set_probabilities(candidates)
    ranked = sorted(candidates, key=lambda c: (-c.probability, -c.alone.log_factor))
    reported = [
        c for i, c in enumerate(ranked) if i < FEWEST_REPORTED or c.probability >= LOWEST_REPORTED
    ]
    return _matches(reported, features), _match_peaks(reported, features, peaks)


def _accept(candidates: list[_Candidate], claimed: NDArray[np.bool_]) -> None:
    waiting = list(candidates)
    while waiting:
        best = max(waiting, key=lambda c: c.given.log_factor)
        if best.odds_given <= ACCEPTED_LOG_ODDS:
            return
        best.accepted = True
        waiting.remove(best)
        fresh = np.zeros_like(claimed)
        fresh[best.given.explained] = True
        fresh &= ~claimed
        claimed = claimed | fresh
        for other in waiting:
            if fresh[other.given.features].any():
                other.given = other.trials.weigh(claimed)


def _set_probabilities(candidates: list[_Candidate]) -> None:
    """Set posteriors over none, this phase, its closest rival, and both."""
    accepted = [c for c in candidates if c.accepted]
    for candidate in candidates:
        if candidate.accepted:
            rivals = [c for c in candidates if not c.accepted and c.shares(candidate)]
            rival = max(rivals, key=lambda c: c.odds_alone, default=None)
            candidate.probability = _posterior(candidate, candidate, rival)
        else:
            rivals = [c for c in accepted if candidate.shares(c)]
            rival = max(rivals, key=candidate.shares, default=None)
            candidate.probability = _posterior(candidate, rival, candidate)


def _posterior(candidate: _Candidate, winner: _Candidate | None, loser: _Candidate | None) -> float:
    if winner is None or loser is None:
        return float(expit(candidate.odds_given))
    one, other = winner.odds_given, loser.odds_alone
    both = one + loser.odds_given
    total = np.logaddexp.reduce([0.0, one, other, both])
    return float(np.exp(np.logaddexp(one if candidate is winner else other, both) - total))


def _matches(candidates: list[_Candidate], features: Features) -> Matches:
    rows = []
    total = features.intensity.sum()
    for c in candidates:
        found = c.alone
        share = features.intensity[found.features].sum() / total if total > 0 else 0.0
        lengths = np.array(c.structure.cell[:3]) * found.scale
        rows.append(
            {
                "phase": c.structure.slug,
                "probability": c.probability,
                "intensity_fraction": share,
                "n_matched": len(found.lines),
                "n_expected": found.n_expected,
                "lattice_scale": found.scale,
                "lattice_scale_error": found.scale_error,
                **dict(zip(("cell_a", "cell_b", "cell_c"), lengths, strict=True)),
                **dict(
                    zip(
                        ("cell_alpha", "cell_beta", "cell_gamma"),
                        c.structure.cell[3:],
                        strict=True,
                    )
                ),
            }
        )
    table: Matches = Matches.from_rows(rows)
    return table


def _match_peaks(candidates: list[_Candidate], features: Features, peaks: Peaks) -> MatchPeaks:
    rows = []
    for c in candidates:
        if c.probability < LOWEST_ASSIGNED:
            continue
        found = c.alone
        for line, feature in zip(found.lines, found.features, strict=True):
            h, k, l = (int(index) for index in c.trials.lines.hkl[line])  # noqa: E741 - the field's name
            expected = c.trials.lines.q[line] / found.scale
            rows += [
                {
                    "peak": int(peaks.peak[index]),
                    "phase": c.structure.slug,
                    "h": h,
                    "k": k,
                    "l": l,
                    "dq": peaks.q[index] - expected,
                }
                for index in features.members[feature]
            ]
    table: MatchPeaks = MatchPeaks.from_rows(rows)
    return table
