"""Export of a checkpoint to weights, with scores calibrated on held-out frames."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from gixi_bluesky import __version__
from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.detector.networks.light import LightNet
from gixi_bluesky.processing.detector.networks.second_stage import logit
from gixi_bluesky.processing.detector.networks.torch_pass import as_input, detect
from gixi_bluesky.processing.detector.weights import FittingGrids, Manifest, Preprocessing, save
from gixi_bluesky.processing.evaluation.average_precision import Verdicts, judge_by_q
from gixi_bluesky.processing.geometry.grids import Space
from gixi_bluesky.processing.settings import ContrastSettings
from gixi_bluesky.processing.training.dataset import load_image, require_space
from gixi_bluesky.processing.training.loop import CHECKPOINT, averaged_network, parameters

__all__ = ["calibrate", "calibrate_network", "export"]

# Scores that a threshold may be near; hits by chance, far below, would flatten the fit.
_LIKELY = 0.1
# Strides of the network: rows (phi or q_z) are halved five times, columns once.
_GRID = FittingGrids(multiple=(32, 2), smallest=(64, 64))


def export(
    folder: Path,
    target: Path,
    name: str,
    held_out: Path,
    images: Path | None = None,
    space: Space = "polar",
) -> Manifest:
    """Write the averaged network of a checkpoint as <name>.safetensors with its manifest.

    folder: of the checkpoint; target: where the weights go
    held_out: simulated files never trained on, which calibrate the scores
    images: the simulated files trained on, counted in the notes
    space: of all these images, which the weights then ask for
    Raises WeightsError without a checkpoint or held-out files, TrainingError for files of another
    space.
    """
    if not (folder / CHECKPOINT).is_file():
        message = f"{folder} has no {CHECKPOINT}; train there first"
        raise WeightsError(message)
    for kept in (held_out, images):
        if kept is not None:
            require_space(kept, space)
    stored = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
    net = averaged_network(stored)
    slope, offset = calibrate_network(net, held_out)
    notes = {
        "recipe": stored["recipe"],
        "images_seen": int(stored["seen"]),
        "calibrated_on": _counted(held_out),
    }
    if stored.get("began_with"):
        notes["began_with"] = stored["began_with"]
    if images is not None:
        notes["trained_on"] = _counted(images)
    return save(
        target,
        parameters(net),
        {
            "name": name,
            "network": "light",
            "architecture": asdict(net.architecture),
            "preprocessing": Preprocessing(contrast=ContrastSettings()),
            "grid": _GRID.model_copy(update={"kind": space}),
            "calibration": (slope, offset),
            "licence": "BSD-3-Clause",
            "source": f"gixi-bluesky train, version {__version__}, on frames it simulated",
            "notes": json.dumps(notes),
        },
    )


def calibrate_network(net: LightNet, held_out: Path) -> tuple[float, float]:
    """Return slope and offset of the scores on held-out files; see `calibrate`."""
    test = [load_image(path) for path in sorted(held_out.glob("*.npz"))]
    if not test:
        message = f"got no simulated files in {held_out}; calibration needs frames held out"
        raise WeightsError(message)
    found = (detect(net, as_input(one.image[None]))[0] for one in test)
    verdicts = judge_by_q(found, [one.known for one in test])
    likely = verdicts.scores >= _LIKELY
    if 0 < verdicts.hits[likely].sum() < likely.sum():
        hits, scores = verdicts.hits[likely], verdicts.scores[likely]
        verdicts = replace(verdicts, hits=hits, scores=scores)
    return calibrate(verdicts)


def calibrate(verdicts: Verdicts) -> tuple[float, float]:
    """Fit Platt's sigmoid(slope · logit(score) + offset) to hits and misses.

    Targets are Platt's (1999), a pseudo count away from 0 and 1, so that the fit stays finite
    where scores part hits from misses. Raises WeightsError when all are hits or all misses.
    """
    hits = int(verdicts.hits.sum())
    misses = len(verdicts.hits) - hits
    if not hits or not misses:
        message = f"got {hits} hits and {misses} misses; calibration needs both: train for longer"
        raise WeightsError(message)
    x = logit(verdicts.scores)
    wanted = np.where(verdicts.hits, (hits + 1) / (hits + 2), 1 / (misses + 2))

    def cost(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = line[0] * x + line[1]
        error = expit(z) - wanted
        loss = np.mean(np.logaddexp(0, z) - wanted * z)
        return float(loss), np.array([np.mean(error * x), np.mean(error)])

    slope, offset = minimize(cost, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    return float(slope), float(offset)


def _counted(folder: Path) -> dict[str, int]:
    seeds = _seeds(folder.glob("*.npz"))
    return {"images": len(seeds), "first_seed": min(seeds), "last_seed": max(seeds)}


def _seeds(paths: Iterable[Path]) -> list[int]:
    return [int(path.stem.partition("-")[0]) for path in paths]
