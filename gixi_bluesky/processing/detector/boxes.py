"""Boxes [q0, phi0, q1, phi1] in pixels: coding against anchors, clipping, suppression."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGEST_LOG", "clipped", "decoded", "distinct", "suppress"]

LARGEST_LOG = math.log(1000 / 16)  # of a size ratio, so that exp() stays finite


def decoded(deltas: NDArray[np.float32], anchors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move and scale anchors: deltas (m, 4) of centre (relative to size) and log size → (m, 4)."""
    size = anchors[:, 2:] - anchors[:, :2]
    centre = anchors[:, :2] + 0.5 * size + deltas[:, :2] * size
    half = 0.5 * size * np.exp(np.minimum(deltas[:, 2:], np.float32(LARGEST_LOG)))
    return np.concatenate([centre - half, centre + half], axis=1)


def clipped(boxes: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Cut boxes (m, 4) at the edges of an image of (n_phi, n_q)."""
    return np.clip(boxes, np.float32(0), np.array([shape[1], shape[0]] * 2, np.float32))


# Boxes nearer than this, in units of the larger, are one peak; in phi a box is 1.7 FWHM tall. The
# convention says 0.6 in |q|; less here, because widths that were found scatter.
_ONE_PEAK_Q, _ONE_PEAK_PHI = 0.4, 0.85 / 1.7
_SPOT_ON_RING = 0.3  # of the taller box: a box this low is a peak of its own


def distinct(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the indices of boxes that are peaks of their own, best first.

    Of boxes that the box convention calls one peak the best stays. Overlap alone is no criterion:
    two boxes side by side on a thin ring hardly overlap.
    """
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        off = np.abs(centres[kept] - centres[i])
        large, small = np.maximum(sizes[kept], sizes[i]), np.minimum(sizes[kept], sizes[i])
        same = (
            (off[:, 0] < _ONE_PEAK_Q * large[:, 0])
            & (off[:, 1] < _ONE_PEAK_PHI * large[:, 1])
            & (small[:, 1] > _SPOT_ON_RING * large[:, 1])
        )
        if not same.any():
            kept.append(int(i))
    return np.array(kept, np.intp)


def suppress(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], iou: float
) -> NDArray[np.intp]:
    """Greedy non-maximum suppression: indices of the boxes that stay, best first.

    boxes: (m, 4); scores: (m,) probabilities; a box goes if it overlaps a better one by more.
    """
    if not len(boxes):
        return np.empty(0, np.intp)
    rectangles = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    corners: Any = rectangles.astype(np.float64)  # OpenCV's stub declares sequences only
    probabilities: Any = scores.astype(np.float32)
    kept = cv2.dnn.NMSBoxes(corners, probabilities, 0.0, iou)
    return np.asarray(kept, np.intp).reshape(-1)
