"""The light network as a detector: from prepared images to boxes with calibrated scores."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gixi_bluesky.processing.detector.light import LightNet, decode
from gixi_bluesky.processing.types import Detections

__all__ = ["Calibration", "as_input", "detect"]

_CANDIDATES = 600
_PROPOSALS = 200
_PROPOSAL_IOU, _FINAL_IOU = 0.7, 0.35
_FLOOR = 0.02


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt scaling, fitted on held-out simulation: probability = sigmoid(slope · x + offset)."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn raw scores in 0…1 into probabilities."""
        raw = np.clip(scores.astype(np.float64), 1e-6, 1 - 1e-6)
        logit = np.log(raw / (1 - raw))
        return (1 / (1 + np.exp(-(self.slope * logit + self.offset)))).astype(np.float32)


def as_input(images: NDArray[np.float32]) -> Tensor:
    """(n, n_phi, n_q) prepared images, NaN = no data → (n, 2, n_phi, n_q) image and validity."""
    valid = np.isfinite(images)
    # Scaled to about unit variance first, so that "no data" differs from "dark".
    scaled = np.where(valid, (np.nan_to_num(images) - 0.5) * 3.0, 0.0)
    return torch.from_numpy(np.stack([scaled, valid], axis=1).astype(np.float32))


@torch.inference_mode()
def detect(net: LightNet, images: Tensor, calibration: Calibration) -> list[Detections]:
    """Return the boxes of each image, best first."""
    maps = net.features(images.contiguous(memory_format=torch.channels_last))
    proposals = net.propose(maps)
    height, width = images.shape[-2:]
    results = []
    for i in range(len(images)):
        best = proposals.logits[i].topk(min(_CANDIDATES, proposals.logits.shape[1]))
        boxes = decode(proposals.deltas[i, best.indices], proposals.anchors[best.indices])
        first = best.values.sigmoid()
        kept = _suppress(boxes, first, _PROPOSAL_IOU)[:_PROPOSALS]
        boxes, first = boxes[kept], first[kept]
        verdict = net.judge([m[i : i + 1] for m in maps], boxes, torch.zeros(len(boxes)))
        scores = (verdict[:, 0].sigmoid() * first.sqrt()).float()
        boxes = decode(verdict[:, 1:5], boxes)
        boxes[:, 0::2] = boxes[:, 0::2].clamp(0, width - 1)
        boxes[:, 1::2] = boxes[:, 1::2].clamp(0, height - 1)
        kept = _suppress(boxes, scores, _FINAL_IOU)
        found = calibration(scores[kept].numpy())
        above = found >= _FLOOR
        results.append(Detections(boxes[kept].numpy().astype(np.float32)[above], found[above]))
    return results


def _suppress(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """Greedy non-maximum suppression; indices of what stays, best first."""
    corners = boxes.cpu().numpy()
    sizes = np.maximum(corners[:, 2:] - corners[:, :2], 1e-3)
    rectangles = np.concatenate([corners[:, :2], sizes], axis=1).astype(np.float64)
    kept = cv2.dnn.NMSBoxes(rectangles.tolist(), scores.cpu().numpy().tolist(), 0.0, iou)
    return torch.as_tensor(np.asarray(kept, dtype=np.int64).reshape(-1))
