"""Matching of a frame: the phases with their probabilities, and hkl of each peak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from gixi_bluesky.processing.match.bayes_factors import (
    SCALE_STEP,
    Claims,
    LogFactors,
    MatchLimits,
    Trials,
    trials,
)
from gixi_bluesky.processing.match.candidates import Candidate
from gixi_bluesky.processing.match.fibre_models import (
    FEWEST_SPOTS,
    FibreModels,
    SpotList,
    fibre_models,
)
from gixi_bluesky.processing.match.line_library import LineLibrary
from gixi_bluesky.processing.match.lines import (
    POSITION_ERROR,
    Features,
    Visibility,
    features_of,
    visibility_of,
)
from gixi_bluesky.processing.match.match_tables import match_peaks_table, matches_table
from gixi_bluesky.processing.match.phase_sets import Standing, best_set, standings
from gixi_bluesky.processing.match.refinement import refine
from gixi_bluesky.processing.match.temporal_prior import base_odds
from gixi_bluesky.processing.match.zero_error import common_errors
from gixi_bluesky.processing.settings import MatchingSettings
from gixi_bluesky.processing.structures.cif_files import Structure
from gixi_bluesky.processing.tables import Matches, MatchPeaks, Peaks
from gixi_bluesky.processing.types import PolarImage

__all__ = ["Matcher", "match"]

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

PROMISING_LOG_ODDS, MOST_PROMISING = -4.0, 24  # the others are not weighed a second time
MOST_TEXTURED = 12  # are tried as fibres, by the lines that are found
MOSTLY_OWN = 0.5
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

    def __call__(self, peaks: Peaks, polar: PolarImage) -> tuple[Matches, MatchPeaks]:
        """Return the candidates' probabilities and which line explains which peak.

        Every candidate is weighed alone; those that promise something are weighed again with the
        zero error that they share and where along phi their peaks lie, each given what the
        accepted phases explain. Cells and textures of the accepted phases are refined. In
        match_peaks, dq is the observed |q| minus that of the refined cell and zero_error.
        """
        visibility = visibility_of(polar, peaks)
        features = features_of(peaks, visibility)
        candidates = self.weigh(peaks, features, visibility)
        ranked = sorted(candidates, key=lambda c: (-c.probability, -c.log_odds))
        reported = [
            c
            for i, c in enumerate(ranked)
            if i < FEWEST_REPORTED or c.probability >= LOWEST_REPORTED
        ]
        refined = refine(
            reported,
            peaks,
            visibility,
            self._settings.zero_error_inv_angstrom,
            self._library.plane_angles,
        )
        return matches_table(refined, features), match_peaks_table(refined, peaks)

    def weigh(
        self,
        peaks: Peaks,
        features: Features,
        visibility: Visibility,
    ) -> list[Candidate]:
        """Return every candidate with its probability."""
        settings, structures = self._settings, self._library.structures
        prior = np.full(len(structures), np.log(base_odds(len(structures))))
        limits = MatchLimits(
            settings.max_dq_inv_angstrom,
            settings.max_lattice_strain,
            zero_sigma=settings.zero_error_inv_angstrom,
        )
        tried = trials(self._library.expected(visibility), features, limits)
        alone = tried.weigh(Claims.none(len(features)))
        models = self._textured(tried, alone, prior, SpotList.of(features, peaks), visibility)
        sure = _sure_phases(tried, alone, prior[tried.owners])
        errors = common_errors(tried, sure, (alone.scale, alone.amount))
        limits = replace(
            limits,
            zero=errors.zero,
            zero_sigma=errors.zero_sigma,
            # no trial scale is nearer to the true one than the steps of the grid allow
            position_error=float(np.hypot(errors.scatter * POSITION_ERROR, SCALE_STEP / 12**0.5)),
        )
        textured = trials(models.lines, features, limits, models.place)
        chosen, log_prior = _likeliest_textures(textured, models, prior)
        owners = models.structure[chosen]
        judged = _judged(textured.of(chosen), log_prior, [structures[owner] for owner in owners])
        return judged + _others(structures, tried, alone, prior, owners)

    def _textured(
        self,
        tried: Trials,
        alone: LogFactors,
        prior: Float64,
        spots: SpotList,
        visibility: Visibility,
    ) -> FibreModels:
        """Return the candidates worth a second look as powders and, with spots, as fibres.

        They are likely as powders, or by the lines that are found, whatever is missing.
        """
        by_lines = tried.weigh_found() if len(spots) >= FEWEST_SPOTS else alone
        odds, found = (w.log_factor + prior[tried.owners] for w in (alone, by_lines))
        powders = np.argsort(-odds, kind="stable")[:MOST_PROMISING]
        hopeful = np.argsort(-found, kind="stable")[:MOST_TEXTURED]
        slots = np.union1d(powders[odds[powders] > PROMISING_LOG_ODDS], hopeful[found[hopeful] > 0])
        return fibre_models(
            tried,
            by_lines,
            slots,
            np.isin(slots, hopeful),
            self._library.angles_of_owner,
            spots,
            visibility,
        )


def _judged(tried: Trials, prior: Float64, structures: Sequence[Structure]) -> list[Candidate]:
    """Return the candidates of the trials with their probabilities beside each other."""
    verdicts = standings(best_set(tried, prior))
    groups = _groups(verdicts, [structure.slug for structure in structures])
    return [
        Candidate(
            structure, one.probability, one.log_odds, tried, slot, one.scale, one.amount,
            one.accepted, groups.get(slot, ()),
        )
        for slot, (structure, one) in enumerate(zip(structures, verdicts, strict=True))
    ]  # fmt: skip


def _others(
    structures: Sequence[Structure],
    tried: Trials,
    weights: LogFactors,
    prior: Float64,
    judged: Int64,
) -> list[Candidate]:
    """Return the candidates that were weighed alone, and those without a line in view."""
    odds = prior.copy()
    odds[tried.owners] += weights.log_factor
    slot = np.full(len(structures), -1)
    slot[tried.owners] = np.arange(len(tried.owners))
    probability, seen = expit(odds), set(judged.tolist())
    return [
        Candidate(
            structures[index], float(probability[index]), float(odds[index]), tried, at,
            int(weights.scale[at]) if at >= 0 else 0, int(weights.amount[at]) if at >= 0 else 0,
        )
        for index, at in enumerate(slot.tolist())
        if index not in seen
    ]  # fmt: skip


def _likeliest_textures(
    tried: Trials, models: FibreModels, prior: Float64
) -> tuple[Int64, Float64]:
    """Return the likeliest model of each candidate, and log odds that count its other models."""
    weights = tried.weigh(Claims.none(len(tried.features)))
    logs = weights.log_factor + models.log_weight[tried.owners]
    structure = models.structure[tried.owners]
    first = np.flatnonzero(np.diff(structure, prepend=-1))
    if not len(first):
        return first, np.zeros(0)
    chosen = np.array([part[0] + np.argmax(logs[part]) for part in _ranges(first, len(logs))])
    whole = np.logaddexp.reduceat(logs, first)
    several = np.diff(first, append=len(logs)) > 1
    whole -= np.where(several, np.log(2), 0)  # powder and fibre are equally likely
    return chosen, prior[structure[first]] + whole - weights.log_factor[chosen]


def _ranges(first: Int64, end: int) -> list[Int64]:
    return np.split(np.arange(end), first[1:])


def _sure_phases(tried: Trials, weights: LogFactors, prior: Float64) -> tuple[int, ...]:
    """Return the slots of phases that are likely alone, each mostly on features of its own."""
    used = np.zeros(len(tried.features), bool)
    sure = []
    odds = weights.log_factor + prior
    for slot in np.argsort(-odds, kind="stable"):
        if odds[slot] <= 0:
            break
        pairs = tried.pairs(int(slot), int(weights.scale[slot]), int(weights.amount[slot]))
        feature = tried.feature_of(pairs)
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
