"""Boxes [q0, phi0, q1, phi1] in pixels as tensors: coding against anchors, clipping."""

from __future__ import annotations

import torch
from torch import Tensor

from gixi_bluesky.processing.detector.boxes import LARGEST_LOG

__all__ = ["clip_boxes", "decode_boxes", "encode_boxes"]


def decode_boxes(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Move and scale anchors: deltas (m, 4) of centre (relative to size) and log size → (m, 4)."""
    size = anchors[:, 2:] - anchors[:, :2]
    centre = anchors[:, :2] + 0.5 * size + deltas[:, :2] * size
    half = 0.5 * size * torch.exp(deltas[:, 2:].clamp(max=LARGEST_LOG))
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
