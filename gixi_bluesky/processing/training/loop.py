"""The training loop: plain torch, resumable from its checkpoint at any moment."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from gixi_bluesky.errors import ConfigError, TrainingError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processing.detector.networks.light import LightNet
from gixi_bluesky.processing.detector.networks.light_architecture import LightArchitecture
from gixi_bluesky.processing.detector.networks.torch_pass import as_input, detect
from gixi_bluesky.processing.evaluation.average_precision import average_precision, judge
from gixi_bluesky.processing.training.beginnings import Beginning, new_network
from gixi_bluesky.processing.training.dataset import TrainingImage, load_image
from gixi_bluesky.processing.training.feed import Batch, batches
from gixi_bluesky.processing.training.losses import loss_of

__all__ = ["CHECKPOINT", "CURVE", "Recipe", "averaged_network", "parameters", "train"]

CHECKPOINT = "checkpoint.pt"
CURVE = "curve.jsonl"
_READERS = 4  # threads that keep a GPU fed


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of a training; stored in the manifest.

    images: number of training images seen in total; the learning rate falls to zero there
    minutes: or there, if the training has then taken that long, resumptions counted together
    batch: images a step; learning_rate: at its highest, AdamW's
    """

    images: int
    minutes: float | None = None
    batch: int = 2
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    warm_up: int = 400
    average: float = 0.998
    clip: float = 5.0
    report_every: int = 200
    seed: int = 1

    @classmethod
    def on(cls, device: str, images: int, minutes: float | None = None, seed: int = 1) -> Recipe:
        """Return the recipe for a device: a GPU needs more than two images at once to be busy."""
        if torch.device(device).type == "cuda":
            return cls(images, minutes, batch=8, learning_rate=2e-3, seed=seed)
        return cls(images, minutes, seed=seed)


@dataclass(slots=True)
class _State:
    net: LightNet
    averaged: LightNet
    optimiser: torch.optim.Optimizer
    device: torch.device
    began_with: str | None
    seen: int = 0
    spent_s: float = 0.0

    def progress(self, recipe: Recipe) -> float:
        """Return how much of the recipe is done, 0…1."""
        spent = self.spent_s / 60.0 / recipe.minutes if recipe.minutes else 0.0
        return max(self.seen / recipe.images, spent)


def train(
    recipe: Recipe,
    folder: Path,
    images: Path,
    held_out: Path,
    device: str = "cpu",
    report: Callable[[dict[str, float]], None] | None = None,
    begin: Callable[[], Beginning] = new_network,
) -> LightNet:
    """Train on the files in `images`, which may still be growing; returns the averaged network.

    folder: where the checkpoint and the curve live; a checkpoint there is resumed
    held_out: files never trained on, for the curve
    device: as torch names it; matrix products are bfloat16 on a GPU, float32 elsewhere
    report: called with each row of the curve once its checkpoint is written
    begin: makes the network of a training that begins, once the random numbers are seeded; a
        checkpoint keeps its own
    Raises ConfigError when there are no images to train on, TrainingError when a loss is not
    finite; the last checkpoint is then kept.
    """
    if not any(images.glob("*.npz")):
        message = f"got no simulated files in {images}; simulate some before training"
        raise ConfigError(message)
    torch.manual_seed(recipe.seed)
    state = _start(recipe, folder, torch.device(device), begin)
    # A new random stream after each resumption, or the same images would be drawn again.
    rng = np.random.default_rng((recipe.seed, state.seen))
    test = [load_image(path) for path in sorted(held_out.glob("*.npz"))]
    readers = _READERS if state.device.type == "cuda" else 1
    sums: dict[str, Tensor | float] = {}
    count, began, before = 0, time.monotonic(), state.spent_s
    with batches(images, recipe.batch, rng, readers) as feed:
        while state.progress(recipe) < 1:
            for name, value in _step(state, recipe, next(feed).to(state.device)).items():
                sums[name] = sums.get(name, 0.0) + value
            count += 1
            state.spent_s = before + time.monotonic() - began
            if count == recipe.report_every or state.progress(recipe) >= 1:
                losses = {name: float(value) / count for name, value in sums.items()}
                _report(state, recipe, folder, losses, test, report)
                sums, count = {}, 0
    return state.averaged


def _report(
    state: _State,
    recipe: Recipe,
    folder: Path,
    losses: dict[str, float],
    test: Sequence[TrainingImage],
    report: Callable[[dict[str, float]], None] | None,
) -> None:
    _require_numbers(state, recipe, losses)
    row = {"seen": state.seen, "seconds": round(state.spent_s, 1)}
    row |= {name: round(loss, 4) for name, loss in losses.items()}
    row |= _scores(state, test)
    with (folder / CURVE).open("a", encoding="utf-8") as curve:
        curve.write(json.dumps(row) + "\n")
    get_logger(folder=str(folder)).info("training", **row)
    _save(state, recipe, folder)
    if report is not None:
        report(row)


def _require_numbers(state: _State, recipe: Recipe, losses: Mapping[str, float]) -> None:
    if all(math.isfinite(loss) for loss in losses.values()):
        return
    message = (
        f"the losses after {state.seen} images are {dict(losses)}; expected numbers: lower the "
        f"learning rate (now at most {recipe.learning_rate:g}) and repeat the command"
    )
    raise TrainingError(message)


def _start(
    recipe: Recipe, folder: Path, device: torch.device, begin: Callable[[], Beginning]
) -> _State:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CHECKPOINT
    stored = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None
    if stored is None:
        beginning = begin()
    else:
        net = LightNet(LightArchitecture.from_json(stored["architecture"]))
        beginning = Beginning(net, stored.get("began_with"))
    net = beginning.net
    net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch has it
    averaged = LightNet(net.architecture).eval().to(device)
    averaged.load_state_dict(net.state_dict())
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    state = _State(net, averaged, optimiser, device, beginning.origin)
    if stored is not None:
        net.load_state_dict(stored["net"])
        averaged.load_state_dict(stored["averaged"])
        optimiser.load_state_dict(stored["optimiser"])
        state.seen, state.spent_s = int(stored["seen"]), float(stored["spent_s"])
    return state


def _save(state: _State, recipe: Recipe, folder: Path) -> None:
    stored: dict[str, Any] = {
        "net": state.net.state_dict(),
        "averaged": state.averaged.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "architecture": asdict(state.net.architecture),
        "began_with": state.began_with,
        "seen": state.seen,
        "spent_s": state.spent_s,
        "recipe": asdict(recipe),
    }
    half_written = folder / (CHECKPOINT + ".new")
    torch.save(stored, half_written)
    half_written.replace(folder / CHECKPOINT)


def _step(state: _State, recipe: Recipe, batch: Batch) -> dict[str, Tensor]:
    for group in state.optimiser.param_groups:
        group["lr"] = recipe.learning_rate * _schedule(state, recipe)
    state.net.train()
    gpu = state.device.type == "cuda"
    with torch.autocast(state.device.type, torch.bfloat16, enabled=gpu):
        losses = loss_of(state.net, batch.images, batch.targets)
    if not gpu:  # free on a CPU; on a GPU this would synchronise, so it is checked at reports
        _require_numbers(state, recipe, {name: loss.item() for name, loss in losses.items()})
    total = sum(losses.values(), start=torch.zeros((), device=state.device))
    state.optimiser.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]  # torch has no types there
    torch.nn.utils.clip_grad_norm_(state.net.parameters(), recipe.clip)
    state.optimiser.step()
    state.seen += len(batch.targets)
    _average(state, recipe)
    # Not read yet: reading would synchronise with the GPU at every step.
    return {name: loss.detach() for name, loss in losses.items()}


def _schedule(state: _State, recipe: Recipe) -> float:
    if state.seen < recipe.warm_up:
        return (state.seen + 1) / recipe.warm_up
    return 0.5 * (1 + math.cos(math.pi * min(state.progress(recipe), 1.0)))


@torch.no_grad()
def _average(state: _State, recipe: Recipe) -> None:
    steps = state.seen / recipe.batch
    keep = min(recipe.average, (1 + steps) / (10 + steps))
    means, nows = (
        [value for value in net.state_dict().values() if value.is_floating_point()]
        for net in (state.averaged, state.net)
    )
    average = get_ema_multi_avg_fn(keep)  # type: ignore[no-untyped-call]  # torch has no types there
    average(means, nows, state.seen)


def _scores(state: _State, test: Sequence[TrainingImage]) -> dict[str, float]:
    if not test:
        return {}
    found = [detect(state.averaged, as_input(one.image[None]).to(state.device))[0] for one in test]
    known = [one.known for one in test]
    return {f"ap{iou}": round(average_precision(judge(found, known, iou)), 4) for iou in (0.3, 0.5)}


def averaged_network(stored: dict[str, Any]) -> LightNet:
    """Return the averaged network of a checkpoint, ready to find peaks."""
    net = LightNet(LightArchitecture.from_json(stored["architecture"])).eval()
    net.load_state_dict(stored["averaged"])
    return net


def parameters(net: LightNet) -> dict[str, Tensor]:
    """Return the tensors to ship."""
    return {name: value.cpu().contiguous() for name, value in net.state_dict().items()}
