"""`train`: weights of our own from simulated frames."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from gixi_bluesky.cli.console import filling, say, working

__all__ = ["train"]

_HELD_OUT_SEEDS = 10
_WORKERS = max((os.cpu_count() or 2) - 1, 1)


def train(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of images, checkpoint, curve and weights.")
    ],
    images: Annotated[
        int, typer.Option(min=1, help="Number of training images seen in total.")
    ] = 40_000,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="End after this time, at a learning rate of zero.")
    ] = None,
    size: Annotated[
        Literal["light", "large"], typer.Option(help="Size of the network; light is for CPUs.")
    ] = "light",
    space: Annotated[
        Literal["polar", "cartesian"],
        typer.Option(help="Space of the images, as grid.space: (|q|, phi) or (q_xy, q_z)."),
    ] = "polar",
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images a step; default: 2, on a GPU 8.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate; default: 0.0015, on a GPU 0.002.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Number of processes that simulate.")
    ] = _WORKERS,
    seed: Annotated[int, typer.Option(min=0, help="First seed of the training images.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = "auto",
    name: Annotated[
        str | None, typer.Option(help="Name of the weights; default: the size.")
    ] = None,
    begin_with: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="WEIGHTS", help="Begin with these weights, whatever the size."
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(metavar="WEIGHTS", help="Fit a judge of boxes to these weights instead."),
    ] = None,
) -> None:
    """Train the light network on simulated frames and write its weights.

    Workers fill DIR/images and DIR/held-out while the network learns. A training that was stopped
    goes on from DIR/checkpoint.pt when the command is repeated, also with more images or minutes
    and another learning rate, which falls to zero at the new end. DIR/curve.png shows the progress;
    at the end the scores are calibrated on DIR/held-out and NAME.safetensors is written with its
    manifest: give its path as `detector.weights`.

    With --judge: no network is trained. DIR/images is filled, and DIR/box-judge.npz is the judge
    that corrects the scores of WEIGHTS, those of a light or large network for (|q|, phi), by what
    lies around each box.
    """
    if judge is not None:
        _fit_judge(judge, out, images, seed)
        return
    from gixi_bluesky.processing.detector import torch_device
    from gixi_bluesky.processing.detector.networks.light_architecture import SIZES
    from gixi_bluesky.processing.simulation.random_scenes import FRAMES_PER_SEED
    from gixi_bluesky.processing.simulation.seeds import CALIBRATION, TRAINING, require_within
    from gixi_bluesky.processing.training import export, loop
    from gixi_bluesky.processing.training import workers as simulators
    from gixi_bluesky.processing.training.beginnings import network_of, new_network
    from gixi_bluesky.processing.training.curves import save_curve

    seeds = require_within(seed, -(-images // FRAMES_PER_SEED), TRAINING)
    device = torch_device(device)
    existing = None if begin_with is None else network_of(begin_with, space)
    drawn, held_out = out / "images", out / "held-out"
    say(f"simulating {_HELD_OUT_SEEDS * FRAMES_PER_SEED} held-out frames and the first to learn")

    def report(row: dict[str, float]) -> None:
        done(int(row["seen"]))
        save_curve(out / loop.CURVE, out / "curve.png")
        say(f"{row['seen']} of {images} images: AP {row['ap0.3']:.3f} at IoU 0.3")

    with (
        simulators.simulation(
            drawn, seeds, held_out, CALIBRATION[:_HELD_OUT_SEEDS], workers, space
        ),
        filling(images, "images") as done,
    ):
        recipe = loop.Recipe.on(device, images, minutes, seed)
        recipe = replace(
            recipe,
            batch=batch or recipe.batch,
            learning_rate=learning_rate or recipe.learning_rate,
        )
        loop.train(
            recipe,
            out,
            drawn,
            held_out,
            device,
            report,
            lambda: existing or new_network(SIZES[size]),
        )
    with working("calibrating the scores"):
        manifest = export.export(out, out, name or size, held_out, drawn, space)
    say(f"{out / manifest.name}.safetensors is written, sha256 {manifest.sha256[:12]}")


def _fit_judge(weights: str, out: Path, images: int, seed: int) -> None:
    import numpy as np

    from gixi_bluesky.processing.settings import ContrastSettings
    from gixi_bluesky.processing.simulation.random_scenes import FRAMES_PER_SEED
    from gixi_bluesky.processing.simulation.seeds import TRAINING, require_within, structures_for
    from gixi_bluesky.processing.training.dataset import simulate_to_disk
    from gixi_bluesky.processing.training.judging import fit_judge, judged_frames, unjudged

    seeds = require_within(seed, -(-images // FRAMES_PER_SEED), TRAINING)
    detect = unjudged(weights)  # before any image: it refuses weights that can have no judge
    folder, structures = out / "images", structures_for(TRAINING)
    folder.mkdir(parents=True, exist_ok=True)
    say(f"simulating {images} images")
    paths = [
        path
        for number in seeds
        for path in simulate_to_disk(number, folder, ContrastSettings(), structures)
    ][:images]
    frames = list(judged_frames(paths, detect, np.random.default_rng(seed)))
    fit_judge(frames).save(out / "box-judge.npz")
    say(f"{out / 'box-judge.npz'} is written")
