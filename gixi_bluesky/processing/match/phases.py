"""Which phases explain the peaks of a frame, with a probability each and hkl per peak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from gixi_bluesky.processing.match.bayes_factors import (
    Claims,
    LogFactors,
    MatchLimits,
    Trials,
    trials,
)
from gixi_bluesky.processing.match.candidates import Candidate, matched_members, spots_of
from gixi_bluesky.processing.match.lines import (
    ExpectedLines,
    Features,
    LineLibrary,
    Visibility,
    features_of,
    visibility_of,
)
from gixi_bluesky.processing.match.match_tables import match_peaks_table, matches_table
from gixi_bluesky.processing.match.phase_orientation import RING_DEG, phase_orientation
from gixi_bluesky.processing.match.phase_sets import PhaseSet, Standing, best_set, standings
from gixi_bluesky.processing.match.refinement import refine
from gixi_bluesky.processing.match.zero_error import common_zero
from gixi_bluesky.processing.settings import MatchingSettings
from gixi_bluesky.processing.structures.cif_files import Structure
from gixi_bluesky.processing.tables import Matches, MatchPeaks, Peaks
from gixi_bluesky.processing.types import PolarImage

__all__ = ["Matcher", "match"]

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

PHASES_EXPECTED, HIGHEST_PRIOR_ODDS = 2.0, 0.1  # of a frame; of one candidate
PROMISING_LOG_ODDS, MOST_PROMISING = -6.0, 24  # the others are not weighed a second time
SURE_CONTACT = 0.9
EXPLAINED = 0.5  # of a feature's intensity must lie where a fibre puts any
MOSTLY_OWN = 0.5
LEAST_PROBABILITY = 1e-12
LOWEST_REPORTED, FEWEST_REPORTED = 0.01, 5


def match(
    peaks: Peaks,
    structures: Sequence[Structure],
    settings: MatchingSettings,
    polar: PolarImage,
) -> tuple[Matches, MatchPeaks]:
    """Match one frame; a `Matcher` is faster for many frames of the same candidates."""
    return Matcher(structures, settings)(peaks, polar)


class Matcher:
    """Weighs the same candidate structures against the peaks of many frames."""

    def __init__(self, structures: Sequence[Structure], settings: MatchingSettings) -> None:
        self._library = LineLibrary(structures)
        self._settings = settings

    @property
    def base_odds(self) -> float:
        """Prior odds of one candidate that nothing is known of."""
        return min(HIGHEST_PRIOR_ODDS, PHASES_EXPECTED / max(len(self._library), 1))

    def __call__(
        self, peaks: Peaks, polar: PolarImage, prior_odds: Mapping[str, float] | None = None
    ) -> tuple[Matches, MatchPeaks]:
        """Return the candidates' probabilities and which line explains which peak.

        Every candidate is weighed alone; those that promise something are weighed again with the
        zero error that they share and where along phi their peaks lie, each given what the
        accepted phases explain. Cells and textures of the accepted phases are refined. In
        match_peaks, dq is the observed |q| minus that of the refined cell and zero_error.
        prior_odds: by slug, as from `temporal_prior.prior_odds_after`; None = a frame by itself
        """
        visibility = visibility_of(polar, peaks)
        features = features_of(peaks, visibility)
        candidates = self.weigh(peaks, features, visibility, prior_odds or {})
        ranked = sorted(candidates, key=lambda c: (-c.probability, -c.log_odds))
        reported = [
            c
            for i, c in enumerate(ranked)
            if i < FEWEST_REPORTED or c.probability >= LOWEST_REPORTED
        ]
        refined = refine(reported, peaks, visibility, self._settings.zero_error_inv_angstrom)
        return matches_table(refined, features), match_peaks_table(refined, peaks)

    def weigh(
        self,
        peaks: Peaks,
        features: Features,
        visibility: Visibility,
        prior_odds: Mapping[str, float],
    ) -> list[Candidate]:
        """Return every candidate with its probability."""
        settings, structures = self._settings, self._library.structures
        prior = np.log([prior_odds.get(s.slug, self.base_odds) for s in structures])
        limits = MatchLimits(
            settings.max_dq_inv_angstrom,
            settings.max_lattice_strain,
            zero_sigma=settings.zero_error_inv_angstrom,
        )
        lines = self._library.expected(visibility)
        first = trials(lines, features, limits)
        alone = first.weigh(Claims.none(len(features)))
        odds = alone.log_factor + prior[first.owners]
        best = np.argsort(-odds, kind="stable")[:MOST_PROMISING]
        promising = np.sort(best[odds[best] > PROMISING_LOG_ODDS])
        second = _with_common_zero(lines.of(first.owners[promising]), features, limits, prior)
        found = self._best_set(second, peaks, visibility, prior)
        tried = set(first.owners.tolist())
        candidates = [
            Candidate(structure, _bounded(expit(prior[index])), prior[index], first, -1, 0, 0)
            for index, structure in enumerate(structures)
            if index not in tried
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
        return candidates

    def _best_set(
        self, tried: Trials, peaks: Peaks, visibility: Visibility, prior: Float64
    ) -> PhaseSet:
        """Find the best set of phases; a fibre explains peaks only where along phi it puts any."""
        odds = prior[tried.owners]
        explains = np.ones((len(tried.owners), len(tried.features)), bool)
        found = best_set(tried, odds, explains)
        if not (peaks.fwhm_phi < RING_DEG).any():
            return found
        for slot in found.phases:
            pairs = tried.pairs(slot, int(found.trial[0][slot]), int(found.trial[1][slot]))
            structure = self._library.structures[tried.owners[slot]]
            spots = spots_of(structure, tried, pairs, peaks)
            texture = phase_orientation(spots, visibility)
            if not texture.probability > SURE_CONTACT:
                continue
            _, row = matched_members(tried, pairs)
            within = np.bincount(row, spots.intensity * texture.allowed, len(pairs))
            whole = np.bincount(row, spots.intensity, len(pairs))
            explains[slot, tried.feature[pairs]] = within >= EXPLAINED * whole
        return found if explains.all() else best_set(tried, odds, explains)


def _with_common_zero(
    lines: ExpectedLines, features: Features, limits: MatchLimits, prior: Float64
) -> Trials:
    """Estimate the common zero error from the likely phases and try all structures with it."""
    rough = trials(lines, features, limits)
    weights = rough.weigh(Claims.none(len(features)))
    sure = _sure_phases(rough, weights, prior[rough.owners])
    zero, zero_sigma = common_zero(rough, sure, (weights.scale, weights.amount))
    return trials(lines, features, replace(limits, zero=zero, zero_sigma=zero_sigma))


def _sure_phases(tried: Trials, weights: LogFactors, prior: Float64) -> tuple[int, ...]:
    """Return the slots of phases that are likely alone, each mostly on features of its own."""
    used = np.zeros(len(tried.features), bool)
    sure = []
    odds = weights.log_factor + prior
    for slot in np.argsort(-odds, kind="stable"):
        if odds[slot] <= 0:
            break
        pairs = tried.pairs(int(slot), int(weights.scale[slot]), int(weights.amount[slot]))
        feature = tried.feature[pairs]
        if len(feature) and used[feature].mean() < MOSTLY_OWN:
            sure.append(int(slot))
            used[feature] = True
    return tuple(sure)


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
