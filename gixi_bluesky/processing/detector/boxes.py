"""Boxes [q0, phi0, q1, phi1] in pixels: coding against anchors, clipping, suppression."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["clip_boxes", "decode_boxes", "distinct", "encode_boxes", "suppress"]

_LARGEST_LOG = math.log(1000 / 16)  # of a size ratio, so that exp() stays finite


def decode_boxes(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Move and scale anchors: deltas (m, 4) of centre (relative to size) and log size → (m, 4)."""
    size = anchors[:, 2:] - anchors[:, :2]
    centre = anchors[:, :2] + 0.5 * size + deltas[:, :2] * size
    half = 0.5 * size * torch.exp(deltas[:, 2:].clamp(max=_LARGEST_LOG))
    return torch.cat([centre - half, centre + half], dim=1)


def encode_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return the deltas that `decode_boxes` turns into `boxes`."""
    size, anchor_size = boxes[:, 2:] - boxes[:, :2], anchors[:, 2:] - anchors[:, :2]
    centre, anchor_centre = boxes[:, :2] + 0.5 * size, anchors[:, :2] + 0.5 * anchor_size
    return torch.cat([(centre - anchor_centre) / anchor_size, (size / anchor_size).log()], dim=1)


def clip_boxes(boxes: Tensor, shape: tuple[int, int]) -> Tensor:
    """Cut boxes (m, 4) at the edges of an image of (n_phi, n_q)."""
    height, width = shape
    return torch.stack(
        [
            boxes[:, 0].clamp(0, width),
            boxes[:, 1].clamp(0, height),
            boxes[:, 2].clamp(0, width),
            boxes[:, 3].clamp(0, height),
        ],
        dim=1,
    )


# Boxes nearer than this, in units of the larger, are one peak; in phi a box is 1.7 FWHM tall. The
# convention says 0.6 in |q|; less here, because widths that were found scatter.
_ONE_PEAK_Q, _ONE_PEAK_PHI = 0.4, 0.85 / 1.7
_SPOT_ON_RING = 0.3  # of the taller box: a box this low is a peak of its own


def distinct(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the indices of boxes that are peaks of their own, best first.

    Of boxes that the box convention calls one peak the best stays: overlap alone does not tell,
    because two boxes side by side on a thin ring hardly overlap.
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
    corners: Any = rectangles.astype(np.float64)  # OpenCV's stub knows sequences only
    probabilities: Any = scores.astype(np.float32)
    kept = cv2.dnn.NMSBoxes(corners, probabilities, 0.0, iou)
    return np.asarray(kept, np.intp).reshape(-1)
