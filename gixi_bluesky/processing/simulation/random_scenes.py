"""Frames drawn at random for training and evaluation; the same seed gives the same frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.geometry.grids import Space
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.simulation.panel import record
from gixi_bluesky.processing.simulation.random_films import (
    FilmDraw,
    FilmStyle,
    drawn_film,
    log_uniform,
)
from gixi_bluesky.processing.simulation.random_setups import DrawnSetup, random_setup
from gixi_bluesky.processing.simulation.random_structures import drawn_structure
from gixi_bluesky.processing.simulation.scene import Halo, Phase, Rod, Scene, Streak
from gixi_bluesky.processing.simulation.texture import Texture
from gixi_bluesky.processing.simulation.truth import Truth
from gixi_bluesky.processing.structures.cif_files import Structure
from gixi_bluesky.processing.types import CartesianImage, PolarImage

__all__ = ["FRAMES_PER_SEED", "SimulatedFrame", "random_frames"]

FRAMES_PER_SEED = 8


@dataclass(frozen=True, slots=True)
class SimulatedFrame:
    """One exposure, what the product makes of it, and what there is to find there.

    cartesian: the image that the truth is about, None where it is about the polar one
    """

    counts: NDArray[Any]
    polar: PolarImage
    truth: Truth
    cartesian: CartesianImage | None = None

    @property
    def intensity(self) -> NDArray[np.float32]:
        """(rows, columns) of the image that is searched, NaN = no data."""
        return (self.cartesian or self.polar).intensity


def random_frames(
    seed: int,
    structures: Sequence[Structure] = (),
    shape: tuple[int, int] = (512, 1024),
    count: int = FRAMES_PER_SEED,
    space: Space = "polar",
    style: FilmStyle = "plain",
) -> Iterator[SimulatedFrame]:
    """Yield `count` frames of one random set-up; `structures` are mixed with random lattices.

    shape, space: of the grid that is searched; on the cartesian one the films are more like
        single crystals
    style: of the films, see `FilmStyle`
    """
    rng = np.random.default_rng(seed)
    setup = random_setup(rng, shape, space)
    for _ in range(count):
        scene = _scene(rng, setup, structures, drawn_film(rng, style, space))
        counts = record(setup.renderer.expected(scene), setup.panel, rng)
        polar, cartesian = setup.remapper(counts), setup.remapper.cartesian(counts)
        yield SimulatedFrame(counts, polar, setup.observer.truth(scene), cartesian)


def _scene(
    rng: np.random.Generator, setup: DrawnSetup, structures: Sequence[Structure], film: FilmDraw
) -> Scene:
    q_max = float(setup.renderer.q[-1])
    flat = log_uniform(rng, 0.05, 30.0)
    count = int(rng.choice(len(film.phases), p=film.phases))
    noise = math.sqrt(flat + (setup.panel.readout_noise or 0.0) ** 2 + 1.0)
    phases = [_phase(rng, q_max, structures, noise, film) for _ in range(count)]
    if film.neighbours:
        phases += [_neighbour(rng, p) for p in phases if rng.random() < film.neighbours]
    return Scene(
        phases=tuple(phases),
        halos=tuple(_halo(rng, q_max, flat) for _ in range(int(rng.integers(0, 5)))),
        streaks=tuple(_streaks(rng, flat)),
        air=flat * log_uniform(rng, *film.glow),
        flat=flat,
        reflected=_reflected(rng, setup.renderer.geometry),
        rods=tuple(_rods(rng, q_max, noise, film)),
    )


def _halo(rng: np.random.Generator, q_max: float, flat: float) -> Halo:
    """Draw a halo, always much broader than a line at the same |q|."""
    q = log_uniform(rng, 0.1, min(q_max, 3.0))
    return Halo(
        q=q,
        fwhm_q=max(log_uniform(rng, 0.12, 1.0) * q, 0.08),
        counts=flat * log_uniform(rng, 0.1, 30.0),
        anisotropy=float(rng.uniform(-0.5, 0.5)),
    )


def _reflected(rng: np.random.Generator, geometry: Geometry) -> float:
    """Draw how bright the second peak is: notable only up to some twice the critical angle."""
    critical = geometry.critical_angle_rad
    if not critical or geometry.incidence_angle_rad < critical or rng.random() < 0.4:
        return 0.0
    return float(rng.uniform(0.05, 1.0) * (critical / geometry.incidence_angle_rad) ** 2)


def _streaks(rng: np.random.Generator, flat: float) -> Iterator[Streak]:
    if rng.random() < 0.35:
        yield Streak("specular", flat * log_uniform(rng, 2, 300), float(rng.uniform(0.005, 0.03)))
    if rng.random() < 0.5:
        height = float(rng.uniform(0.0, 0.04))
        width = float(rng.uniform(0.008, 0.04))
        yield Streak("yoneda", flat * log_uniform(rng, 1, 60), width, height)


def _rods(rng: np.random.Generator, q_max: float, noise: float, film: FilmDraw) -> Iterator[Rod]:
    if not film.rods or rng.random() > film.rods:
        return
    for _ in range(int(rng.integers(1, 5))):
        fwhm_xy = log_uniform(rng, 0.01, 0.06)
        yield Rod(
            q_xy=float(rng.uniform(0.1, 0.8) * q_max),
            q_z=float(rng.uniform(0.0, 0.5) * q_max),
            fwhm_xy=fwhm_xy,
            fwhm_z=fwhm_xy * log_uniform(rng, 1.5, 12.0),
            counts=noise * log_uniform(rng, 0.3, 50.0),
        )


def _phase(
    rng: np.random.Generator,
    q_max: float,
    structures: Sequence[Structure],
    noise: float,
    film: FilmDraw,
) -> Phase:
    return Phase(
        structure=drawn_structure(rng, q_max, structures, film.cell, film.most_lines),
        counts=noise * log_uniform(rng, *film.counts),
        texture=_texture(rng, film),
        size_angstrom=log_uniform(rng, *film.size_angstrom),
        footprint=log_uniform(rng, *film.footprint),
        lattice_scale=float(rng.uniform(0.98, 1.02)),
        lorentzian=float(rng.choice([0.0, rng.uniform(0.0, 1.0)])),
        round_spots=film.round_spots,
    )


def _neighbour(rng: np.random.Generator, phase: Phase) -> Phase:
    """Return a phase whose lines lie beside those of another, by one to three of their widths."""
    widths = float(rng.uniform(0.8, 3.0) * rng.choice([-1.0, 1.0]))
    strongest = int(np.argmax(phase.structure.reflections.intensity))
    q = phase.structure.reflections.q[strongest : strongest + 1]
    shift = widths * float((phase.fwhm_q(q) / q)[0])
    return replace(
        phase,
        lattice_scale=phase.lattice_scale * (1.0 + float(np.clip(shift, -0.1, 0.1))),
        counts=phase.counts * log_uniform(rng, 0.2, 1.5),
        texture=replace(phase.texture, seed=int(rng.integers(1 << 31))),
    )


def _texture(rng: np.random.Generator, film: FilmDraw) -> Texture:
    kind = rng.choice(["powder", "fibre", "mixed", "grains"], p=film.textures)
    contacts = [(h, k, el) for h, k, el in product(range(3), repeat=3) if h or k or el]
    contact = contacts[int(rng.integers(len(contacts)))]
    smooth = Texture(
        contact=None if kind in ("powder", "grains") else contact,
        mosaic_deg=log_uniform(rng, *film.mosaic_deg),
        powder_fraction=float(rng.uniform(0.1, 0.8)) if kind == "mixed" else 0.0,
        unevenness=float(rng.choice([0.0, rng.uniform(0.0, 0.5)])),
        grains=int(rng.integers(1, 5)) if kind == "grains" else 0,
        spot_deg=float(rng.uniform(0.5, 4.0)),
        seed=int(rng.integers(1 << 31)),
    )
    if film.crystallites is None:
        return smooth
    return replace(
        smooth,
        grains=0,
        spot_deg=log_uniform(rng, 0.25, 2.5),
        crystallites=log_uniform(rng, *film.crystallites),
        size_scatter=float(rng.uniform(0.3, 1.3)),
        fine_fraction=float(rng.choice([0.0, rng.uniform(0.05, 0.6)])),
        wander=float(rng.choice([0.0, rng.uniform(0.2, 0.85)])),
    )
