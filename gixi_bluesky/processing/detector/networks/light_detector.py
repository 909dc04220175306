"""The light network as a detector: from prepared images to boxes with calibrated scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.detector.boxes import clip_boxes, decode_boxes, distinct, suppress
from gixi_bluesky.processing.detector.contrast import equalise_stack
from gixi_bluesky.processing.detector.networks.cuda_graph import CapturedPass
from gixi_bluesky.processing.detector.networks.light import (
    CHANNELS,
    LightArchitecture,
    LightNet,
    Proposals,
)
from gixi_bluesky.processing.detector.weights import Manifest
from gixi_bluesky.processing.types import Detections

__all__ = [
    "ALWAYS_PROPOSED",
    "CANDIDATES",
    "LEAST_PROPOSED",
    "PROPOSALS",
    "PROPOSAL_IOU",
    "LightDetector",
    "as_input",
    "calibrated",
    "detect",
    "judged",
    "logit",
    "remaining",
]

# A crowded frame has hundreds of peaks, each proposed by several anchors; an empty one has few.
LEAST_PROPOSED = 0.25  # score of the first stage
ALWAYS_PROPOSED = 32  # of the best anchors, however low they score
CANDIDATES, PROPOSALS = 2000, 500
PROPOSAL_IOU, _FINAL_IOU = 0.6, 0.3
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
        self._captured: dict[torch.Size, CapturedPass] = {}
        self._network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it

    @property
    def network(self) -> LightNet:
        """The network, its normalisations folded."""
        return self._network

    def prepare(self, polar: NDArray[np.floating]) -> NDArray[np.float32]:
        """Give (..., n_phi, n_q) counts the contrast of the manifest: 0…1, NaN = no data."""
        return equalise_stack(polar, self._contrast)

    def __call__(self, images: NDArray[np.float32]) -> list[Detections]:
        """Find the peaks of (n, n_phi, n_q) prepared images, best first.

        Raises WeightsError for a grid these weights do not fit.
        """
        self._grid.require(images.shape[1:], self.name)
        # On a CPU a batch takes longer than its images one by one.
        size = 1 if self.device == "cpu" else 8
        found: list[Detections] = []
        for start in range(0, len(images), size):
            found += self._detect(as_input(images[start : start + size]).to(self.device))
        return [calibrated(one, *self._calibration) for one in found]

    @torch.inference_mode()
    def _detect(self, batch: Tensor) -> list[Detections]:
        if batch.device.type != "cuda":
            return detect(self._network, batch)
        # A graph is captured on the current device. TensorFloat-32, torch's default for
        # convolutions, would find other boxes than a CPU.
        precise = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with torch.cuda.device(batch.device), precise:
            if batch.shape not in self._captured:  # one grid, and no batch is larger than eight
                self._captured[batch.shape] = CapturedPass(self._network, batch)
            maps, proposals = self._captured[batch.shape](batch)
            return judged(self._network, maps, proposals, (batch.shape[-2], batch.shape[-1]))


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
    return judged(net, maps, net.propose(maps), (images.shape[-2], images.shape[-1]))


def judged(
    net: LightNet, maps: Sequence[Tensor], proposals: Proposals, shape: tuple[int, int]
) -> list[Detections]:
    """Have the second stage judge what the first proposes in images of `shape`, each its own."""
    proposed = _proposed(proposals)
    counts = [len(boxes) for boxes, _ in proposed]
    device = proposals.logits.device
    boxes = torch.from_numpy(np.concatenate([boxes for boxes, _ in proposed])).to(device)
    image = torch.from_numpy(np.repeat(np.arange(len(counts)), counts)).to(device)
    verdict = net.judge(maps, boxes, image)
    boxes = clip_boxes(decode_boxes(verdict[:, 1:5], boxes), (shape[0] - 1, shape[1] - 1))
    kinds = verdict[:, 5:].argmax(1).float()
    # One array, or a GPU would be waited for three times.
    columns = _array(torch.cat([boxes, verdict[:, :1].sigmoid(), kinds[:, None]], 1))
    parts = np.split(columns, np.cumsum(counts)[:-1])
    return [remaining(part, first) for part, (_, first) in zip(parts, proposed, strict=True)]


def remaining(judged: NDArray[np.float32], first: NDArray[np.float32]) -> Detections:
    """Return what stays of (p, 6) boxes, scores and kinds; first: (p,) the first stage's scores."""
    # Both stages have a say: the second sharpens boxes but ranks slightly worse alone.
    scores = judged[:, 4] * np.sqrt(first)
    found = Detections(judged[:, :4], scores, judged[:, 5].astype(np.int64))
    found = found.chosen(suppress(found.boxes, found.scores, _FINAL_IOU))
    return found.chosen(distinct(found.boxes, found.scores))


def _proposed(proposals: Proposals) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return for each image the boxes (p, 4) for the second stage and their scores (p,)."""
    best = proposals.logits.topk(min(CANDIDATES, proposals.logits.shape[1]))
    scores = _array(best.values.sigmoid())
    likely = np.maximum((scores >= LEAST_PROPOSED).sum(axis=1), ALWAYS_PROPOSED)
    index = best.indices[:, : int(likely.max())]
    deltas = proposals.deltas.gather(1, index[..., None].expand(-1, -1, 4))
    decoded = decode_boxes(deltas.flatten(0, 1), proposals.anchors[index.flatten()])
    boxes = _array(decoded).reshape(*index.shape, 4)
    proposed = []
    for i, count in enumerate(likely):
        ours, first = boxes[i, :count], scores[i, :count]
        kept = suppress(ours, first, PROPOSAL_IOU)[:PROPOSALS]
        proposed.append((ours[kept], first[kept]))
    return proposed


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
