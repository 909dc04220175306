"""Quality of the probabilities of phases: AUC, calibration, recall and precision."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from gixi_bluesky.processing.evaluation.crystal_scorecard import (
    CrystalScorecard,
    FoundCrystal,
    crystal_scorecard,
    found_crystals,
)
from gixi_bluesky.processing.evaluation.mixtures import Mixture
from gixi_bluesky.processing.evaluation.scorecard import Bin
from gixi_bluesky.processing.match.phases import Matcher
from gixi_bluesky.processing.settings import MatchingSettings

__all__ = ["FEWEST_LINES", "PhaseScorecard", "Verdict", "area_under_curve", "judge_phases"]

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

FEWEST_LINES = 4  # visible lines of a present phase that counts in `auc` and `recall`
_BINS = 10
_SMALLEST_REPORTED = 0.01


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of the matching for one candidate in one frame.

    n_visible: lines of a present phase that can be seen, 0 for an absent one
    group: of phases that the image cannot distinguish, "" = none
    """

    slug: str
    probability: float
    present: bool
    n_visible: int
    group: str = ""


@dataclass(frozen=True, slots=True)
class PhaseScorecard:
    """The verdicts of many frames, counted.

    auc: present phases of at least FEWEST_LINES visible lines against absent ones
    calibration_error: mean over all verdicts of |mean probability - share present| of their bin of
        ten; calibration_error_reported: the same without verdicts below 0.01, which are the most
    recall, precision: at probability above 0.5; recall of the phases of `auc`, recall_all of all
    group_recall, group_precision: the same for groups that count as one phase, with the sum of
        their probabilities; one that holds a present phase is right
    highest_absent: quantiles 0.5, 0.99 and 1 over the frames of the surest absent phase
    cpu_ms: of a frame's matching, median
    crystals: cells and orientations of the phases that were found
    """

    frames: int
    candidates: int
    auc: float
    calibration_error: float
    calibration_error_reported: float
    recall: float
    recall_all: float
    precision: float
    group_recall: float
    group_precision: float
    highest_absent: tuple[float, float, float]
    cpu_ms: float
    calibration: tuple[Bin, ...]
    crystals: CrystalScorecard

    def summary(self) -> dict[str, Any]:
        """Return everything as JSON can hold it; NaN as None."""
        numbers = {
            name: getattr(self, name)
            for name in (
                "frames", "candidates", "auc", "calibration_error", "calibration_error_reported",
                "recall", "recall_all", "precision", "group_recall", "group_precision", "cpu_ms",
            )
        }  # fmt: skip
        finite = {k: v if np.isfinite(v) else None for k, v in numbers.items()}
        crystals = {k: v if np.isfinite(v) else None for k, v in asdict(self.crystals).items()}
        bins = [[b.expected, b.observed, b.count] for b in self.calibration]
        return {
            **finite,
            "highest_absent": list(self.highest_absent),
            "calibration": bins,
            "crystals": crystals,
        }


def judge_phases(
    frames: Iterable[Mixture], settings: MatchingSettings | None = None
) -> PhaseScorecard:
    """Match every frame against its candidates and count the verdicts.

    The frames' candidates of one slug are one structure.
    """
    verdicts: list[list[Verdict]] = []
    seconds: list[float] = []
    crystals: list[FoundCrystal] = []
    matchers: dict[tuple[str, ...], Matcher] = {}
    for frame in frames:
        slugs = tuple(c.slug for c in frame.candidates)
        if slugs not in matchers:
            matchers[slugs] = Matcher(frame.candidates, settings or MatchingSettings())
        began = time.process_time()
        matches, _ = matchers[slugs](frame.peaks, frame.polar)
        seconds.append(time.process_time() - began)
        crystals += found_crystals(frame, matches)
        said = dict(zip(matches.phase, matches.probability, strict=True))
        groups = dict(zip(matches.phase, matches.group, strict=True))
        visible = {p.structure.slug: p.n_visible for p in frame.present}
        verdicts.append(
            [
                Verdict(
                    c.slug,
                    float(said.get(c.slug, 0)),
                    c.slug in visible,
                    visible.get(c.slug, 0),
                    groups.get(c.slug, ""),
                )
                for c in frame.candidates
            ]
        )
    return _scorecard(verdicts, seconds, crystals)


def area_under_curve(present: Float64, absent: Float64) -> float:
    """Return the chance that a present phase is more probable than an absent one, ties half."""
    if not len(present) or not len(absent):
        return float("nan")
    ranks = rankdata(np.concatenate([present, absent]))[: len(present)]
    wins = ranks.sum() - len(present) * (len(present) + 1) / 2
    return float(wins / (len(present) * len(absent)))


def _scorecard(
    verdicts: list[list[Verdict]], seconds: list[float], crystals: list[FoundCrystal]
) -> PhaseScorecard:
    every = [v for frame in verdicts for v in frame]
    probability = np.array([v.probability for v in every])
    present = np.array([v.present for v in every], bool)
    asked = present & (np.array([v.n_visible for v in every]) >= FEWEST_LINES)
    said = probability > 0.5
    grouped = [v for frame in verdicts for v in _grouped(frame)]
    whole = np.array([v.probability > 0.5 for v in grouped], bool)
    right = np.array([v.present for v in grouped], bool)
    wanted = right & (np.array([v.n_visible for v in grouped]) >= FEWEST_LINES)
    highest = [
        max((v.probability for v in frame if not v.present), default=0) for frame in verdicts
    ]
    low, high, top = np.quantile(highest, [0.5, 0.99, 1.0]) if highest else [np.nan] * 3
    reported = probability >= _SMALLEST_REPORTED
    return PhaseScorecard(
        frames=len(verdicts),
        candidates=len(verdicts[0]) if verdicts else 0,
        auc=area_under_curve(probability[asked], probability[~present]),
        calibration_error=_calibration_error(_bins(probability, present)),
        calibration_error_reported=_calibration_error(
            _bins(probability[reported], present[reported])
        ),
        recall=_share(said[asked]),
        recall_all=_share(said[present]),
        precision=_share(present[said]),
        group_recall=_share(whole[wanted]),
        group_precision=_share(right[whole]),
        highest_absent=(float(low), float(high), float(top)),
        cpu_ms=1e3 * float(np.median(seconds)) if seconds else float("nan"),
        calibration=_bins(probability, present),
        crystals=crystal_scorecard(crystals),
    )


def _grouped(frame: list[Verdict]) -> list[Verdict]:
    """Return the verdicts of a frame with each group as one."""
    groups: dict[str, list[Verdict]] = {}
    for verdict in frame:
        groups.setdefault(verdict.group or verdict.slug, []).append(verdict)
    return [
        Verdict(
            slug=name,
            probability=min(sum(v.probability for v in members), 1.0),
            present=any(v.present for v in members),
            n_visible=max(v.n_visible for v in members),
        )
        for name, members in groups.items()
    ]


def _share(flags: Bool) -> float:
    return float(flags.mean()) if flags.size else float("nan")


def _bins(probability: Float64, present: Bool) -> tuple[Bin, ...]:
    """Return ten bins of equal width; those without verdicts are left out."""
    index = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    groups = ((probability[index == i], present[index == i]) for i in range(_BINS))
    return tuple(Bin(float(p.mean()), float(true.mean()), len(p)) for p, true in groups if len(p))


def _calibration_error(bins: tuple[Bin, ...]) -> float:
    total = sum(b.count for b in bins)
    if not total:
        return float("nan")
    return sum(b.count * abs(b.expected - b.observed) for b in bins) / total
