"""Which phases explain the peaks of a frame, with a probability each and hkl per peak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from gixi_bluesky.processing.match.bayes_factors import Claims, Limits, Trials, Weights, trials
from gixi_bluesky.processing.match.lines import (
    ExpectedLines,
    Features,
    LineLibrary,
    Visibility,
    features_of,
    visibility_of,
)
from gixi_bluesky.processing.match.phase_sets import PhaseSet, Standing, best_set, standings
from gixi_bluesky.processing.match.zero_error import common_zero
from gixi_bluesky.processing.settings import MatchingSettings
from gixi_bluesky.processing.structures.cif_files import Structure
from gixi_bluesky.processing.types import Matches, MatchPeaks, Peaks, PolarImage

__all__ = ["Matcher", "match"]

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

PHASES_EXPECTED, HIGHEST_PRIOR_ODDS = 2.0, 0.1  # of a frame; of one candidate
PROMISING_LOG_ODDS, MOST_PROMISING = -6.0, 24  # the others are not weighed a second time
MOSTLY_OWN = 0.5
LEAST_PROBABILITY = 1e-12
LOWEST_REPORTED, FEWEST_REPORTED = 0.01, 5
LOWEST_ASSIGNED = 0.05  # phases less probable name no hkl


def match(
    peaks: Peaks,
    structures: Sequence[Structure],
    settings: MatchingSettings,
    polar: PolarImage,
) -> tuple[Matches, MatchPeaks]:
    """Match one frame; a `Matcher` is faster for many frames of the same candidates."""
    return Matcher(structures, settings)(peaks, polar)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A structure with its verdict; pairs: of its likeliest trial, in `tried`."""

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
    def pairs(self) -> Int64:
        """Indices of its pairs of line and feature."""
        return self.tried.pairs(self.slot, self.scale, self.amount)


class Matcher:
    """Weighs the same candidate structures against the peaks of many frames."""

    def __init__(self, structures: Sequence[Structure], settings: MatchingSettings) -> None:
        self._library = LineLibrary(structures)
        self._settings = settings

    def __call__(self, peaks: Peaks, polar: PolarImage) -> tuple[Matches, MatchPeaks]:
        """Return the candidates' probabilities and which line explains which peak.

        Every candidate is weighed alone; those that promise something are weighed again with the
        zero error that they share, each given what the accepted phases explain. In match_peaks,
        dq is the observed |q| minus that of the CIF divided by lattice_scale, minus zero_error.
        """
        visibility = visibility_of(polar, peaks)
        features = features_of(peaks, visibility)
        candidates, zero = self.weigh(features, visibility)
        ranked = sorted(candidates, key=lambda c: (-c.probability, -c.log_odds))
        reported = [
            c
            for i, c in enumerate(ranked)
            if i < FEWEST_REPORTED or c.probability >= LOWEST_REPORTED
        ]
        return _matches(reported, features, zero), _match_peaks(reported, features, peaks, zero)

    def weigh(self, features: Features, visibility: Visibility) -> tuple[list[Candidate], float]:
        """Return every candidate with its probability, and the common zero error."""
        settings, structures = self._settings, self._library.structures
        prior = float(np.log(min(HIGHEST_PRIOR_ODDS, PHASES_EXPECTED / max(len(structures), 1))))
        limits = Limits(
            settings.max_dq_inv_angstrom,
            settings.max_lattice_strain,
            zero_sigma=settings.zero_error_inv_angstrom,
        )
        lines = self._library.expected(visibility)
        first = trials(lines, features, limits)
        alone = first.weigh(Claims.none(len(features)))
        odds = alone.log_factor + prior
        best = np.argsort(-odds, kind="stable")[:MOST_PROMISING]
        promising = np.sort(best[odds[best] > PROMISING_LOG_ODDS])
        kept = first.owners[promising]
        found, second, zero = _second_look(lines.of(kept), features, limits, prior)
        candidates = [
            _unseen(structure, first, prior)
            for index, structure in enumerate(structures)
            if index not in first.owners
        ]
        candidates += [
            Candidate(
                structures[owner], _bounded(expit(odds[slot])), float(odds[slot]),
                first, slot, int(alone.scale[slot]), int(alone.amount[slot]),
            )
            for slot, owner in enumerate(first.owners)
            if slot not in promising
        ]  # fmt: skip
        verdicts = standings(found)
        groups = _groups(verdicts, [structures[owner].slug for owner in second.owners])
        candidates += [
            Candidate(
                structures[owner], _bounded(one.probability), one.log_odds,
                second, slot, one.scale, one.amount, one.accepted, groups.get(slot, ()),
            )
            for slot, (owner, one) in enumerate(zip(second.owners, verdicts, strict=True))
        ]  # fmt: skip
        return candidates, zero


def _second_look(
    lines: ExpectedLines, features: Features, limits: Limits, prior: float
) -> tuple[PhaseSet, Trials, float]:
    """Find the common zero error, then the best set of phases with it."""
    rough = trials(lines, features, limits)
    weights = rough.weigh(Claims.none(len(features)))
    sure = _sure_phases(rough, weights, prior)
    zero, zero_sigma = common_zero(rough, sure, (weights.scale, weights.amount))
    exact = trials(lines, features, replace(limits, zero=zero, zero_sigma=zero_sigma))
    return best_set(exact, np.full(len(exact.owners), prior)), exact, zero


def _sure_phases(tried: Trials, weights: Weights, prior: float) -> tuple[int, ...]:
    """Return the slots of phases that are likely alone, each mostly on features of its own."""
    used = np.zeros(len(tried.features), bool)
    sure = []
    for slot in np.argsort(-weights.log_factor, kind="stable"):
        if weights.log_factor[slot] + prior <= 0:
            break
        pairs = tried.pairs(int(slot), int(weights.scale[slot]), int(weights.amount[slot]))
        feature = tried.feature[pairs]
        if len(feature) and used[feature].mean() < MOSTLY_OWN:
            sure.append(int(slot))
            used[feature] = True
    return tuple(sure)


def _unseen(structure: Structure, tried: Trials, prior: float) -> Candidate:
    """Return a candidate without a line in the visible range: nothing is known beyond the prior."""
    return Candidate(structure, _bounded(expit(prior)), prior, tried, -1, 0, 0)


def _groups(verdicts: Sequence[Standing], slugs: list[str]) -> dict[int, tuple[str, ...]]:
    """Return the slugs of each group of like structures, by slot."""
    groups: dict[int, tuple[str, ...]] = {}
    for slot, one in enumerate(verdicts):
        if one.like:
            members = (slot, *one.like)
            groups |= dict.fromkeys(members, tuple(slugs[s] for s in members))
    return groups


def _bounded(probability: float) -> float:
    return float(np.clip(probability, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY))


def _matches(candidates: list[Candidate], features: Features, zero: float) -> Matches:
    rows = []
    total = features.intensity.sum()
    for c in candidates:
        pairs = c.pairs
        share = features.intensity[c.tried.feature[pairs]].sum() / total if total > 0 else 0.0
        scale, scale_error = _refined(c.tried, pairs)
        lengths = np.array(c.structure.cell[:3]) * scale
        expected = c.tried.expected(c.slot, c.amount)
        rows.append(
            {
                "phase": c.structure.slug,
                "probability": c.probability,
                "intensity_fraction": share,
                "n_matched": len(pairs),
                "n_expected": len(np.union1d(expected, c.tried.line[pairs])),
                "lattice_scale": scale,
                "lattice_scale_error": scale_error,
                **dict(zip(("cell_a", "cell_b", "cell_c"), lengths, strict=True)),
                **dict(
                    zip(
                        ("cell_alpha", "cell_beta", "cell_gamma"),
                        c.structure.cell[3:],
                        strict=True,
                    )
                ),
                "group": ",".join(c.group),
                "zero_error": zero,
            }
        )
    table: Matches = Matches.from_rows(rows)
    return table


def _refined(tried: Trials, pairs: Int64) -> tuple[float, float]:
    """Return the lattice scale and its error, by least squares of q·scale = q of the CIF."""
    if not len(pairs):
        return 1.0, np.nan
    expected = tried.lines.q[tried.line[pairs]]
    observed = tried.features.q[tried.feature[pairs]] - tried.limits.zero
    weight = (observed / tried.sigma[pairs]) ** 2
    ratio = expected / observed
    scale = float(np.average(ratio, weights=weight))
    error = float(weight.sum() ** -0.5)
    if len(pairs) > 2:
        scatter = np.sqrt(np.average((ratio - scale) ** 2, weights=weight) / (len(pairs) - 1))
        error = float(max(scatter, 0.1 * error))
    return float(np.clip(scale, tried.scales[0], tried.scales[-1])), error


def _match_peaks(
    candidates: list[Candidate], features: Features, peaks: Peaks, zero: float
) -> MatchPeaks:
    rows = []
    for c in candidates:
        if c.probability < LOWEST_ASSIGNED:
            continue
        pairs = c.pairs
        scale, _ = _refined(c.tried, pairs)
        for line, feature in zip(c.tried.line[pairs], c.tried.feature[pairs], strict=True):
            h, k, l = (int(index) for index in c.tried.lines.hkl[line])  # noqa: E741 - the field's name
            expected = c.tried.lines.q[line] / scale + zero
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
