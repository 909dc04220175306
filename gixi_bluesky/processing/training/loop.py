"""The training loop: plain torch, resumable from its checkpoint at any moment."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gixi_bluesky.errors import ConfigError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processing.detector.light import LightArchitecture, LightNet
from gixi_bluesky.processing.detector.light_detector import as_input, detect
from gixi_bluesky.processing.evaluation import average_precision, judge
from gixi_bluesky.processing.training.dataset import TrainingImage, load_image
from gixi_bluesky.processing.training.losses import Target, loss_of

__all__ = ["CHECKPOINT", "CURVE", "Recipe", "averaged_network", "parameters", "train"]

CHECKPOINT = "checkpoint.pt"
CURVE = "curve.jsonl"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train; stored in the manifest.

    images: how many training images are seen in all; the learning rate falls to zero there
    """

    images: int
    batch: int = 2
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    warm_up: int = 400
    average: float = 0.998
    clip: float = 5.0
    report_every: int = 200
    seed: int = 1


@dataclass(slots=True)
class _State:
    net: LightNet
    averaged: LightNet
    optimiser: torch.optim.Optimizer
    device: torch.device
    seen: int = 0


def train(
    recipe: Recipe,
    folder: Path,
    images: Path,
    held_out: Path,
    device: str = "cpu",
    report: Callable[[dict[str, float]], None] | None = None,
) -> LightNet:
    """Train on the files in `images`, which may still be growing; returns the averaged network.

    folder: where the checkpoint and the curve live; a checkpoint there is resumed
    held_out: files never trained on, for the curve
    device: as torch names it; matrix products are bfloat16 on a GPU, float32 elsewhere
    report: called with each row of the curve once its checkpoint is written
    Raises ConfigError when there are no images to train on.
    """
    if not any(images.glob("*.npz")):
        message = f"got no simulated files in {images}; simulate some before training"
        raise ConfigError(message)
    torch.manual_seed(recipe.seed)
    state = _start(recipe, folder, torch.device(device))
    # Another stream after each resumption, or the same images would be drawn again.
    rng = np.random.default_rng((recipe.seed, state.seen))
    log = get_logger(folder=str(folder))
    test = [load_image(path) for path in sorted(held_out.glob("*.npz"))]
    began, count = time.monotonic(), 0
    sums: dict[str, float] = {}
    while state.seen < recipe.images:
        batch = [_varied(load_image(path), rng) for path in _drawn(images, recipe.batch, rng)]
        for name, value in _step(state, recipe, batch).items():
            sums[name] = sums.get(name, 0.0) + value
        count += 1
        if count == recipe.report_every:
            losses = {name: round(total / count, 4) for name, total in sums.items()}
            row = {"seen": state.seen, "seconds": round(time.monotonic() - began, 1), **losses}
            row |= _scores(state, test)
            with (folder / CURVE).open("a", encoding="utf-8") as curve:
                curve.write(json.dumps(row) + "\n")
            log.info("training", **row)
            _save(state, recipe, folder)
            if report is not None:
                report(row)
            sums, count = {}, 0
    _save(state, recipe, folder)
    return state.averaged


def _start(recipe: Recipe, folder: Path, device: torch.device) -> _State:
    folder.mkdir(parents=True, exist_ok=True)
    net = LightNet(LightArchitecture())
    net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch has it
    averaged = LightNet(net.architecture).eval().to(device)
    averaged.load_state_dict(net.state_dict())
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    state = _State(net, averaged, optimiser, device)
    path = folder / CHECKPOINT
    if path.exists():
        stored = torch.load(path, map_location="cpu", weights_only=True)
        net.load_state_dict(stored["net"])
        averaged.load_state_dict(stored["averaged"])
        optimiser.load_state_dict(stored["optimiser"])
        state.seen = int(stored["seen"])
    return state


def _save(state: _State, recipe: Recipe, folder: Path) -> None:
    stored: dict[str, Any] = {
        "net": state.net.state_dict(),
        "averaged": state.averaged.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "seen": state.seen,
        "recipe": asdict(recipe),
    }
    half_written = folder / (CHECKPOINT + ".new")
    torch.save(stored, half_written)
    half_written.replace(folder / CHECKPOINT)


def _step(state: _State, recipe: Recipe, batch: Sequence[TrainingImage]) -> dict[str, float]:
    for group in state.optimiser.param_groups:
        group["lr"] = recipe.learning_rate * _schedule(state.seen, recipe)
    state.net.train()
    images = as_input(np.stack([one.image for one in batch])).to(state.device)
    targets = [_target(one, state.device) for one in batch]
    gpu = state.device.type == "cuda"
    with torch.autocast(state.device.type, torch.bfloat16, enabled=gpu):
        losses = loss_of(state.net, images, targets)
    total = torch.stack(list(losses.values())).sum()
    state.optimiser.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(state.net.parameters(), recipe.clip)
    state.optimiser.step()
    state.seen += len(batch)
    _average(state, recipe)
    return {name: float(loss.detach()) for name, loss in losses.items()}


def _schedule(seen: int, recipe: Recipe) -> float:
    if seen < recipe.warm_up:
        return (seen + 1) / recipe.warm_up
    done = (seen - recipe.warm_up) / max(recipe.images - recipe.warm_up, 1)
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


@torch.no_grad()
def _average(state: _State, recipe: Recipe) -> None:
    steps = state.seen / recipe.batch
    keep = min(recipe.average, (1 + steps) / (10 + steps))
    for mean, now in zip(
        state.averaged.state_dict().values(), state.net.state_dict().values(), strict=True
    ):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - keep)
        else:
            mean.copy_(now)


def _drawn(folder: Path, count: int, rng: np.random.Generator) -> list[Path]:
    paths = sorted(folder.glob("*.npz"))
    return [paths[i] for i in rng.integers(len(paths), size=count)]


def _varied(one: TrainingImage, rng: np.random.Generator) -> TrainingImage:
    """Change what keeps the truth: the gamma of the contrast."""
    image = one.image ** np.float32(np.exp(rng.normal(0.0, 0.15)))
    return replace(one, image=image)


def _target(one: TrainingImage, device: torch.device) -> Target:
    boxes = torch.from_numpy(one.known.boxes)
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).clamp(min=1.0)
    return Target(
        boxes=torch.cat([centre - size / 2, centre + size / 2], dim=1).to(device),
        kinds=torch.from_numpy(one.kinds).to(device),
        ignored=torch.from_numpy(one.known.ignored).to(device),
    )


def _scores(state: _State, test: Sequence[TrainingImage]) -> dict[str, float]:
    if not test:
        return {}
    found = [detect(state.averaged, as_input(one.image[None]).to(state.device))[0] for one in test]
    known = [one.known for one in test]
    return {f"ap{iou}": round(average_precision(judge(found, known, iou)), 4) for iou in (0.3, 0.5)}


def averaged_network(stored: dict[str, Any]) -> LightNet:
    """Return the averaged network of a checkpoint, ready to find peaks."""
    net = LightNet(LightArchitecture()).eval()
    net.load_state_dict(stored["averaged"])
    return net


def parameters(net: LightNet) -> dict[str, Tensor]:
    """Return the tensors to ship."""
    return {name: value.cpu().contiguous() for name, value in net.state_dict().items()}
