"""Rings that boxes may be pieces of: proposed for those that lie on one |q|."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.detector.judging.box_lines import SAME_Q, columns_of, is_tall
from gixi_bluesky.processing.types import Detections

__all__ = ["with_proposals"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_PIECE = 0.15  # least score of a piece
_SIDE_BY_SIDE = (0.3, 1.4)  # of the larger width: two rings that may be one wide ring


def with_proposals(found: Detections, n_rows: int) -> tuple[Detections, NDArray[np.bool_]]:
    """Return the boxes and the rings they may be pieces of; True where a box is such a proposal.

    Boxes on one |q| without a ring may be one from the lowest to the highest of them, and two
    rings side by side may be one wide ring. A proposal has the best score of its pieces.
    """
    boxes, scores = found.boxes, found.scores
    proposals = [*_of_pieces(boxes, scores, n_rows), *_of_pairs(boxes, scores, n_rows)]
    n = len(proposals)
    proposed = np.arange(len(found) + n) >= len(found)
    if not n:
        return found, proposed
    more, better = np.array([box for box, _ in proposals]), [score for _, score in proposals]
    kinds = None if found.kinds is None else np.concatenate([found.kinds, np.zeros(n, np.int64)])
    joined = replace(
        found,
        boxes=np.concatenate([boxes, more.astype(np.float32)]),
        scores=np.concatenate([scores, np.array(better, np.float32)]),
        kinds=kinds,
    )
    return joined, proposed


def _of_pieces(boxes: Float32, scores: Float32, n_rows: int) -> list[tuple[Float64, float]]:
    column, width = columns_of(boxes)
    tall = is_tall(boxes, n_rows)
    free = (scores >= _PIECE) & ~tall
    rings = []
    for seed in np.argsort(-scores, kind="stable"):
        if not free[seed]:
            continue
        near = np.abs(column - column[seed]) < SAME_Q * np.maximum(width, width[seed])
        members = np.flatnonzero(near & free)
        free[members] = False
        if len(members) < 2 or (near & tall).any():
            continue
        middle, wide = np.median(column[members]), np.median(width[members])
        # Crystallites scatter in |q|; what they make is as wide as all of them.
        half = max(wide, 0.7 * float(np.ptp(column[members])) + 0.5 * wide) / 2
        low, high = boxes[members, 1].min(), boxes[members, 3].max()
        box = np.array([middle - half, low, middle + half, high])
        rings.append((box, float(scores[members].max())))
    return rings


def _of_pairs(boxes: Float32, scores: Float32, n_rows: int) -> list[tuple[Float64, float]]:
    column, width = columns_of(boxes)
    tall = np.flatnonzero(is_tall(boxes, n_rows) & (scores >= _PIECE))
    rings = []
    for number, i in enumerate(tall):
        for k in tall[number + 1 :]:
            apart = abs(column[i] - column[k]) / max(width[i], width[k])
            shared = min(boxes[i, 3], boxes[k, 3]) - max(boxes[i, 1], boxes[k, 1])
            if not _SIDE_BY_SIDE[0] < apart < _SIDE_BY_SIDE[1] or shared < 0.25 * n_rows:
                continue
            low, high = np.minimum(boxes[i], boxes[k]), np.maximum(boxes[i], boxes[k])
            box = np.array([low[0], low[1], high[2], high[3]], np.float64)
            rings.append((box, float(max(scores[i], scores[k]))))
    return rings
