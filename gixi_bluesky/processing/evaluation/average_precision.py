"""Average precision and recall of a detector against known boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from gixi_bluesky.processing.simulation.truth import Truth
from gixi_bluesky.processing.types import Detections

__all__ = [
    "KnownBoxes",
    "Verdicts",
    "average_precision",
    "box_iou",
    "boxes_on_rings",
    "judge",
    "judge_by_q",
    "visible_peaks",
]

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

# What an expert could mark. Below, a box is neither hit nor miss.
_LEAST_SNR = 5.0
_LEAST_ON_DETECTOR = 0.25
_SHOULDER_IOU, _SHOULDER_SNR = 0.3, 0.25

_EXCUSE_IOU = 0.3  # with an ignored box, from which on a false detection is none
_RING_ROWS, _ROWS_BEYOND, _SPOT_IOU = 170, 3, 0.3  # 30 deg on the default grid
_FARTHEST_DQ, _OVERLAP_BY_Q = 10.0, 0.1  # pixels; IoU


@dataclass(frozen=True, slots=True)
class KnownBoxes:
    """The truth of one image: (g, 4) boxes to find, (i, 4) boxes that are neither hit nor miss."""

    boxes: Float32
    ignored: Float32


@dataclass(frozen=True, slots=True)
class Verdicts:
    """All detections of a set of images, best first, without those on ignored boxes.

    scores: (m,); hits: (m,) True where a detection is the first on its box
    owners: one (g,) array per image, which detection hit each known box, -1 = missed
    """

    scores: NDArray[np.float64]
    hits: Bool
    owners: tuple[Int64, ...]

    @property
    def n_known(self) -> int:
        """Number of boxes to find."""
        return sum(len(owner) for owner in self.owners)


def box_iou(one: Float32, other: Float32) -> NDArray[np.float64]:
    """Intersection over union of (a, 4) and (b, 4) boxes [q0, phi0, q1, phi1], (a, b)."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    overlap = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (one, other)]
    union = areas[0][:, None] + areas[1][None] - overlap
    return np.asarray(overlap / np.maximum(union, 1e-9))


def visible_peaks(truth: Truth) -> Bool:
    """Return which peaks (m,) of a simulated frame count as to be found; the others are ignored."""
    visible = (truth.snr >= _LEAST_SNR) & (truth.visible >= _LEAST_ON_DETECTOR)
    towers = truth.snr[None, :] * _SHOULDER_SNR > truth.snr[:, None]
    hidden = (box_iou(truth.boxes, truth.boxes) > _SHOULDER_IOU) & towers
    return np.asarray(visible & ~hidden.any(axis=1))


def judge(detections: Iterable[Detections], known: Sequence[KnownBoxes], iou: float) -> Verdicts:
    """Match detections to boxes greedily by score, one to one, overlapping by at least `iou`.

    A detection that only covers an ignored box is left out.
    """
    return _verdicts(detections, known, lambda one, truth: _greedy(one, truth, iou), iou)


def judge_by_q(detections: Iterable[Detections], known: Sequence[KnownBoxes]) -> Verdicts:
    """Match by least |dq| in total, one to one: |dq| < 10 pixels and IoU > 0.1.

    The rule of mlgidDETECT's evaluation; ignored boxes count as in `judge`.
    """
    return _verdicts(detections, known, _nearest_in_q, _OVERLAP_BY_Q)


def _verdicts(
    detections: Iterable[Detections],
    known: Sequence[KnownBoxes],
    matched: Callable[[Detections, KnownBoxes], Int64],
    iou: float,
) -> Verdicts:
    scores, hits, owners = [], [], []
    for one, truth in zip(detections, known, strict=True):
        owner = matched(one, truth)
        hit = np.isin(np.arange(len(one)), owner)
        excused = np.any(box_iou(one.boxes, truth.ignored) >= min(iou, _EXCUSE_IOU), axis=1)
        counted = hit | ~excused
        scores.append(one.scores[counted].astype(np.float64))
        hits.append(hit[counted])
        owners.append(owner)
    joined = np.concatenate(scores) if scores else np.empty(0)
    order = np.argsort(-joined, kind="stable")
    flags = np.concatenate(hits) if hits else np.empty(0, bool)
    return Verdicts(joined[order], flags[order], tuple(owners))


def _greedy(one: Detections, truth: KnownBoxes, iou: float) -> Int64:
    owner = np.full(len(truth.boxes), -1, np.int64)
    overlap = box_iou(one.boxes, truth.boxes)
    if not overlap.size:
        return owner
    for i in np.argsort(-one.scores, kind="stable"):
        free = np.where(owner < 0, overlap[i], -1.0)
        j = int(np.argmax(free))
        if free[j] >= iou:
            owner[j] = i
    return owner


def _nearest_in_q(one: Detections, truth: KnownBoxes) -> Int64:
    owner = np.full(len(truth.boxes), -1, np.int64)
    found, there = (boxes[:, [0, 2]].mean(axis=1) for boxes in (one.boxes, truth.boxes))
    distance = np.abs(found[:, None] - there)
    allowed = (distance < _FARTHEST_DQ) & (box_iou(one.boxes, truth.boxes) > _OVERLAP_BY_Q)
    # A pair that is not allowed costs more than all allowed ones, so it is never preferred.
    cost = np.where(allowed, distance, _FARTHEST_DQ * (1 + sum(distance.shape)))
    rows, columns = linear_sum_assignment(cost)
    good = allowed[rows, columns]
    owner[columns[good]] = rows[good]
    return owner


def boxes_on_rings(found: Detections, known: KnownBoxes) -> Int64:
    """Return how many boxes lie on each known ring or long segment of an image, (rings,).

    A box lies on the nearest ring whose |q| is within one width and whose rows hold the box's
    centre, unless it hits another known peak (IoU 0.3), which may be a spot on the ring.
    """
    tall = known.boxes[:, 3] - known.boxes[:, 1] >= _RING_ROWS
    rings, others = known.boxes[tall], known.boxes[~tall]
    if not len(rings) or not len(found):
        return np.zeros(len(rings), np.int64)
    own: Bool = np.any(box_iou(found.boxes, others) >= _SPOT_IOU, axis=1)
    centres = [(boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (found.boxes, rings)]
    apart = np.abs(centres[0][:, None, 0] - centres[1][:, 0])
    row = centres[0][:, None, 1]
    on = (apart < np.maximum(rings[:, 2] - rings[:, 0], 2.0)) & ~own[:, None]
    on &= (row >= rings[:, 1] - _ROWS_BEYOND) & (row <= rings[:, 3] + _ROWS_BEYOND)
    nearest = np.where(on, apart, np.inf).argmin(axis=1)
    return np.bincount(nearest[on.any(axis=1)], minlength=len(rings))


def average_precision(verdicts: Verdicts) -> float:
    """Area under the precision-recall curve, precision made monotone from the right."""
    if not verdicts.n_known:
        return float("nan")
    hits = np.cumsum(verdicts.hits)
    precision = hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate([[0.0], hits / verdicts.n_known])
    return float(np.sum(np.diff(recall) * precision))
