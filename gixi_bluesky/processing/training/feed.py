"""Batches of training images, read and prepared ahead of the trainer."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gixi_bluesky.processing.detector.networks.torch_pass import as_input
from gixi_bluesky.processing.training.dataset import TrainingImage, load_image
from gixi_bluesky.processing.training.losses import Target

__all__ = ["Batch", "batches"]

_LOOK_AGAIN_S = 10.0  # the folder may still be growing
_AHEAD = 3  # batches for each reader
_GAMMA = 0.15  # log-normal sigma


@dataclass(frozen=True, slots=True)
class Batch:
    """Input (n, 3, n_phi, n_q) of the network and the truth of each image."""

    images: Tensor
    targets: list[Target]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(
            self.images.to(device, non_blocking=True),
            [
                Target(t.boxes.to(device), t.kinds.to(device), t.ignored.to(device))
                for t in self.targets
            ],
        )


@contextmanager
def batches(
    folder: Path, size: int, rng: np.random.Generator, readers: int
) -> Iterator[Iterator[Batch]]:
    """Yield batches drawn from the files of `folder` without end, read by threads."""
    pool = ThreadPoolExecutor(readers)
    try:
        yield _endless(folder, size, rng, readers, pool)
    finally:
        pool.shutdown(cancel_futures=True)


def _endless(
    folder: Path, size: int, rng: np.random.Generator, readers: int, pool: ThreadPoolExecutor
) -> Iterator[Batch]:
    paths: list[Path] = []
    looked = 0.0
    waiting: deque[Future[Batch]] = deque()
    while True:
        if not paths or time.monotonic() - looked > _LOOK_AGAIN_S:
            paths, looked = sorted(folder.glob("*.npz")), time.monotonic()
        while len(waiting) < readers * _AHEAD:
            chosen = [paths[i] for i in rng.integers(len(paths), size=size)]
            gammas = np.exp(rng.normal(0.0, _GAMMA, size)).tolist()
            waiting.append(pool.submit(_read, chosen, gammas))
        yield waiting.popleft().result()


def _read(paths: list[Path], gammas: list[float]) -> Batch:
    """Read images, augmented by a random gamma of the contrast."""
    drawn = [load_image(path, gamma) for path, gamma in zip(paths, gammas, strict=True)]
    images = as_input(np.stack([one.image for one in drawn]))
    if torch.cuda.is_available():
        images = images.pin_memory()  # here, so that the trainer does not wait for it
    return Batch(images, [_target(one) for one in drawn])


def _target(one: TrainingImage) -> Target:
    boxes = torch.from_numpy(one.known.boxes)
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).clamp(min=1.0)
    return Target(
        boxes=torch.cat([centre - size / 2, centre + size / 2], dim=1),
        kinds=torch.from_numpy(one.kinds),
        ignored=torch.from_numpy(one.known.ignored),
    )
