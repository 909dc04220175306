"""Simulated training images on disk: drawn once by workers, read many times by the trainer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.contrast import equalise
from gixi_bluesky.processing.evaluation import KnownBoxes, visible_peaks
from gixi_bluesky.processing.settings import ContrastSettings
from gixi_bluesky.processing.simulation.random_scenes import random_frames
from gixi_bluesky.processing.simulation.truth import Truth
from gixi_bluesky.processing.structures import Structure
from gixi_bluesky.processing.types import KINDS

__all__ = ["TrainingImage", "load_image", "simulate_to_disk"]


@dataclass(frozen=True, slots=True)
class TrainingImage:
    """One prepared image and its truth.

    image: (n_phi, n_q) float32 in 0…1, NaN = no data
    kinds: (g,) index into KINDS and snr: (g,) of the boxes to find
    """

    image: NDArray[np.float32]
    known: KnownBoxes
    kinds: NDArray[np.int64]
    snr: NDArray[np.float64]


def simulate_to_disk(
    seed: int, folder: Path, contrast: ContrastSettings, structures: Sequence[Structure] = ()
) -> list[Path]:
    """Draw the frames of one seed and keep them as small files; done seeds are not drawn again."""
    done = folder / f"{seed:08d}.done"
    if done.exists():
        return sorted(folder.glob(f"{seed:08d}-*.npz"))
    paths = []
    for i, frame in enumerate(random_frames(seed, structures)):
        image = equalise(frame.polar.intensity, contrast)
        grey = np.where(np.isfinite(image), 1 + np.rint(np.nan_to_num(image) * 254), 0)
        known, kinds, snr = _known(frame.truth)
        path = folder / f"{seed:08d}-{i}.npz"
        half_written = path.with_suffix(".part")
        with half_written.open("wb") as file:
            np.savez_compressed(
                file,
                grey=grey.astype(np.uint8),
                boxes=known.boxes,
                ignored=known.ignored,
                kinds=kinds,
                snr=snr,
            )
        half_written.replace(path)  # the trainer may be reading the folder
        paths.append(path)
    done.touch()
    return paths


def load_image(path: Path) -> TrainingImage:
    """Read one file of `simulate_to_disk`."""
    with np.load(path, allow_pickle=False) as stored:
        grey = stored["grey"].astype(np.float32)
        image = np.where(grey > 0, (grey - 1) / np.float32(254), np.float32(np.nan))
        known = KnownBoxes(stored["boxes"], stored["ignored"])
        return TrainingImage(image.astype(np.float32), known, stored["kinds"], stored["snr"])


def _known(truth: Truth) -> tuple[KnownBoxes, NDArray[np.int64], NDArray[np.float64]]:
    to_find = visible_peaks(truth)
    kinds = np.array([KINDS.index(kind) for kind in truth.kind], dtype=np.int64)
    known = KnownBoxes(truth.boxes[to_find], truth.boxes[~to_find])
    return known, kinds[to_find], truth.snr[to_find]
