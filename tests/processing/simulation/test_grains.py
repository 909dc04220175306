"""Rings of few crystallites: their number, their mean, their truth, and the styles of films."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import find_peaks

from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.simulation.grains import grains_of
from gixi_bluesky.processing.simulation.panel import Panel
from gixi_bluesky.processing.simulation.random_films import drawn_film
from gixi_bluesky.processing.simulation.render import Renderer
from gixi_bluesky.processing.simulation.scene import Component, Phase, Scene
from gixi_bluesky.processing.simulation.texture import Texture, phi_axis
from gixi_bluesky.processing.simulation.truth import truth
from gixi_bluesky.processing.structures.cif_files import read_structures, shipped_cifs

RING = np.ones(1024)


def textures(count: int, **changes: float) -> list[Texture]:
    return [Texture(spot_deg=0.5, seed=seed, **changes) for seed in range(count)]


def test_the_mean_over_many_samples_is_the_texture():
    arc = np.exp(-0.5 * ((phi_axis(1024) - 40) / 10) ** 2)
    for density in (RING, arc):
        samples = [
            grains_of(texture, density, (1, 1, 0), 1.0).angular
            for texture in textures(250, crystallites=60.0, fine_fraction=0.3)
        ]
        mean = np.mean(samples, axis=0).reshape(16, -1).mean(axis=1)
        assert mean[1:-1] == pytest.approx(density.reshape(16, -1).mean(axis=1)[1:-1], abs=0.15)


def test_their_number_is_poissonian_and_goes_with_the_multiplicity():
    def found(relative: float) -> np.ndarray:
        # Sizes alike and spots sharp, so that each crystallite is a maximum.
        drawn = [
            grains_of(texture, RING, (2, 0, 0), relative)
            for texture in textures(300, crystallites=12.0, size_scatter=0.01)
        ]
        return np.array([len(find_peaks(one.angular, 0.1)[0]) for one in drawn if one.ring])

    single, double = found(1.0), found(2.0)
    # Two within half a degree look like one: a few are missing.
    assert single.mean() == pytest.approx(12, rel=0.1)
    assert double.mean() == pytest.approx(24, rel=0.15)
    assert single.var() == pytest.approx(12, rel=0.45)


def test_crystallites_scatter_in_q_as_much_as_the_line_is_wide():
    (texture,) = textures(1, crystallites=2000.0, wander=0.8)
    grains = grains_of(texture, RING, (1, 0, 0), 1.0)
    line = Component("film", (1, 0, 0), 1.0, 0.02, 1.0, RING)
    counted = Component(
        "film", (1, 0, 0), 1.0, 0.02, 1.0, grains.angular, course=RING,
        shift=grains.shift * 0.02, sharpness=grains.sharpness,
    )  # fmt: skip
    q, phi = np.linspace(0.9, 1.1, 801), phi_axis(1024)
    profiles = [one.surface(q, phi).mean(axis=0) for one in (line, counted)]
    widths = [np.sqrt(np.average((q - 1) ** 2, weights=profile)) for profile in profiles]
    assert grains.sharpness == pytest.approx(0.6)
    assert widths[1] == pytest.approx(widths[0], rel=0.1)
    assert profiles[1].sum() == pytest.approx(profiles[0].sum(), rel=0.1)


def test_a_ring_of_crystallites_is_one_box_and_a_few_of_them_are_spots():
    (perovskite,) = read_structures([shipped_cifs()["MAPbBr3"]], 3.0)
    geometry = Geometry(0.976, 0.3, (0.4e-3, 0.4e-3), (0.02, 0.02))
    renderer, panel = Renderer(geometry, (512, 512)), Panel()
    q, phi = np.linspace(0, 3, 512), np.linspace(0, 90, 256)

    def kinds(**changes: float) -> set[tuple[float, str]]:
        texture = Texture(spot_deg=0.5, seed=3, **changes)
        scene = Scene(phases=(Phase(perovskite, 200.0, texture),))
        found = truth(renderer, scene, panel, q, phi)
        strong = found.snr > 20
        kept = zip(found.q[strong], np.array(found.kind)[strong], strict=True)
        return {(round(float(q), 2), str(kind)) for q, kind in kept}

    grainy = kinds(crystallites=40.0)
    assert kinds() <= grainy
    assert {kind for _, kind in grainy} == {"ring"}
    few = kinds(crystallites=1.0, size_scatter=0.1)
    assert {kind for _, kind in few} == {"spot"}


def test_every_style_draws_what_its_name_says():
    rng = np.random.default_rng(0)
    assert drawn_film(rng, "plain", "polar").crystallites is None
    assert drawn_film(rng, "grainy", "polar").crystallites is not None
    assert drawn_film(rng, "oriented", "polar").textures == (0.0, 1.0, 0.0, 0.0)
    assert drawn_film(rng, "dense", "polar").neighbours > 0
    films = {drawn_film(rng, "varied", "polar") for _ in range(60)}
    assert len(films) == 4
