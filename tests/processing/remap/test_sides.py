"""A beam centre off to one side is noticed, a good one is not, and noise is neither."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gixi_bluesky as gixi
from gixi_bluesky.config import parse_config
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.remap.sides import Sides

SHAPE = (400, 600)
PIXEL = 4e-4
TRUE = Geometry(1.0, 0.2, (PIXEL, PIXEL), (20.5 * PIXEL, 300.5 * PIXEL), (0, 0, 0), 0.005)
VALID = np.ones(SHAPE, bool)


def rings(radii: tuple[float, ...] = (1.1, 1.6, 2.2, 2.6), counts: float = 60.0) -> np.ndarray:
    """Counts of rings and a slope that is not the same on both sides."""
    q_xy, q_z = TRUE.q_at(*np.indices(SHAPE).astype(float))
    q = np.hypot(q_xy, q_z)
    expected = 20 + 5 * q_xy + sum(counts * np.exp(-0.5 * ((q - r) / 0.015) ** 2) for r in radii)
    return np.random.default_rng(0).poisson(expected).astype(np.int32)


def moved(columns: float) -> Geometry:
    row, column = TRUE.poni_m
    return replace(TRUE, poni_m=(row, column + columns * PIXEL))


@pytest.mark.parametrize("shift", [-4.0, -1.5, 0.0, 1.5, 4.0])
def test_the_difference_is_that_of_the_misplaced_beam(shift: float) -> None:
    geometry = moved(shift)
    found = Sides(geometry, VALID, 3.0).difference(rings())
    # The same rings, seen by the wrong geometry: mean |q| on each side, ring by ring.
    q_xy, q_z = geometry.q_at(*np.indices(SHAPE).astype(float))
    true_q = np.hypot(*TRUE.q_at(*np.indices(SHAPE).astype(float)))
    on = np.any([np.abs(true_q - r) < 0.004 for r in (1.1, 1.6, 2.2, 2.6)], axis=0) & (q_z > 0.05)
    seen = np.hypot(q_xy, q_z) / np.maximum(true_q, 0.1)
    expected = seen[on & (q_xy > 0)].mean() / seen[on & (q_xy < 0)].mean() - 1
    assert found == pytest.approx(expected, abs=max(6e-4, 0.2 * abs(expected)))


def test_without_rings_nothing_is_said() -> None:
    assert Sides(TRUE, VALID, 3.0).difference(rings(radii=())) is None
    assert Sides(TRUE, VALID, 3.0).difference(np.zeros(SHAPE, np.int32)) is None


def test_a_gap_on_one_side_does_not_mislead() -> None:
    valid = VALID.copy()
    valid[:, 380:400] = False
    frame = rings()
    frame[:, 450:460] = -1
    found = Sides(TRUE, valid, 3.0).difference(frame)
    assert found == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("shift", "side", "warned"), [(0, "fold", 0), (3, "fold", 1), (3, "right", 0)]
)
def test_the_pipeline_warns_now_and_then(
    tmp_path: Path, shift: float, side: str, warned: int
) -> None:
    tree: dict[str, Any] = {
        "geometry": {
            "wavelength_angstrom": 1.0,
            "distance_mm": 200.0,
            "pixel_size_mm": [0.4, 0.4],
            "beam_center_px": [20.0, 300.0 + shift],
            "incidence_angle_deg": 0.29,
        },
        "grid": {"q_max_inv_angstrom": 3.0, "shape": [64, 128], "side": side},
        "detector": {"weights": "classical"},
    }
    pipeline = gixi.Pipeline(parse_config(tree, folder=tmp_path))
    results = [pipeline(rings()) for _ in range(3)]
    assert [len(result.warnings) for result in results] == [warned, 0, 0]
    assert not warned or "beam centre" in results[0].warnings[0]
