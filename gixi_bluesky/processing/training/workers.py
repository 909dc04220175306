"""Simulation in separate processes, while the trainer reads the files that exist."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import cv2

from gixi_bluesky.processing.geometry.grids import Space
from gixi_bluesky.processing.settings import ContrastSettings
from gixi_bluesky.processing.simulation.seeds import TRAINING, structures_for
from gixi_bluesky.processing.training.dataset import require_space, simulate_to_disk

__all__ = ["simulation"]

_ENOUGH_TO_START = 4  # seeds of training images


@contextmanager
def simulation(
    images: Path,
    seeds: range,
    held_out: Path,
    held_out_seeds: range,
    workers: int,
    space: Space = "polar",
) -> Iterator[None]:
    """Simulate into both folders in `workers` processes; enters once there is enough to train on.

    The held-out seeds come first and are complete on entry. Seeds not begun on exit are left out.
    An error of a worker before entry is raised here.
    space: of the images; raises TrainingError where a folder has images of another one
    """
    for folder in (images, held_out):
        folder.mkdir(parents=True, exist_ok=True)
        require_space(folder, space)
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_alone)
    try:
        first = [pool.submit(_simulate, seed, held_out, space) for seed in held_out_seeds]
        rest = [pool.submit(_simulate, seed, images, space) for seed in seeds]
        _finish(first + rest[:_ENOUGH_TO_START])
        yield
    finally:
        pool.shutdown(cancel_futures=True)


def _alone() -> None:
    cv2.setNumThreads(1)  # one core a worker
    os.nice(5)  # the trainer goes first


def _simulate(seed: int, folder: Path, space: Space) -> None:
    simulate_to_disk(seed, folder, ContrastSettings(), structures_for(TRAINING), space)


def _finish(futures: list[Future[None]]) -> None:
    wait(futures)
    for future in futures:
        future.result()
