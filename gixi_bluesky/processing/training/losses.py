"""What the light network is taught: which anchors and proposals are peaks, and their boxes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own idiom

from gixi_bluesky.processing.detector.boxes import decode_boxes, encode_boxes
from gixi_bluesky.processing.detector.light import LightNet, Proposals

__all__ = ["Target", "loss_of", "pair_iou"]

_ANCHORS_PER_BOX = 6
_WORST_COST = 2.5  # of an anchor that may still stand for a box
_PROPOSALS = 128
_POSITIVE_IOU, _NEGATIVE_IOU = 0.4, 0.3
_FOCAL_ALPHA, _FOCAL_GAMMA = 0.5, 2.0


@dataclass(frozen=True, slots=True)
class Target:
    """The truth of one image.

    boxes: (g, 4) float32 peaks to find, at least a pixel wide; kinds: (g,) int64 index into KINDS
    ignored: (i, 4) float32 boxes that are neither hit nor miss
    """

    boxes: Tensor
    kinds: Tensor
    ignored: Tensor


def loss_of(net: LightNet, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
    """Return the four parts of the loss for (n, 2, n_phi, n_q) images."""
    maps = net.features(images)
    proposals = net.propose(maps)
    losses = _first_stage(proposals, targets)
    boxes, image, labels, wanted, kinds = _sampled(proposals, targets)
    verdict = net.judge(maps, boxes, image)
    known = labels >= 0
    losses["verdict"] = F.binary_cross_entropy_with_logits(
        verdict[known, 0], labels[known].float(), reduction="sum"
    ) / max(int((labels == 1).sum()), 8)
    positive = labels == 1
    if positive.any():
        step = encode_boxes(wanted[positive], boxes[positive])
        losses["refine"] = 2.0 * F.smooth_l1_loss(verdict[positive, 1:5], step, beta=0.1)
        losses["kind"] = 0.2 * F.cross_entropy(verdict[positive, 5:], kinds[positive])
    return losses


def pair_iou(one: Tensor, other: Tensor) -> Tensor:
    """Return the (a, b) intersection over union of boxes (a, 4) and (b, 4)."""
    low = torch.maximum(one[:, None, :2], other[None, :, :2])
    high = torch.minimum(one[:, None, 2:], other[None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(2)
    area = [(b[:, 2:] - b[:, :2]).clamp(min=1e-3).prod(1) for b in (one, other)]
    return overlap / (area[0][:, None] + area[1][None] - overlap)


def _cost(boxes: Tensor, anchors: Tensor) -> Tensor:
    """(g, a) how badly an anchor stands for a box: centre distance and height ratio, not IoU.

    IoU would starve boxes of four columns, where one column off is already 0.6.
    """
    centre = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    height = (boxes[:, 3] - boxes[:, 1]).clamp(min=4.0)[:, None]
    centre_a = (anchors[:, :2] + anchors[:, 2:]) / 2
    height_a = anchors[:, 3] - anchors[:, 1]
    d_q = (centre[..., 0] - centre_a[:, 0]).abs() / 2.0
    d_phi = (centre[..., 1] - centre_a[:, 1]).abs() / (0.25 * torch.maximum(height, height_a))
    return d_q + d_phi + (height / height_a).log().abs()


def _first_stage(proposals: Proposals, targets: list[Target]) -> dict[str, Tensor]:
    score = box = proposals.logits.new_zeros(())
    count = 0
    for logits, deltas, target in zip(proposals.logits, proposals.deltas, targets, strict=True):
        labels = torch.zeros_like(logits)
        weight = torch.ones_like(logits)
        owner = torch.full(logits.shape, -1, dtype=torch.long, device=logits.device)
        if len(target.ignored):
            weight[(_cost(target.ignored, proposals.anchors) < _WORST_COST).any(0)] = 0.0
        if len(target.boxes):
            cost = _cost(target.boxes, proposals.anchors)
            best, index = cost.topk(_ANCHORS_PER_BOX, dim=1, largest=False)
            best[:, 1:][best[:, 1:] > _WORST_COST] = torch.inf
            for rank in range(_ANCHORS_PER_BOX - 1, -1, -1):
                usable = torch.isfinite(best[:, rank])
                owner[index[usable, rank]] = torch.nonzero(usable)[:, 0]
            labels[owner >= 0] = 1.0
            weight[owner >= 0] = 1.0
        chance = logits.sigmoid()
        error = torch.where(labels > 0, 1 - chance, chance)
        alpha = torch.where(labels > 0, _FOCAL_ALPHA, 1 - _FOCAL_ALPHA)
        entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        score = score + (weight * alpha * error**_FOCAL_GAMMA * entropy).sum()
        mine = owner >= 0
        count += int(mine.sum())
        if mine.any():
            step = encode_boxes(target.boxes[owner[mine]], proposals.anchors[mine])
            box = box + F.smooth_l1_loss(deltas[mine], step, beta=0.1, reduction="sum")
    return {"score": 4.0 * score / max(count, 8), "box": 0.5 * box / max(count, 8)}


@torch.no_grad()
def _sampled(
    proposals: Proposals, targets: list[Target]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Boxes for the second stage: the best proposals and jittered truths, with their labels."""
    rows = []
    for i, target in enumerate(targets):
        top = proposals.logits[i].topk(4 * _PROPOSALS).indices
        # A random part of the best: neighbours of one peak would crowd out the others.
        top = top[torch.randperm(len(top), device=top.device)[:_PROPOSALS]]
        found = decode_boxes(proposals.deltas[i, top], proposals.anchors[top])
        boxes = torch.cat([found, _jittered(target.boxes, 2)])
        labels = torch.zeros(len(boxes), dtype=torch.long, device=boxes.device)
        wanted = boxes.clone()
        kinds = torch.zeros_like(labels)
        if len(target.boxes):
            iou, owner = pair_iou(boxes, target.boxes).max(1)
            labels[iou >= _NEGATIVE_IOU] = -1
            labels[iou >= _POSITIVE_IOU] = 1
            wanted, kinds = target.boxes[owner], target.kinds[owner]
        if len(target.ignored):
            near = pair_iou(boxes, target.ignored).max(1).values >= _NEGATIVE_IOU
            labels[near & (labels == 0)] = -1
        rows.append((boxes, torch.full_like(labels, i), labels, wanted, kinds))
    boxes, image, labels, wanted, kinds = (torch.cat(part) for part in zip(*rows, strict=True))
    return boxes, image, labels, wanted, kinds


def _jittered(boxes: Tensor, times: int) -> Tensor:
    size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=2.0).repeat(times, 2)
    return boxes.repeat(times, 1) + 0.12 * size * torch.randn(len(size), 4, device=boxes.device)
