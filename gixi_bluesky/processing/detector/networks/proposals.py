"""First stage: which anchors may hold a peak, and where it is (region proposals, Ren 2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own idiom

from gixi_bluesky.processing.detector.boxes import suppress
from gixi_bluesky.processing.detector.networks.backbone import Architecture
from gixi_bluesky.processing.detector.networks.box_tensors import clip_boxes, decode_boxes

__all__ = ["ProposalHead", "anchors_of", "propose"]

_PER_LEVEL = 1000  # anchors considered on each level
_PER_IMAGE = 1000  # proposals handed to the second stage
_IOU = 0.9
_SMALLEST = 1e-3  # side of a proposal, pixels


class ProposalHead(nn.Module):
    """A score and four deltas for every anchor of every cell, the same weights on all levels."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        channels, per_cell = architecture.pyramid, len(architecture.anchors[0])
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.cls_logits = nn.Conv2d(channels, per_cell, 1)
        self.bbox_pred = nn.Conv2d(channels, 4 * per_cell, 1)

    def forward(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """(n, c, rows, columns) → logits (n, cells · anchors), deltas (n, cells · anchors, 4)."""
        x = F.relu(self.conv(level))
        logits = self.cls_logits(x).permute(0, 2, 3, 1).flatten(1)
        deltas = self.bbox_pred(x).permute(0, 2, 3, 1).reshape(len(level), -1, 4)
        return logits, deltas


def anchors_of(
    shape: tuple[int, int], stride: tuple[int, int], sizes: tuple[tuple[float, float], ...]
) -> Tensor:
    """Return the anchors (cells · sizes, 4) of one level, centred on index · stride.

    shape: (rows, columns) of the level; stride: pixels (phi, q) per cell; sizes: (height, width)
    """
    phi, q = (torch.arange(n) * s for n, s in zip(shape, stride, strict=True))
    centres = torch.stack(torch.meshgrid(phi, q, indexing="ij")[::-1], dim=-1).float()
    half = torch.tensor(sizes).flip(-1).float() / 2
    return torch.cat([centres[:, :, None] - half, centres[:, :, None] + half], dim=-1).reshape(
        -1, 4
    )


def propose(
    levels: list[tuple[Tensor, Tensor]], anchors: list[Tensor], shape: tuple[int, int]
) -> Tensor:
    """Return the proposals (m, 4) of one image, best first.

    levels: (logits (a,), deltas (a, 4)) of one image on each level; anchors: (a, 4) of each level
    shape: (n_phi, n_q) of the image
    """
    boxes, scores = [], []
    for (logits, deltas), level_anchors in zip(levels, anchors, strict=True):
        best = logits.topk(min(_PER_LEVEL, len(logits)))
        found = clip_boxes(decode_boxes(deltas[best.indices], level_anchors[best.indices]), shape)
        large = (found[:, 2:] - found[:, :2] >= _SMALLEST).all(dim=1)
        found, level_scores = found[large], best.values[large].sigmoid()
        kept = torch.from_numpy(suppress(found.cpu().numpy(), level_scores.cpu().numpy(), _IOU))
        boxes.append(found[kept.to(found.device)])
        scores.append(level_scores[kept.to(found.device)])
    order = torch.cat(scores).argsort(descending=True, stable=True)[:_PER_IMAGE]
    return torch.cat(boxes)[order]
