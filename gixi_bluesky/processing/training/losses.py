"""The training loss: targets of anchors and proposals, and the regression of their boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own idiom

from gixi_bluesky.processing.detector.networks.box_tensors import decode_boxes, encode_boxes
from gixi_bluesky.processing.detector.networks.light import LightNet, Proposals
from gixi_bluesky.processing.detector.networks.light_architecture import Q_STRIDE

__all__ = ["Target", "loss_of", "pair_iou"]

_ANCHORS_PER_BOX = 6
_WORST_COST = 2.5  # of an anchor that may still stand for a box
_COLUMNS = 3  # of anchors on either side of a box; at two pixels each, those beyond cost more
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


@dataclass(frozen=True, slots=True)
class _Known:
    """The boxes of a whole batch, one after the other, with the image each is in."""

    boxes: Tensor
    kinds: Tensor
    image: Tensor
    ignored: Tensor
    ignored_image: Tensor

    @classmethod
    def of(cls, targets: Sequence[Target]) -> _Known:
        numbers = [torch.full_like(t.kinds, i) for i, t in enumerate(targets)]
        ignored = [i.new_full((len(t.ignored),), n) for n, (i, t) in
                   enumerate(zip(numbers, targets, strict=True))]  # fmt: skip
        return cls(
            torch.cat([t.boxes for t in targets]),
            torch.cat([t.kinds for t in targets]),
            torch.cat(numbers),
            torch.cat([t.ignored for t in targets]),
            torch.cat(ignored),
        )


@dataclass(frozen=True, slots=True)
class _Samples:
    """Boxes for the second stage: labels 1 peak, 0 none, -1 neither; what they should become."""

    boxes: Tensor
    image: Tensor
    labels: Tensor
    wanted: Tensor
    kinds: Tensor


def loss_of(net: LightNet, images: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
    """Return the parts of the loss for (n, 3, n_phi, n_q) images, without waiting for a GPU."""
    known = _Known.of(targets)
    maps = net.features(images)
    found = net.propose(maps)
    # In float32, whatever the dtype of the maps: the loss sums over 100,000 anchors.
    proposals = replace(found, logits=found.logits.float(), deltas=found.deltas.float())
    losses = _first_stage(proposals, known)
    samples = _sampled(proposals, known)
    verdict = net.judge(maps, samples.boxes, samples.image).float()
    return losses | _second_stage(verdict, samples)


def _second_stage(verdict: Tensor, samples: _Samples) -> dict[str, Tensor]:
    hit = samples.labels == 1
    positive = hit.float()
    number = positive.sum()
    # The target score of a peak includes the quality of its box, so that the best box stays.
    refined = decode_boxes(verdict[:, 1:5].detach(), samples.boxes)
    fit = positive * (0.5 + 0.5 * _overlap(refined, samples.wanted))
    score = F.binary_cross_entropy_with_logits(verdict[:, 0], fit, reduction="none")
    # Boxes that are no peak have no step; a jittered one may even be inside out.
    whole = samples.boxes.new_tensor([0.0, 0.0, 1.0, 1.0])
    step = encode_boxes(
        torch.where(hit[:, None], samples.wanted, whole),
        torch.where(hit[:, None], samples.boxes, whole),
    )
    refine = F.smooth_l1_loss(verdict[:, 1:5], step, beta=0.1, reduction="none").mean(1)
    kind = F.cross_entropy(verdict[:, 5:], samples.kinds, reduction="none")
    return {
        "verdict": (score * (samples.labels >= 0)).sum() / number.clamp(min=8),
        "refine": 2.0 * (refine * positive).sum() / number.clamp(min=1),
        "kind": 0.2 * (kind * positive).sum() / number.clamp(min=1),
    }


def pair_iou(one: Tensor, other: Tensor) -> Tensor:
    """Return the (a, b) intersection over union of boxes (a, 4) and (b, 4)."""
    low = torch.maximum(one[:, None, :2], other[None, :, :2])
    high = torch.minimum(one[:, None, 2:], other[None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(2)
    area = [(b[:, 2:] - b[:, :2]).clamp(min=1e-3).prod(1) for b in (one, other)]
    return overlap / (area[0][:, None] + area[1][None] - overlap)


def _overlap(one: Tensor, other: Tensor) -> Tensor:
    """Return the (m,) intersection over union of boxes (m, 4) in pairs."""
    low = torch.maximum(one[:, :2], other[:, :2])
    high = torch.minimum(one[:, 2:], other[:, 2:])
    overlap = (high - low).clamp(min=0).prod(1)
    area = [(b[:, 2:] - b[:, :2]).clamp(min=1e-3).prod(1) for b in (one, other)]
    return overlap / (area[0] + area[1] - overlap)


def _cost(boxes: Tensor, anchors: Tensor) -> Tensor:
    """(g, a) how badly anchors (g, a, 4) stand for boxes (g, 4): centre distance, height ratio.

    IoU would starve boxes of four columns, where one column off is already 0.6.
    """
    centre = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    height = (boxes[:, 3] - boxes[:, 1]).clamp(min=4.0)[:, None]
    centre_a = (anchors[..., :2] + anchors[..., 2:]) / 2
    height_a = anchors[..., 3] - anchors[..., 1]
    d_q = (centre[..., 0] - centre_a[..., 0]).abs() / 2.0
    d_phi = (centre[..., 1] - centre_a[..., 1]).abs() / (0.25 * torch.maximum(height, height_a))
    return d_q + d_phi + (height / height_a).log().abs()


def _near(boxes: Tensor, proposals: Proposals) -> Tensor:
    """Return the (g, a) numbers of the anchors in the columns around each box, all rows of them.

    Those farther away cost too much to stand for it.
    """
    columns = proposals.sizes[0][1]
    middle = ((boxes[:, 0] + boxes[:, 2]) / 2 + 0.5) / Q_STRIDE - 0.5
    reach = torch.arange(-_COLUMNS, _COLUMNS + 1, device=boxes.device)
    column = (middle.round().long()[:, None] + reach).clamp(0, columns - 1)
    numbers, first = [], 0
    for rows, _ in proposals.sizes:
        cell = torch.arange(rows, device=boxes.device)[None, :, None] * columns + column[:, None]
        numbers.append(first + 2 * cell.flatten(1))
        first += 2 * rows * columns
    cells = torch.cat(numbers, 1)
    return torch.cat([cells, cells + 1], 1)


def _first_stage(proposals: Proposals, known: _Known) -> dict[str, Tensor]:
    logits, anchors = proposals.logits, proposals.anchors
    weight, owner = torch.ones_like(logits), torch.full_like(logits, -1, dtype=torch.long)
    if len(known.ignored):
        near = _near(known.ignored, proposals)
        close = _cost(known.ignored, anchors[near]) < _WORST_COST
        weight[known.ignored_image[:, None].expand_as(near)[close], near[close]] = 0.0
    if len(known.boxes):
        near = _near(known.boxes, proposals)
        best, index = _cost(known.boxes, anchors[near]).topk(_ANCHORS_PER_BOX, 1, largest=False)
        near = near.gather(1, index)
        numbers = torch.arange(len(near), device=near.device)
        # The best last, so that it is not overwritten; it stands for its box whatever it costs.
        for rank in range(_ANCHORS_PER_BOX - 1, -1, -1):
            at = (known.image, near[:, rank])
            usable = (best[:, rank] <= _WORST_COST) | (rank == 0)
            owner[at] = torch.where(usable, numbers, owner[at])
    mine = owner >= 0
    labels = mine.float()
    weight = torch.where(mine, 1.0, weight)
    chance = logits.sigmoid()
    error = torch.where(mine, 1 - chance, chance)
    alpha = torch.where(mine, _FOCAL_ALPHA, 1 - _FOCAL_ALPHA)
    entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    score = (weight * alpha * error**_FOCAL_GAMMA * entropy).sum()
    image, anchor = torch.nonzero(mine, as_tuple=True)
    step = encode_boxes(known.boxes[owner[image, anchor]], anchors[anchor])
    box = F.smooth_l1_loss(proposals.deltas[image, anchor], step, beta=0.1, reduction="sum")
    count = max(len(anchor), 8)
    return {"score": 4.0 * score / count, "box": 0.5 * box / count}


@torch.no_grad()
def _sampled(proposals: Proposals, known: _Known) -> _Samples:
    """Take a random part of the best proposals, and jittered truths."""
    n = len(proposals.logits)
    top = proposals.logits.topk(4 * _PROPOSALS, dim=1).indices
    # A random part of the best: neighbours of one peak would crowd out the others.
    top = top[:, torch.randperm(top.shape[1], device=top.device)[:_PROPOSALS]]
    numbers = torch.arange(n, device=top.device)
    image = numbers.repeat_interleave(_PROPOSALS)
    found = decode_boxes(proposals.deltas[image, top.flatten()], proposals.anchors[top.flatten()])
    boxes = torch.cat([found, _jittered(known.boxes, 2)])
    image = torch.cat([image, known.image.repeat(2)])
    labels = torch.zeros_like(image)
    wanted, kinds = boxes, torch.zeros_like(image)
    if len(known.boxes):
        iou, owner = _iou_within(boxes, image, known.boxes, known.image).max(1)
        labels = torch.where(iou >= _NEGATIVE_IOU, -1, labels)
        labels = torch.where(iou >= _POSITIVE_IOU, 1, labels)
        wanted, kinds = known.boxes[owner], known.kinds[owner]
    if len(known.ignored):
        iou = _iou_within(boxes, image, known.ignored, known.ignored_image).max(1).values
        labels = torch.where((iou >= _NEGATIVE_IOU) & (labels == 0), -1, labels)
    return _Samples(boxes, image, labels, wanted, kinds)


def _iou_within(one: Tensor, image: Tensor, other: Tensor, other_image: Tensor) -> Tensor:
    """Return `pair_iou`, 0 between boxes of different images."""
    return pair_iou(one, other) * (image[:, None] == other_image[None])


def _jittered(boxes: Tensor, times: int) -> Tensor:
    size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=2.0).repeat(times, 2)
    return boxes.repeat(times, 1) + 0.12 * size * torch.randn(len(size), 4, device=boxes.device)
