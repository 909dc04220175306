"""Transmission: incidence 0 and a beam in the middle of the detector, by the same code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyFAI.detectors import Detector
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

import gixi_bluesky as gixi
from gixi_bluesky.config import parse_config
from gixi_bluesky.errors import GeometryError

SHAPE = (401, 441)
PIXEL, DISTANCE, WAVELENGTH = 0.4e-3, 0.15, 1.0
CENTER = (200.0, 215.0)
RINGS = (0.8, 1.3, 1.9, 2.3)
GEOMETRY = {
    "wavelength_angstrom": WAVELENGTH,
    "distance_mm": 1e3 * DISTANCE,
    "pixel_size_mm": [1e3 * PIXEL, 1e3 * PIXEL],
    "beam_center_px": list(CENTER),
    "incidence_angle_deg": 0.0,
}


def integrator() -> AzimuthalIntegrator:
    poni = [(c + 0.5) * PIXEL for c in CENTER]
    detector = Detector(PIXEL, PIXEL, max_shape=SHAPE, orientation=3)
    return AzimuthalIntegrator(DISTANCE, *poni, detector=detector, wavelength=WAVELENGTH * 1e-10)


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    q = integrator().center_array(SHAPE, unit="q_A^-1", scale=True)
    expected = 20 + sum(200 * np.exp(-0.5 * ((q - ring) / 0.012) ** 2) for ring in RINGS)
    return np.random.default_rng(1).poisson(expected).astype(np.uint16)


def pipeline(folder: Path, **grid: Any) -> gixi.Pipeline:
    tree = {
        "geometry": GEOMETRY,
        "grid": {"q_max_inv_angstrom": 2.6, "shape": [256, 512], **grid},
        "detector": {"weights": "classical"},
        "corrections": {"solid_angle": False, "polarization": None},
    }
    return gixi.Pipeline(parse_config(tree, folder=folder))


def test_whole_rings_are_found_where_they_are(tmp_path: Path, frame: np.ndarray) -> None:
    peaks = pipeline(tmp_path)(frame).peaks
    assert sorted(peaks["kind"]) == ["ring"] * len(RINGS)
    np.testing.assert_allclose(np.sort(peaks["q"]), RINGS, rtol=1e-3)


def test_the_rings_are_those_of_pyfai(tmp_path: Path, frame: np.ndarray) -> None:
    polar = pipeline(tmp_path, shape=[64, 128])(frame).polar
    weight = polar.pixels.sum(axis=0)
    total = np.nansum(polar.intensity * polar.pixels, axis=0)
    upper = np.ones(SHAPE, bool)
    upper[: round(CENTER[0])] = False  # q_z below zero has no place on the grid
    q = integrator().center_array(SHAPE, unit="q_A^-1", scale=True)[upper]
    cell = np.rint(q / polar.q[1]).astype(int)
    inside = cell < len(polar.q)
    counts = np.bincount(cell[inside], minlength=len(polar.q))
    sums = np.bincount(cell[inside], frame[upper][inside], minlength=len(polar.q))
    profile, expected = total / weight - 20, sums / counts - 20
    for ring in RINGS:
        # The means of blocks blur by half a pixel and keep sum and centre.
        near = np.abs(polar.q - ring) < 0.08
        assert profile[near].sum() == pytest.approx(expected[near].sum(), rel=0.03)
        centers = [np.average(polar.q[near], weights=one[near]) for one in (profile, expected)]
        assert centers[0] == pytest.approx(centers[1], rel=1e-3)


def test_nothing_is_lost_at_a_horizon(tmp_path: Path, frame: np.ndarray) -> None:
    """Cells along phi = 0 hold data, unlike those below the horizon of a tilted film."""
    masked, kept = (pipeline(tmp_path, below_horizon=how)(frame) for how in ("mask", "keep"))
    np.testing.assert_array_equal(masked.polar_image[1:], kept.polar_image[1:])
    beam = masked.q > 0.2
    reach = masked.q < 2.2
    assert np.isfinite(masked.polar_image[1, beam & reach]).all()
    grazing = pipeline(tmp_path)(frame, incidence_angle_deg=2.0)
    assert np.isnan(grazing.polar_image[1, beam & reach]).all()


def test_the_cartesian_grid_works_there_too(tmp_path: Path, frame: np.ndarray) -> None:
    found = pipeline(tmp_path, space="cartesian")(frame)
    assert found.cartesian is not None
    seen = np.isfinite(found.cartesian.intensity)
    q = np.hypot(found.cartesian.q_xy, found.cartesian.q_z[:, None])
    wedge = q * q * WAVELENGTH / (4 * np.pi)  # smaller q_xy is out of reach
    expected = (q < 2.2) & (found.cartesian.q_xy > wedge + 0.02)
    assert seen[expected].mean() > 0.98


@pytest.mark.slow
def test_the_half_below_the_beam_can_be_folded_in(tmp_path: Path, frame: np.ndarray) -> None:
    half = pipeline(tmp_path)(frame)
    whole = pipeline(tmp_path, below_horizon="fold")(frame)
    upside_down = pipeline(tmp_path, below_horizon="fold")(frame[::-1])
    inside = (half.q > 0.3) & (half.q < 2.2)
    seen = np.isfinite(half.polar_image) & inside
    assert np.median(whole.polar.pixels[seen] / half.polar.pixels[seen]) == pytest.approx(2.0)
    variance = np.median(whole.polar.variance[seen] / half.polar.variance[seen])
    assert variance == pytest.approx(0.5, rel=0.05)
    # The beam is in the middle row, so that turning the frame changes nothing but rounding.
    np.testing.assert_allclose(
        upside_down.polar_image[:, inside], whole.polar_image[:, inside], rtol=1e-3, atol=0.5
    )
    np.testing.assert_allclose(np.sort(whole.peaks["q"]), RINGS, rtol=1e-3)
    cartesian = pipeline(tmp_path, below_horizon="fold", space="cartesian")(frame)
    assert cartesian.cartesian is not None
    np.testing.assert_array_equal(cartesian.polar_image, whole.polar_image)


def test_a_tilted_film_is_not_folded(tmp_path: Path, frame: np.ndarray) -> None:
    with pytest.raises(GeometryError, match="only in transmission"):
        pipeline(tmp_path, below_horizon="fold")(frame, incidence_angle_deg=0.2)
