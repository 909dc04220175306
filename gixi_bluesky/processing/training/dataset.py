"""Simulated training images on disk: drawn once by workers, read many times by the trainer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import TrainingError
from gixi_bluesky.processing.detector.contrast import equalise
from gixi_bluesky.processing.evaluation.average_precision import KnownBoxes, visible_peaks
from gixi_bluesky.processing.geometry.grids import Space
from gixi_bluesky.processing.settings import ContrastSettings
from gixi_bluesky.processing.simulation.painted import painted_images
from gixi_bluesky.processing.simulation.random_films import FilmStyle
from gixi_bluesky.processing.simulation.random_scenes import random_frames
from gixi_bluesky.processing.simulation.truth import Truth
from gixi_bluesky.processing.structures.cif_files import Structure
from gixi_bluesky.processing.types import KINDS

__all__ = ["TrainingImage", "load_image", "require_space", "simulate_to_disk"]

_SHAPE = (512, 1024)
_PAINTED_EVERY = 10
_WHITE = 65534  # 0 is no data


@dataclass(frozen=True, slots=True)
class TrainingImage:
    """One prepared image and its truth.

    image: (rows, columns) float32 in 0…1, NaN = no data
    kinds: (g,) index into KINDS and snr: (g,) of the boxes to find
    """

    image: NDArray[np.float32]
    known: KnownBoxes
    kinds: NDArray[np.int64]
    snr: NDArray[np.float64]


def simulate_to_disk(
    seed: int,
    folder: Path,
    contrast: ContrastSettings,
    structures: Sequence[Structure] = (),
    space: Space = "polar",
) -> list[Path]:
    """Simulate the images of one seed into files; seeds already there are skipped.

    Nine seeds of ten give frames of a detector, the tenth painted images of the published style,
    which are polar only: in cartesian space all ten give frames.
    """
    done = folder / f"{seed:08d}.done"
    if done.exists():
        return sorted(folder.glob(f"{seed:08d}-*.npz"))
    paths = []
    for i, (intensity, truth) in enumerate(_drawn(seed, structures, space)):
        image = equalise(intensity, contrast)
        grey = np.where(np.isfinite(image), 1 + np.rint(np.nan_to_num(image) * _WHITE), 0)
        known, kinds, snr = _known(truth)
        path = folder / f"{seed:08d}-{i}.npz"
        half_written = path.with_suffix(".part")
        with half_written.open("wb") as file:
            np.savez(
                file,
                grey=grey.astype(np.uint16),
                boxes=known.boxes,
                ignored=known.ignored,
                kinds=kinds,
                snr=snr,
                space=np.array(space),
            )
        half_written.replace(path)  # the trainer may be reading the folder
        paths.append(path)
    done.touch()
    return paths


def _drawn(
    seed: int, structures: Sequence[Structure], space: Space
) -> Iterator[tuple[NDArray[np.float32], Truth]]:
    if space == "polar" and seed % _PAINTED_EVERY == _PAINTED_EVERY - 1:
        for painted in painted_images(seed, _SHAPE):
            yield painted.intensity, painted.truth
        return
    style: FilmStyle = "varied" if space == "polar" else "plain"
    for frame in random_frames(seed, structures, _SHAPE, space=space, style=style):
        yield frame.intensity, frame.truth


def require_space(folder: Path, space: Space) -> None:
    """Raise TrainingError where `folder` has images of another space."""
    some = next(folder.glob("*.npz"), None)
    if some is None:
        return
    with np.load(some, allow_pickle=False) as stored:
        there = str(stored["space"]) if "space" in stored else "polar"
    if there != space:
        message = (
            f"{folder} has {there} images; expected {space} ones, because a network is "
            "trained on one kind: use another folder"
        )
        raise TrainingError(message)


def load_image(path: Path, gamma: float = 1.0) -> TrainingImage:
    """Read one file of `simulate_to_disk`; its grey levels, 0…1, are raised to `gamma`."""
    levels = (np.arange(-1, _WHITE + 1, dtype=np.float32) / _WHITE).clip(0) ** np.float32(gamma)
    levels[0] = np.nan
    with np.load(path, allow_pickle=False) as stored:
        known = KnownBoxes(stored["boxes"], stored["ignored"])
        return TrainingImage(levels[stored["grey"]], known, stored["kinds"], stored["snr"])


def _known(truth: Truth) -> tuple[KnownBoxes, NDArray[np.int64], NDArray[np.float64]]:
    to_find = visible_peaks(truth)
    kinds = np.array([KINDS.index(kind) for kind in truth.kind], dtype=np.int64)
    known = KnownBoxes(truth.boxes[to_find], truth.boxes[~to_find])
    return known, kinds[to_find], truth.snr[to_find]
