"""The two-stage network of the field's paper as a detector (Faster R-CNN, Ren 2015)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.detector.boxes import suppress
from gixi_bluesky.processing.detector.contrast import Contrast
from gixi_bluesky.processing.detector.engines import network_threads
from gixi_bluesky.processing.detector.networks.backbone import Architecture, Backbone, Pyramid
from gixi_bluesky.processing.detector.networks.box_tensors import clip_boxes, decode_boxes
from gixi_bluesky.processing.detector.networks.heads import BoxHead, roi_align
from gixi_bluesky.processing.detector.networks.proposals import ProposalHead, anchors_of, propose
from gixi_bluesky.processing.detector.networks.torch_threads import on_threads
from gixi_bluesky.processing.detector.weights import Manifest
from gixi_bluesky.processing.types import Detections

__all__ = ["FasterRCNN", "FasterRCNNDetector"]

_FLOOR = 0.02  # score below which nothing is reported
_IOU = 0.1  # of boxes that are one peak
_MOST = 250  # boxes per image
_SMALLEST = 1  # pixel; smaller ones are what clipping left of boxes outside the image


class FasterRCNN(nn.Module):
    """Backbone, pyramid, proposals and box head."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.backbone = Backbone(architecture)
        self.pyramid = Pyramid(architecture)
        self.proposals = ProposalHead(architecture)
        self.head = BoxHead(architecture)

    def forward(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(n, channels, n_phi, n_q) → boxes (m, 4) and logits (m,) of each image's proposals."""
        shape = (images.shape[-2], images.shape[-1])
        maps = self.pyramid(self.backbone(images))
        levels = [self.proposals(m) for m in maps]
        anchors = [
            anchors_of((m.shape[-2], m.shape[-1]), stride, sizes).to(m.device)
            for m, stride, sizes in zip(
                maps, self.architecture.strides, self.architecture.anchors, strict=True
            )
        ]
        found = []
        for i in range(len(images)):
            boxes = propose([(logits[i], deltas[i]) for logits, deltas in levels], anchors, shape)
            logits, deltas = self._judge(maps[0][i], boxes)
            found.append((clip_boxes(decode_boxes(deltas, boxes), shape), logits))
        return found

    def _judge(self, fine: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Pool the finest level under each box and judge it."""
        phi, q = self.architecture.strides[0]
        cells = boxes / boxes.new_tensor([q, phi, q, phi])
        logits, deltas = self.head(roi_align(fine, cells, self.architecture.roi))
        return logits, deltas


class FasterRCNNDetector:
    """Weights of the two-stage network, ready to find peaks.

    Raises WeightsError when the weights do not fit the architecture of their manifest.
    """

    precision = "float32"

    def __init__(self, manifest: Manifest, tensors: dict[str, Tensor], device: str) -> None:
        self.name, self.sha256 = manifest.name, manifest.sha256
        self.device, self.engine, self._threads = device, "torch", network_threads()
        self._preprocessing, self._grid = manifest.preprocessing, manifest.grid
        self._contrast = Contrast(manifest.preprocessing.contrast)
        try:
            network = FasterRCNN(_architecture(manifest))
            network.load_state_dict(tensors)
        except (RuntimeError, TypeError, ValueError) as error:
            message = f"the weights {manifest.name} do not fit their manifest: {error}"
            raise WeightsError(message) from error
        network.eval()
        network.backbone.fold_norms()
        self._network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it

    def prepare(self, polar: NDArray[np.floating]) -> NDArray[np.float32]:
        """Give (..., n_phi, n_q) counts the contrast of the manifest: 0…1, NaN = no data."""
        return self._contrast(polar)

    def __call__(self, images: NDArray[np.float32]) -> list[Detections]:
        """Find the peaks of (n, n_phi, n_q) prepared images, best first.

        Raises WeightsError for a grid these weights do not fit.
        """
        self._grid.require(images.shape[1:], self.name)
        # On a CPU a batch takes longer than its images one by one.
        size = 1 if self.device == "cpu" else 8
        found: list[Detections] = []
        for start in range(0, len(images), size):
            found += self._detect(images[start : start + size])
        return found

    @torch.inference_mode()
    def _detect(self, images: NDArray[np.float32]) -> list[Detections]:
        p = self._preprocessing
        filled = np.nan_to_num(images, nan=p.no_data)
        batch = torch.from_numpy((filled - np.float32(p.mean)) / np.float32(p.std))[:, None]
        batch = batch.to(device=self.device, memory_format=torch.channels_last)
        with on_threads(self._threads):
            return [_detections(boxes, logits) for boxes, logits in self._network(batch)]


def _architecture(manifest: Manifest) -> Architecture:
    """Rebuild the architecture from JSON, whose lists are tuples here."""
    sizes: dict[str, Any] = {key: _tuples(value) for key, value in manifest.architecture.items()}
    return Architecture(**sizes)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _detections(boxes: Tensor, logits: Tensor) -> Detections:
    """Keep one box a peak; the score is 2 sigmoid(logit) - 1, as the weights were deployed."""
    scores = (2 * logits.sigmoid() - 1).cpu().numpy().astype(np.float32)
    corners = boxes.cpu().numpy().astype(np.float32)
    whole = (corners[:, 2:] - corners[:, :2] >= _SMALLEST).all(axis=1)
    above = np.flatnonzero(whole & (scores >= _FLOOR))
    kept = above[suppress(corners[above], scores[above], _IOU)][:_MOST]
    return Detections(corners[kept], scores[kept])
