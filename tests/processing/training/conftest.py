"""Simulated files small enough to train on in a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

PEAKS = np.array([[30, 20, 36, 44], [70, 30, 76, 110], [100, 60, 105, 75]], np.float32)
KINDS = np.array([1, 0, 2])


def write_image(path: Path, seed: int) -> None:
    """Three bright boxes on noise, with a gap, as `simulate_to_disk` would have kept them."""
    rng = np.random.default_rng(seed)
    grey = rng.normal(70, 12, (128, 128))
    for q0, phi0, q1, phi1 in PEAKS.astype(int):
        grey[phi0 : phi1 + 1, q0 : q1 + 1] += 110
    grey = np.clip(grey, 1, 255) * 257
    grey[:, 50:56] = 0
    np.savez(
        path,
        grey=grey.astype(np.uint16),
        boxes=PEAKS,
        ignored=np.empty((0, 4), np.float32),
        kinds=KINDS,
        snr=np.array([20.0, 60.0, 8.0]),
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Folder of one training image."""
    folder = tmp_path / "images"
    folder.mkdir()
    write_image(folder / "00000000-0.npz", 0)
    return folder


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """Folder of two images of the same peaks in other noise."""
    folder = tmp_path / "held-out"
    folder.mkdir()
    for i in range(2):
        write_image(folder / f"0090000{i}-0.npz", 100 + i)
    return folder
