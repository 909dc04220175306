"""The light network as a detector: from prepared images to boxes with calibrated scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.contrast import equalise
from gixi_bluesky.processing.detector.boxes import clip_boxes, decode_boxes, distinct, suppress
from gixi_bluesky.processing.detector.light import (
    CHANNELS,
    LightArchitecture,
    LightNet,
    Proposals,
)
from gixi_bluesky.processing.detector.weights import Manifest
from gixi_bluesky.processing.types import Detections

__all__ = ["LightDetector", "as_input", "calibrated", "detect", "logit"]

# A crowded frame has hundreds of peaks, each proposed by several anchors; an empty one has few.
_LEAST_PROPOSED = 0.2  # score of the first stage
_ALWAYS_PROPOSED = 32  # of the best anchors, however low they score
_CANDIDATES, _PROPOSALS = 2000, 500
_PROPOSAL_IOU, _FINAL_IOU = 0.6, 0.3
_FLOOR = 0.02  # score below which nothing is reported
_COARSER = 4
_SURROUNDINGS = (17, 9)  # (|q|, phi) in coarse pixels
_FARTHEST = 4.0


class LightDetector:
    """Weights of the light network, ready to find peaks.

    Raises WeightsError when the weights do not fit the architecture of their manifest.
    """

    def __init__(self, manifest: Manifest, tensors: dict[str, Tensor], device: str) -> None:
        self.name, self.sha256, self.device = manifest.name, manifest.sha256, device
        self._contrast, self._grid = manifest.preprocessing.contrast, manifest.grid
        self._calibration = manifest.calibration
        try:
            network = LightNet(LightArchitecture.from_json(manifest.architecture))
            network.load_state_dict(tensors)
        except (RuntimeError, TypeError, ValueError) as error:
            message = f"the weights {manifest.name} do not fit their manifest: {error}"
            raise WeightsError(message) from error
        network.eval()
        network.fuse()
        self._network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it

    def prepare(self, polar: NDArray[np.floating]) -> NDArray[np.float32]:
        """Give (..., n_phi, n_q) counts the contrast of the manifest: 0…1, NaN = no data."""
        images = np.asarray(polar, np.float32)
        flat = images.reshape(-1, *images.shape[-2:])
        return np.stack([equalise(image, self._contrast) for image in flat]).reshape(images.shape)

    def __call__(self, images: NDArray[np.float32]) -> list[Detections]:
        """Find the peaks of (n, n_phi, n_q) prepared images, best first.

        Raises WeightsError for a grid these weights do not fit.
        """
        self._grid.require(images.shape[1:], self.name)
        # On a CPU a batch takes longer than its images one by one.
        size = 1 if self.device == "cpu" else 8
        found: list[Detections] = []
        for start in range(0, len(images), size):
            batch = as_input(images[start : start + size]).to(self.device)
            found += detect(self._network, batch)
        return [calibrated(one, *self._calibration) for one in found]


def as_input(images: NDArray[np.float32]) -> Tensor:
    """Turn prepared images, NaN = no data, into the network's (n, 3, n_phi, n_q) input.

    Image, validity, and the image over its local mean and scatter; scaled to about unit variance,
    so that "no data", which is 0 everywhere, differs from "dark".
    """
    stacked = np.empty((*images.shape, CHANNELS), np.float32)
    for image, channels in zip(images, stacked, strict=True):
        valid = np.isfinite(image)
        filled = np.where(valid, image, np.float32(0))
        channels[..., 0] = (filled - np.float32(0.5)) * np.float32(3) * valid
        channels[..., 1] = valid
        channels[..., 2] = _over_surroundings(filled, valid.astype(np.float32))
    return torch.from_numpy(stacked).permute(0, 3, 1, 2)  # channels last in memory


def _over_surroundings(image: NDArray[np.float32], valid: NDArray[np.float32]) -> Any:
    """Return (image - mean) / scatter of the valid pixels around, clipped, 0 where no data.

    Mean and scatter are taken on a fourth of the rows and columns and interpolated.
    """
    rows, columns = image.shape
    coarse = (-(-columns // _COARSER), -(-rows // _COARSER))
    share, mean, square = (
        cv2.boxFilter(
            cv2.resize(part, coarse, interpolation=cv2.INTER_AREA),
            -1,
            _SURROUNDINGS,
            borderType=cv2.BORDER_REFLECT,
        )
        for part in (valid, image, image * image)
    )
    share = np.maximum(share, np.float32(1e-3))
    mean = mean / share
    scatter = np.sqrt(np.maximum(square / share - mean * mean, np.float32(1e-6)))
    mean, over = (cv2.resize(part, (columns, rows)) for part in (mean, 1 / scatter))
    z = (image - mean) * over * valid
    return np.clip(z, -_FARTHEST, _FARTHEST, out=z) * np.float32(0.5)


@torch.inference_mode()
def detect(net: LightNet, images: Tensor) -> list[Detections]:
    """Find the boxes of (n, 3, n_phi, n_q) images, best first, with uncalibrated scores."""
    maps = net.features(images)
    proposals = net.propose(maps)
    results = []
    for i in range(len(images)):
        boxes, first = _proposed(proposals, i)
        here = torch.zeros(len(boxes), dtype=torch.long, device=boxes.device)
        verdict = net.judge([m[i : i + 1] for m in maps], boxes, here)
        # Both stages have a say: the second sharpens boxes but ranks slightly worse alone.
        scores = verdict[:, 0].sigmoid() * first.sqrt()
        shape = (images.shape[-2] - 1, images.shape[-1] - 1)
        boxes = clip_boxes(decode_boxes(verdict[:, 1:5], boxes), shape)
        kinds = verdict[:, 5:].argmax(1).cpu().numpy()
        found = Detections(_array(boxes), _array(scores), kinds)
        found = found.chosen(suppress(found.boxes, found.scores, _FINAL_IOU))
        results.append(found.chosen(distinct(found.boxes, found.scores)))
    return results


def _proposed(proposals: Proposals, image: int) -> tuple[Tensor, Tensor]:
    """Return the boxes (p, 4) that the second stage shall judge and their scores (p,)."""
    logits = proposals.logits[image]
    best = logits.topk(min(_CANDIDATES, len(logits)))
    scores = best.values.sigmoid()
    likely = scores >= _LEAST_PROPOSED
    likely[:_ALWAYS_PROPOSED] = True
    index, scores = best.indices[likely], scores[likely]
    boxes = decode_boxes(proposals.deltas[image, index], proposals.anchors[index])
    kept = suppress(_array(boxes), _array(scores), _PROPOSAL_IOU)[:_PROPOSALS]
    chosen = torch.as_tensor(np.asarray(kept, np.int64), device=boxes.device)
    return boxes[chosen], scores[chosen]


def calibrated(found: Detections, slope: float, offset: float) -> Detections:
    """Turn scores into probabilities by Platt scaling, sigmoid(slope · logit + offset).

    Slope and offset are fitted on held-out simulation; what falls below the floor is left out.
    """
    scores = 1 / (1 + np.exp(-(slope * logit(found.scores) + offset)))
    return replace(found, scores=scores.astype(np.float32)).chosen(scores >= _FLOOR)


def logit(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return log(p / (1 - p)), finite also for scores of 0 and 1."""
    p = np.clip(scores.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(p / (1 - p)))


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.float().cpu().numpy().astype(np.float32)
