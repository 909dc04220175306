"""Textures of distributions whose orientation is known in closed form or by quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.integrate import quad

from gixi_bluesky.processing.texture.hermans import texture_row
from gixi_bluesky.processing.texture.pole_figure import PoleFigure
from gixi_bluesky.processing.texture.settings import TextureSettings

CHI = np.arange(0.5, 90, 1.0)
RING = TextureSettings(q=(1.0, 1.1), face_on_deg=(0, 30), edge_on_deg=(60, 90))
Density = Callable[[float], float]


def uniform(chi: float) -> float:
    return 1.0


def march_dollase(chi: float, r: float = 0.5) -> float:
    """March (1932), Dollase, J. Appl. Cryst. 19 (1986) 267; r < 1: face-on."""
    x = math.radians(chi)
    return (r**2 * math.cos(x) ** 2 + math.sin(x) ** 2 / r) ** -1.5


def von_mises(chi: float, kappa: float = 6.0) -> float:
    """Watson's axial form of the von Mises distribution about the normal."""
    return math.exp(kappa * (math.cos(math.radians(chi)) ** 2 - 1))


def edge_on(chi: float) -> float:
    return 0.05 + math.exp(-(((90 - chi) / 8) ** 2) / 2)


def tilted(chi: float) -> float:
    return 0.2 + math.exp(-(((chi - 45) / 5) ** 2) / 2)


def hermans(density: Density) -> float:
    def sphere(values: Density) -> float:
        return quad(
            lambda chi: density(chi) * values(chi) * math.sin(math.radians(chi)), 0, 90, limit=200
        )[0]

    squared = sphere(lambda chi: math.cos(math.radians(chi)) ** 2) / sphere(lambda chi: 1.0)
    return (3 * squared - 1) / 2


def figure(
    density: Density, seed: int | None = None, wedge: float = 0.0, counts: float = 400.0
) -> PoleFigure:
    intensity = counts * np.array([density(chi) for chi in CHI])
    error = np.sqrt(np.maximum(intensity, 1.0))
    if seed is not None:
        intensity = np.random.default_rng(seed).poisson(intensity).astype(float)
    hidden = wedge > CHI
    return PoleFigure(CHI, np.where(hidden, np.nan, intensity), np.where(hidden, np.nan, error))


DENSITIES = [uniform, march_dollase, von_mises, edge_on, tilted]


@pytest.mark.parametrize("density", DENSITIES)
def test_hermans_is_that_of_the_distribution(density):
    row = texture_row("ring", RING, figure(density))
    assert row["hermans"] == pytest.approx(hermans(density), abs=0.003)
    assert row["coverage"] == 1.0


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("wedge", [0.0, 8.0, 15.0])
def test_errors_of_hermans_hold_with_the_wedge_cut_out(density, wedge):
    truth = hermans(density)
    rows = [texture_row("ring", RING, figure(density, seed, wedge)) for seed in range(20)]
    pulls = [(row["hermans"] - truth) / row["hermans_error"] for row in rows]
    assert np.mean(np.abs(pulls) < 2.5) >= 0.9
    assert np.median([row["hermans_error"] for row in rows]) < 0.12


def test_a_face_on_film_within_the_wedge_is_not_determined():
    """A delta at the normal leaves nothing outside of the wedge."""
    hidden = figure(lambda chi: 1000.0 * (chi < 5), wedge=10)
    assert "hermans" not in texture_row("ring", RING, hidden)


def test_limits_of_orientation():
    flat = texture_row("ring", RING, figure(lambda chi: 1000.0 * (chi < 2)))
    assert flat["hermans"] == pytest.approx(1, abs=0.01)
    assert flat["face_on"] == pytest.approx(1, abs=0.01)
    upright = texture_row("ring", RING, figure(lambda chi: 1000.0 * (chi > 88)))
    assert upright["hermans"] == pytest.approx(-0.5, abs=0.01)
    assert upright["edge_on"] == pytest.approx(1, abs=0.01)
    powder = texture_row("ring", RING, figure(uniform))
    assert powder["hermans"] == pytest.approx(0, abs=0.003)
    assert powder["face_on"] == pytest.approx(1 - math.cos(math.radians(30)), abs=0.01)
    assert powder["edge_on"] == pytest.approx(math.cos(math.radians(60)), abs=0.01)
    assert powder["random_fraction"] == 1.0


@pytest.mark.parametrize("sigma", [4.0, 10.0])
@pytest.mark.parametrize("centre", [0.0, 40.0, 90.0])
def test_width_and_random_part_are_those_of_the_film(centre, sigma):
    def density(chi: float) -> float:
        images = (chi - centre, chi + centre, 180 - chi - centre)
        return 0.1 + sum(math.exp(-((x / sigma) ** 2) / 2) for x in images)

    # Of a peak that the wedge hides nothing can be measured.
    rows = [texture_row("ring", RING, figure(density, seed, sigma / 2)) for seed in range(20)]
    truth = sigma * 2 * math.sqrt(2 * math.log(2))
    pulls = [(row["fwhm_deg"] - truth) / row["fwhm_error_deg"] for row in rows]
    assert np.std(pulls) < 1.5
    assert abs(np.mean(pulls)) < 0.6
    weight = np.sin(np.radians(CHI))
    share = 0.1 * weight.sum() / (np.array([density(chi) for chi in CHI]) * weight).sum()
    fractions = [row["random_fraction"] for row in rows]
    assert np.median(fractions) == pytest.approx(share, rel=0.15)


def test_tilts_outside_of_a_quarter_turn_are_refused():
    with pytest.raises(ValidationError, match="from the surface normal, 0 to 90"):
        TextureSettings(q=(1, 2), face_on_deg=(0, 95))
    with pytest.raises(ValidationError, match="the lower one first"):
        TextureSettings(q=(2, 1))
