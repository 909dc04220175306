"""How good a detector is: average precision and recall against known boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.types import Detections

__all__ = ["KnownBoxes", "Verdicts", "average_precision", "box_iou", "judge"]

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class KnownBoxes:
    """The truth of one image: (g, 4) boxes to find, (i, 4) boxes that are neither hit nor miss."""

    boxes: Float32
    ignored: Float32


@dataclass(frozen=True, slots=True)
class Verdicts:
    """All detections of a set of images, best first, without those on ignored boxes.

    scores: (m,); hits: (m,) True where a detection is the first on its box
    found: one (g,) array per image, the score of the hit on each known box, 0 = missed
    """

    scores: NDArray[np.float64]
    hits: Bool
    found: tuple[NDArray[np.float64], ...]

    @property
    def n_known(self) -> int:
        """Boxes there are to find."""
        return sum(len(scores) for scores in self.found)


def box_iou(one: Float32, other: Float32) -> NDArray[np.float64]:
    """Intersection over union of (a, 4) and (b, 4) boxes [q0, phi0, q1, phi1], (a, b)."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    overlap = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (one, other)]
    union = areas[0][:, None] + areas[1][None] - overlap
    return np.asarray(overlap / np.maximum(union, 1e-9))


def judge(detections: Iterable[Detections], known: Sequence[KnownBoxes], iou: float) -> Verdicts:
    """Match detections to boxes greedily by score, one to one, overlapping by at least `iou`.

    A detection that only covers an ignored box is left out.
    """
    scores: list[float] = []
    hits: list[bool] = []
    found: list[NDArray[np.float64]] = []
    for one, truth in zip(detections, known, strict=True):
        best = np.zeros(len(truth.boxes))
        overlap = box_iou(one.boxes, truth.boxes)
        excused = np.any(box_iou(one.boxes, truth.ignored) >= min(iou, 0.3), axis=1)
        for i in np.argsort(-one.scores, kind="stable"):
            free = np.where(best == 0, overlap[i], -1.0)
            j = int(np.argmax(free)) if len(free) else -1
            hit = j >= 0 and free[j] >= iou
            if hit:
                best[j] = one.scores[i]
            elif excused[i]:
                continue
            scores.append(float(one.scores[i]))
            hits.append(hit)
        found.append(best)
    order = np.argsort(-np.array(scores), kind="stable")
    return Verdicts(np.array(scores)[order], np.array(hits, bool)[order], tuple(found))


def average_precision(verdicts: Verdicts) -> float:
    """Area under the precision-recall curve, precision made monotone from the right."""
    if not verdicts.n_known:
        return float("nan")
    hits = np.cumsum(verdicts.hits)
    precision = hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate([[0.0], hits / verdicts.n_known])
    return float(np.sum(np.diff(recall) * precision))
