"""The judge of boxes fitted to what a network finds on simulated frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gixi_bluesky.errors import ConfigError
from gixi_bluesky.processing.detector.judging.box_context import FEATURES, box_context
from gixi_bluesky.processing.detector.judging.box_judge import FLOOR, PROPOSED, BoxJudge
from gixi_bluesky.processing.detector.judging.box_lines import SAME_Q, TALL, columns_of, is_tall
from gixi_bluesky.processing.detector.judging.ring_proposals import with_proposals
from gixi_bluesky.processing.detector.networks.light_detector import LightDetector
from gixi_bluesky.processing.evaluation.average_precision import KnownBoxes, box_iou
from gixi_bluesky.processing.training.beginnings import light_weights
from gixi_bluesky.processing.training.dataset import load_image
from gixi_bluesky.processing.types import Detections

__all__ = ["JudgedFrame", "fit_judge", "judged_frames", "unjudged"]

Float32 = NDArray[np.float32]

_HIDDEN, _MEMBERS = 24, 2
_EPOCHS, _BATCH = 15, 256
_LEARNING_RATE, _WEIGHT_DECAY = 4e-3, 0.03
_NOISE = 0.05  # added to the inputs, in units of their scale
_BOXES_THAT_COUNT = 60  # of a frame: more of them weigh less each
_HIT, _NEAR_HIT, _NEAR_COLUMNS = 0.3, 0.15, 10.0  # IoU; IoU of a box that near in |q|
_MISSED, _INVENTED = 0.4, 0.55  # share of the rings left out, of the rows of spots given one


@dataclass(frozen=True, slots=True)
class JudgedFrame:
    """Input of the judge for one frame: a row of `table` for each box.

    table: (n, features); hit: (n,) 1 where the box is the best on a peak; weight: (n,)
    """

    table: Float32
    hit: Float32
    weight: Float32


def unjudged(weights: str) -> Callable[[Float32], Detections]:
    """Return what finds the boxes of light weights in a prepared image, without any judge.

    Raises WeightsError for weights that are missing, of another network or of another space.
    """
    manifest, arrays = light_weights(weights, "polar")
    alone = LightDetector(manifest.model_copy(update={"judge": None}), arrays)
    return lambda image: alone(image[None])[0]


def judged_frames(
    paths: Sequence[Path],
    detect: Callable[[Float32], Detections],
    rng: np.random.Generator,
) -> Iterator[JudgedFrame]:
    """Yield every simulated file twice: as `detect` sees it, and with other mistakes.

    detect: from a prepared image to boxes with calibrated scores that were not judged yet
    The second time rings are left out, and rows of spots are given rings that are not there.
    """
    if not paths:
        message = "got no simulated files; simulate some before the judge is fitted"
        raise ConfigError(message)
    for path in paths:
        one = load_image(path)
        found = detect(one.image)
        found = found.chosen(found.scores >= FLOOR)
        for seen in (found, _mistaken(one.image, found, one.known, rng)):
            if len(seen):
                yield _judged(one.image, seen, one.known)


def _judged(image: Float32, found: Detections, known: KnownBoxes) -> JudgedFrame:
    found, proposed = with_proposals(found, len(image))
    hit, ignored = _hits(found, known)
    weight = np.where(ignored, 0, min(1.0, _BOXES_THAT_COUNT / len(found)))
    table = box_context(image, found.boxes, found.scores, proposed)
    return JudgedFrame(table, hit.astype(np.float32), weight.astype(np.float32))


def _hits(found: Detections, known: KnownBoxes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which boxes are the best on a peak, one to one, and which only cover ignored ones."""
    hit = np.zeros(len(found), bool)
    if len(known.boxes):
        iou = box_iou(found.boxes, known.boxes)
        centres = [boxes[:, [0, 2]].mean(axis=1) for boxes in (found.boxes, known.boxes)]
        near = np.abs(centres[0][:, None] - centres[1]) < _NEAR_COLUMNS
        good = (iou >= _HIT) | ((iou > _NEAR_HIT) & near)
        value = np.where(good, iou + 0.1 * found.scores[:, None], 0.0)
        taken = np.zeros(len(known.boxes), bool)
        for flat in np.argsort(-value, axis=None, kind="stable"):
            i, k = divmod(int(flat), len(taken))
            if value[i, k] <= 0:
                break
            if not hit[i] and not taken[k]:
                hit[i] = taken[k] = True
    covers = box_iou(found.boxes, known.ignored) >= _HIT
    return hit, covers.any(axis=1) & ~hit


def _mistaken(
    image: Float32, found: Detections, known: KnownBoxes, rng: np.random.Generator
) -> Detections:
    left_out = is_tall(found.boxes, len(image)) & (rng.random(len(found)) < _MISSED)
    more = list(_invented(image, found, known, rng))
    boxes = np.concatenate([found.boxes[~left_out], *(box[None] for box, _ in more)])
    scores = np.concatenate([found.scores[~left_out], [score for _, score in more]])
    order = np.argsort(-scores, kind="stable")
    return Detections(boxes[order].astype(np.float32), scores[order].astype(np.float32))


def _invented(
    image: Float32, found: Detections, known: KnownBoxes, rng: np.random.Generator
) -> Iterator[tuple[Float32, float]]:
    """Yield rings under rows of spots, with scores, where there is none."""
    n_rows = len(image)
    boxes, scores = found.boxes, found.scores
    column, width = columns_of(boxes)
    tall = is_tall(boxes, n_rows)
    truth = np.concatenate([known.boxes, known.ignored])
    free = (scores >= 0.25) & ~tall
    for i in np.argsort(-scores, kind="stable"):
        if not free[i]:
            continue
        line = np.abs(column - column[i]) < SAME_Q * np.maximum(width, width[i])
        free[line] = False
        if (line & tall & (scores > 0.2)).any() or rng.random() > _INVENTED:
            continue
        columns = image[:, max(int(column[i] - 3), 0) : int(column[i] + 4)]
        seen = np.flatnonzero(np.isfinite(columns).any(axis=1))
        ends = (rng.uniform(0, 0.3, 2) * len(seen)).astype(int)
        if len(seen) - ends.sum() < TALL * n_rows + 1:
            continue
        middle, wide = column[i] + rng.normal(0, 0.15) * width[i], width[i] * rng.uniform(0.7, 1.3)
        rows = seen[ends[0]], seen[len(seen) - 1 - ends[1]]
        box = np.array([middle - wide / 2, rows[0], middle + wide / 2, rows[1]], np.float32)
        if not (box_iou(box[None], truth) > 0.25).any():
            yield box, float(rng.uniform(0.3, 0.92))


class _Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(len(FEATURES), _HIDDEN)
        self.second = nn.Linear(_HIDDEN, _HIDDEN)
        self.third = nn.Linear(_HIDDEN, 1)
        nn.init.zeros_(self.third.weight)  # it begins as what the network said
        nn.init.zeros_(self.third.bias)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.second(torch.tanh(self.first(x))))
        return torch.as_tensor(self.third(hidden)[:, 0])


def fit_judge(frames: Sequence[JudgedFrame], seed: int = 0) -> BoxJudge:
    """Return a judge fitted to frames; the same frames and seed give the same one."""
    table, hit, weight = (
        np.concatenate([getattr(frame, name) for frame in frames]) for name in JudgedFrame.__slots__
    )
    mean, scale = table.mean(axis=0), table.std(axis=0) + np.float32(0.1)
    own, prior = (table[:, FEATURES.index(name)] for name in ("logit", "proposed"))
    x, offset = (table - mean) / scale, torch.from_numpy(own - PROPOSED * prior)
    inputs, target, share = (torch.from_numpy(a) for a in (x, hit, weight))
    members = [_fitted(inputs, offset, target, share, seed + n) for n in range(_MEMBERS)]

    def stacked(layer: str, kind: str) -> Float32:
        values = [getattr(getattr(member, layer), kind) for member in members]
        return np.stack([value.detach().numpy() for value in values])

    return BoxJudge(
        mean,
        scale,
        stacked("first", "weight"),
        stacked("first", "bias"),
        stacked("second", "weight"),
        stacked("second", "bias"),
        stacked("third", "weight")[:, 0],
        stacked("third", "bias")[:, 0],
    )


def _fitted(
    inputs: Tensor, offset: Tensor, target: Tensor, weight: Tensor, seed: int
) -> _Perceptron:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = _Perceptron()
        optimiser = torch.optim.AdamW(
            net.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY
        )
        steps = _EPOCHS * max(len(inputs) // _BATCH, 1)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            chosen = torch.randint(len(inputs), (_BATCH,))
            x = inputs[chosen] + _NOISE * torch.randn(_BATCH, inputs.shape[1])
            loss = nn.functional.binary_cross_entropy_with_logits(
                offset[chosen] + net(x), target[chosen], weight=weight[chosen]
            )
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types there
            optimiser.step()
            schedule.step()
    return net
