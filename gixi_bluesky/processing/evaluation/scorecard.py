"""Comparison of detectors on simulated frames whose seeds and structures are kept from training."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import ConfigError
from gixi_bluesky.processing.detector import Detector
from gixi_bluesky.processing.evaluation.average_precision import (
    KnownBoxes,
    Verdicts,
    average_precision,
    boxes_on_rings,
    judge,
    judge_by_q,
    visible_peaks,
)
from gixi_bluesky.processing.geometry.grids import Space
from gixi_bluesky.processing.measure.peaks import measure, surely_seen
from gixi_bluesky.processing.settings import DetectorSettings
from gixi_bluesky.processing.simulation.painted import PAINTED_PER_SEED, painted_images
from gixi_bluesky.processing.simulation.random_films import FilmStyle
from gixi_bluesky.processing.simulation.random_scenes import SimulatedFrame, random_frames
from gixi_bluesky.processing.simulation.seeds import EVALUATION, require_within, structures_for
from gixi_bluesky.processing.simulation.truth import Truth
from gixi_bluesky.processing.types import KINDS, CartesianImage, Detections, PolarImage

__all__ = [
    "Bin",
    "Exercise",
    "Judged",
    "Scorecard",
    "compare",
    "evaluation_frames",
    "painted_exercises",
    "scorecard",
]

Float64 = NDArray[np.float64]

_IOU = 0.3  # of a hit, for everything but average precision
_VISIBILITY = {"weak": (5.0, 15.0), "medium": (15.0, 50.0), "strong": (50.0, math.inf)}
_BINS = 10
_FRAMES_PER_SETUP = 2  # of a seed: many set-ups say more than many frames of one


@dataclass(frozen=True, slots=True)
class Exercise:
    """An image before any contrast, and its true boxes.

    intensity: (rows, columns) float32, NaN = no data
    q: (columns,) |q| of a polar image, q_xy of a cartesian one; q_z: (rows,) of a cartesian one
    searched: the image with its variance, None where it is painted
    """

    intensity: NDArray[np.float32]
    q: Float64
    truth: Truth
    q_z: Float64 | None = None
    searched: PolarImage | CartesianImage | None = None

    def measured(self, found: Detections) -> Detections:
        """Return the peaks that an analysis reports, with the boxes of their fit.

        Boxes below the default threshold and peaks below the noise are left out.
        Raises ConfigError for a painted image, which has no variance.
        """
        if self.searched is None:
            message = "painted images have no variance; measure those of --style detector"
            raise ConfigError(message)
        settings = DetectorSettings()
        kept = found.above(settings.score_threshold, settings.max_peaks)
        peaks = surely_seen(measure(self.searched, kept))
        boxes = np.stack([peaks.x0, peaks.y0, peaks.x1, peaks.y1], axis=1)
        return Detections(boxes.astype(np.float32), peaks.score.astype(np.float32))

    def q_at(self, boxes: NDArray[np.float32]) -> Float64:
        """Return |q| at the centres of boxes (m, 4)."""
        column, row = boxes[:, [0, 2]].mean(axis=1), boxes[:, [1, 3]].mean(axis=1)
        q = np.interp(column, np.arange(len(self.q)), self.q)
        if self.q_z is None:
            return np.asarray(q)
        return np.hypot(q, np.interp(row, np.arange(len(self.q_z)), self.q_z))


@dataclass(frozen=True, slots=True)
class Judged:
    """One detector on one image: detections, true boxes, and CPU seconds."""

    found: Detections
    exercise: Exercise
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Bin:
    """Detections of similar score: their mean score, the share of hits, and how many."""

    expected: float
    observed: float
    count: int


@dataclass(frozen=True, slots=True)
class Scorecard:
    """The scores of one detector; NaN where there was nothing to count.

    average_precision: by rule of a hit, `0.1`, `0.3`, `0.5` (IoU) and `dq` (judge_by_q)
    recall: at the default threshold, by visibility (SNR 5-15, 15-50, above) and by kind
    precision: at the default threshold; dq_over_q: median |dq| / |q| of the hits there
    boxes_a_ring: at the default threshold, of rings that have any; rings_found: share of those
    recalls, precisions: the curve over all thresholds; not part of `summary`
    """

    weights: str
    sha256: str
    images: int
    peaks: int
    average_precision: dict[str, float]
    recall: dict[str, float]
    precision: float
    dq_over_q: float
    boxes_a_ring: float
    rings_found: float
    calibration: tuple[Bin, ...]
    cpu_s: float
    recalls: Float64
    precisions: Float64

    def summary(self) -> dict[str, Any]:
        """Return what JSON can hold: None for NaN."""
        return {
            "weights": self.weights,
            "sha256": self.sha256,
            "images": self.images,
            "peaks": self.peaks,
            "average_precision": _without_nan(self.average_precision),
            "recall": _without_nan(self.recall),
            **_without_nan(
                {
                    name: getattr(self, name)
                    for name in ("precision", "dq_over_q", "boxes_a_ring", "rings_found")
                }
            ),
            "calibration": [
                {"expected": b.expected, "observed": b.observed, "count": b.count}
                for b in self.calibration
            ],
            "cpu_s": self.cpu_s,
        }


def evaluation_frames(
    seed: int, images: int, space: Space = "polar", style: FilmStyle = "plain"
) -> Iterator[Exercise]:
    """Return that many frames from `seed` on; raises ConfigError for seeds not kept for it."""
    seeds = require_within(seed, -(-images // _FRAMES_PER_SETUP), EVALUATION)
    structures = structures_for(EVALUATION)
    frames = chain.from_iterable(
        random_frames(s, structures, count=_FRAMES_PER_SETUP, space=space, style=style)
        for s in seeds
    )
    return (_exercise(frame) for frame in islice(frames, images))


def _exercise(frame: SimulatedFrame) -> Exercise:
    image = frame.cartesian
    if image is None:
        return Exercise(frame.polar.intensity, frame.polar.q, frame.truth, searched=frame.polar)
    return Exercise(image.intensity, image.q_xy, frame.truth, image.q_z, image)


def painted_exercises(seed: int, images: int) -> Iterator[Exercise]:
    """Return that many painted images from `seed` on; raises ConfigError as above."""
    seeds = require_within(seed, -(-images // PAINTED_PER_SEED), EVALUATION)
    painted = chain.from_iterable(painted_images(s) for s in seeds)
    return (
        Exercise(p.intensity, np.linspace(0.0, 1.0, p.intensity.shape[1]), p.truth)
        for p in islice(painted, images)
    )


def compare(
    detectors: Sequence[Detector], exercises: Iterable[Exercise], *, measured: bool = False
) -> list[Scorecard]:
    """Run every detector on every image; returns the scorecards in order.

    measured: evaluate the boxes that the fit of the peaks gives
    """
    outcomes: list[list[Judged]] = [[] for _ in detectors]
    for exercise in exercises:
        for detector, mine in zip(detectors, outcomes, strict=True):
            began = time.process_time()
            (found,) = detector(detector.prepare(exercise.intensity)[None])
            if measured:
                found = exercise.measured(found)
            mine.append(Judged(found, exercise, time.process_time() - began))
    pairs = zip(detectors, outcomes, strict=True)
    return [scorecard(detector.name, detector.sha256, mine) for detector, mine in pairs]


def scorecard(weights: str, sha256: str, outcomes: Sequence[Judged]) -> Scorecard:
    """Return the scorecard of one detector."""
    threshold = DetectorSettings().score_threshold
    found = [outcome.found for outcome in outcomes]
    wanted = [visible_peaks(outcome.exercise.truth) for outcome in outcomes]
    known = [
        KnownBoxes(o.exercise.truth.boxes[w], o.exercise.truth.boxes[~w])
        for o, w in zip(outcomes, wanted, strict=True)
    ]
    rules = {str(iou): judge(found, known, iou) for iou in (0.1, 0.3, 0.5)}
    rules["dq"] = judge_by_q(found, known)
    verdicts = rules[str(_IOU)]
    kept = verdicts.hits[verdicts.scores >= threshold]
    hits = np.cumsum(verdicts.hits)
    numbers = [
        boxes_on_rings(one.above(threshold, len(one)), truth)
        for one, truth in zip(found, known, strict=True)
    ]
    on_rings = np.concatenate([np.empty(0, np.int64), *numbers])
    return Scorecard(
        weights=weights,
        sha256=sha256,
        images=len(outcomes),
        peaks=verdicts.n_known,
        average_precision={rule: average_precision(v) for rule, v in rules.items()},
        recall=_recalls(outcomes, wanted, verdicts, threshold),
        precision=_mean(kept),
        dq_over_q=_dq_over_q(outcomes, wanted, verdicts, threshold),
        boxes_a_ring=_mean(on_rings[on_rings > 0]),
        rings_found=_mean(on_rings > 0),
        calibration=tuple(_bins(rules["dq"])),
        cpu_s=_mean([outcome.cpu_s for outcome in outcomes]),
        recalls=hits / max(verdicts.n_known, 1),
        precisions=hits / np.arange(1, len(hits) + 1),
    )


def _hit(outcome: Judged, owner: NDArray[np.int64], threshold: float) -> NDArray[np.bool_]:
    hit = owner >= 0
    hit[hit] = outcome.found.scores[owner[hit]] >= threshold
    return hit


def _recalls(
    outcomes: Sequence[Judged],
    wanted: Sequence[NDArray[np.bool_]],
    verdicts: Verdicts,
    threshold: float,
) -> dict[str, float]:
    hit, snr, kind = [], [], []
    for outcome, asked, owner in zip(outcomes, wanted, verdicts.owners, strict=True):
        hit.append(_hit(outcome, owner, threshold))
        snr.append(outcome.exercise.truth.snr[asked])
        kind.append(np.array(outcome.exercise.truth.kind, dtype=str)[asked])
    if not hit:
        return dict.fromkeys((*_VISIBILITY, *KINDS), math.nan)
    hits, snrs, kinds = np.concatenate(hit), np.concatenate(snr), np.concatenate(kind)
    classes = {name: (snrs >= low) & (snrs < high) for name, (low, high) in _VISIBILITY.items()}
    classes |= {name: kinds == name for name in KINDS}
    return {name: _mean(hits[chosen]) for name, chosen in classes.items()}


def _dq_over_q(
    outcomes: Sequence[Judged],
    wanted: Sequence[NDArray[np.bool_]],
    verdicts: Verdicts,
    threshold: float,
) -> float:
    errors = [np.empty(0)]
    for outcome, asked, owner in zip(outcomes, wanted, verdicts.owners, strict=True):
        hit = _hit(outcome, owner, threshold)
        found = outcome.exercise.q_at(outcome.found.boxes[owner[hit]])
        q = outcome.exercise.truth.q[asked][hit]
        errors.append(np.abs(found - q) / q)
    together = np.concatenate(errors)
    return float(np.median(together)) if len(together) else math.nan


def _bins(verdicts: Verdicts) -> Iterator[Bin]:
    index = np.minimum((verdicts.scores * _BINS).astype(int), _BINS - 1)
    for i in np.unique(index):
        scores, hits = verdicts.scores[index == i], verdicts.hits[index == i]
        yield Bin(float(scores.mean()), float(hits.mean()), len(hits))


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _without_nan(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}
