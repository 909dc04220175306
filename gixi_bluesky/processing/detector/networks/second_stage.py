"""From the dense part of the light network to boxes: proposals, the second stage, suppression.

The dense part leaves the last two layers, which are needed for few cells only, to this module:
the deltas of an anchor and the channels that are pooled are taken where there is a proposal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit

from gixi_bluesky.processing.detector.boxes import (
    clipped,
    decoded,
    distinct,
    suppress,
)
from gixi_bluesky.processing.detector.networks.light_architecture import (
    PHI_STRIDES,
    Q_STRIDE,
    LightArchitecture,
)
from gixi_bluesky.processing.types import Detections

__all__ = [
    "ALWAYS_PROPOSED",
    "CANDIDATES",
    "LEAST_PROPOSED",
    "PROPOSALS",
    "PROPOSAL_IOU",
    "Level",
    "SecondStage",
    "calibrated",
    "logit",
    "remaining",
]

Float32 = NDArray[np.float32]
Index = NDArray[np.intp]

# A crowded frame has hundreds of peaks, each proposed by several anchors; an empty one has few.
LEAST_PROPOSED = 0.25  # score of the first stage
ALWAYS_PROPOSED = 32  # of the best anchors, however low they score
CANDIDATES, PROPOSALS = 2000, 500
PROPOSAL_IOU, _FINAL_IOU = 0.6, 0.3
_FLOOR = 0.02  # score below which nothing is reported


@dataclass(frozen=True, slots=True)
class Level:
    """The output of the dense part for one level of one image.

    logits: (rows, columns, 2) of the two anchors of each cell
    hidden: (rows, columns, channels) that the deltas of the anchors follow from
    features: (rows, columns, channels) that proposals are pooled from
    """

    logits: Float32
    hidden: Float32
    features: Float32


@dataclass(frozen=True, slots=True)
class _Linear:
    """A pointwise or fully connected layer: weight (inputs, outputs), bias (outputs,)."""

    weight: Float32
    bias: Float32

    @classmethod
    def of(cls, tensors: Mapping[str, Float32], name: str) -> _Linear:
        weight = tensors[f"{name}.weight"]
        return cls(np.ascontiguousarray(weight.reshape(len(weight), -1).T), tensors[f"{name}.bias"])

    def __call__(self, x: Float32) -> Float32:
        y: Float32 = x @ self.weight
        y += self.bias
        return y


class SecondStage:
    """The proposals of a light network and its second stage."""

    def __init__(self, architecture: LightArchitecture, tensors: Mapping[str, Float32]) -> None:
        a = self._architecture = architecture
        self._deltas, self._reduce, self._hidden, self._verdict = (
            _Linear.of(tensors, name) for name in ("deltas", "reduce", "head.2", "verdict")
        )
        head = tensors["head.0.weight"].reshape(a.hidden, a.pool_channels, -1)
        # Pooled proposals have their channels last here, the network was trained with them first.
        self._head = _Linear(
            np.ascontiguousarray(head.transpose(2, 1, 0).reshape(-1, a.hidden)),
            tensors["head.0.bias"],
        )

    def __call__(self, levels: Sequence[Level], shape: tuple[int, int]) -> Detections:
        """Return the boxes of one image of (n_phi, n_q), best first, with uncalibrated scores."""
        boxes, first = self.proposed(levels)
        verdict = self._judge(levels, boxes)
        boxes = decoded(verdict[:, 1:5], boxes)
        scores = _sigmoid(verdict[:, 0])
        kinds = verdict[:, 5:].argmax(axis=1)
        return remaining(
            Detections(clipped(boxes, (shape[0] - 1, shape[1] - 1)), scores, kinds), first
        )

    def proposed(self, levels: Sequence[Level]) -> tuple[Float32, Float32]:
        """Return the boxes (p, 4) for the second stage and their scores (p,), best first."""
        logits = np.concatenate([level.logits.ravel() for level in levels])
        best = _candidates(logits)
        scores = _sigmoid(logits[best])
        anchors, deltas = np.empty((2, len(best), 4), np.float32)
        begin = 0
        for number, level in enumerate(levels):
            here = np.flatnonzero((best >= begin) & (best < begin + level.logits.size))
            kinds = level.logits.shape[2]
            cell, kind = np.divmod(best[here] - begin, kinds)
            hidden = level.hidden.reshape(-1, level.hidden.shape[2])[cell]
            moves = self._deltas(hidden).reshape(len(here), kinds, 4)
            deltas[here] = moves[np.arange(len(here)), kind]
            anchors[here] = self._anchors(number, *np.divmod(cell, level.logits.shape[1]), kind)
            begin += level.logits.size
        boxes = decoded(deltas, anchors)
        kept = suppress(boxes, scores, PROPOSAL_IOU)[:PROPOSALS]
        return boxes[kept], scores[kept]

    def _anchors(self, level: int, row: Index, column: Index, kind: Index) -> Float32:
        a = self._architecture
        q, phi = (column + 0.5) * Q_STRIDE - 0.5, (row + 0.5) * PHI_STRIDES[level] - 0.5
        half = np.asarray(a.anchor_heights[level])[kind] / 2
        wide = a.anchor_width / 2
        return np.stack([q - wide, phi - half, q + wide, phi + half], axis=1).astype(np.float32)

    def _judge(self, levels: Sequence[Level], boxes: Float32) -> Float32:
        """Return the second stage's verdict on boxes (p, 4): (p, 8) logit, deltas, kinds."""
        a = self._architecture
        height = np.maximum((boxes[:, 3] - boxes[:, 1]) / (PHI_STRIDES[0] * a.pool[0]), 1e-3)
        fitting = np.clip(np.rint(np.log2(height)), 0, len(levels) - 1)
        pooled = np.empty((len(boxes), a.pool[0] * a.pool[1] * a.pool_channels), np.float32)
        for number, level in enumerate(levels):
            here = np.flatnonzero(fitting == number)
            if len(here):
                samples = _sampling(boxes[here], level.features.shape[:2], PHI_STRIDES[number], a)
                features = level.features.reshape(-1, level.features.shape[2])
                pooled[here] = self._reduce(samples @ features).reshape(len(here), -1)
        hidden = np.maximum(self._head(pooled), 0)
        return self._verdict(np.maximum(self._hidden(hidden), 0))


def _candidates(logits: Float32) -> Index:
    """Return the anchors that may hold a peak, best first."""
    likely = np.flatnonzero(logits >= logit(np.float32(LEAST_PROPOSED)))
    count = min(max(len(likely), ALWAYS_PROPOSED), CANDIDATES, len(logits))
    if len(likely) != count:
        likely = np.argpartition(logits, len(logits) - count)[len(logits) - count :]
    return likely[np.argsort(-logits[likely], kind="stable")]


def _sampling(
    boxes: Float32, size: tuple[int, int], stride: int, a: LightArchitecture
) -> sparse.csr_array:
    """Return the bilinear weights of a level's cells in the bins of boxes: (p · bins, cells)."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    extent = np.maximum(boxes[:, 2:] - boxes[:, :2] + 1, 2)
    extent *= np.array(a.context[::-1], np.float32)
    q = (centre[:, :1] + extent[:, :1] * _bins(a.pool[1]) + 0.5) / Q_STRIDE - 0.5
    phi = (centre[:, 1:] + extent[:, 1:] * _bins(a.pool[0]) + 0.5) / stride - 0.5
    column, over_q = _neighbours(q, size[1])  # (p, 8, 2)
    row, over_phi = _neighbours(phi, size[0])  # (p, 16, 2)
    cells = row[:, :, None, :, None] * size[1] + column[:, None, :, None, :]
    weights = over_phi[:, :, None, :, None] * over_q[:, None, :, None, :]
    ends = np.arange(0, cells.size + 1, 4, dtype=np.int32)
    return sparse.csr_array(
        (weights.ravel(), cells.ravel(), ends), (len(ends) - 1, size[0] * size[1])
    )


def _bins(count: int) -> Float32:
    return ((np.arange(count) + 0.5) / count - 0.5).astype(np.float32)


def _neighbours(at: Float32, count: int) -> tuple[NDArray[np.int32], Float32]:
    """Return the indices before and after (p, bins) positions, (p, bins, 2), and their weights."""
    at = np.clip(at, 0, count - 1)
    before = at.astype(np.int32)
    over = at - before
    after = np.minimum(before + 1, count - 1)
    return np.stack([before, after], -1), np.stack([1 - over, over], -1)


def remaining(judged: Detections, first: Float32) -> Detections:
    """Return the detections among judged proposals; first: (p,) the first stage's scores."""
    # Scores of both stages are combined: the second sharpens boxes but ranks slightly worse alone.
    found = replace(judged, scores=(judged.scores * np.sqrt(first)).astype(np.float32))
    found = found.chosen(suppress(found.boxes, found.scores, _FINAL_IOU))
    return found.chosen(distinct(found.boxes, found.scores))


def calibrated(found: Detections, slope: float, offset: float) -> Detections:
    """Turn scores into probabilities by Platt scaling, sigmoid(slope · logit + offset).

    Slope and offset are fitted on held-out simulation; what falls below the floor is left out.
    """
    scores = 1 / (1 + np.exp(-(slope * logit(found.scores) + offset)))
    return replace(found, scores=scores.astype(np.float32)).chosen(scores >= _FLOOR)


def _sigmoid(logits: Float32) -> Float32:
    return np.asarray(expit(logits), np.float32)


def logit(scores: NDArray[np.floating] | np.floating) -> NDArray[np.float64]:
    """Return log(p / (1 - p)), finite also for scores of 0 and 1."""
    p = np.clip(np.asarray(scores, np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(p / (1 - p)))
