"""Crystallisations drawn at random: powders, fibres and organic films that grow and dissolve."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import gemmi
import numpy as np

from gixi_bluesky.processing.simulation.films import ChangingPhase, Series, SeriesGrid
from gixi_bluesky.processing.simulation.growth import Growth
from gixi_bluesky.processing.simulation.random_films import log_uniform
from gixi_bluesky.processing.simulation.random_structures import random_structure
from gixi_bluesky.processing.simulation.scene import Halo
from gixi_bluesky.processing.simulation.texture import Texture
from gixi_bluesky.processing.structures.cif_files import Structure
from gixi_bluesky.processing.structures.reflections import powder_lines

__all__ = ["FILMS", "Film", "random_series"]

Film = Literal["powder", "fibre", "organic"]
FILMS: tuple[Film, ...] = ("powder", "fibre", "organic")

_MOST_LINES = {"powder": 18, "fibre": 14, "organic": 20}
_CONTACTS = ((1, 0, 0), (0, 0, 1), (1, 1, 0), (1, 1, 1))


def random_series(seed: int, film: Film | None = None, n_frames: int | None = None) -> Series:
    """Return the series of a seed; `film` and `n_frames` are drawn where they are not given."""
    rng = np.random.default_rng([seed, 0])
    drawn: Film = FILMS[int(rng.integers(len(FILMS)))]
    film = film or drawn
    n = n_frames or int(rng.integers(30, 101))
    q_max = 2.0 if film == "organic" else float(rng.uniform(2.6, 3.6))
    shape = (128, 512)
    n_phases = int(rng.choice([1, 2, 3], p=[0.25, 0.5, 0.25]))
    phases = [_phase(rng, film, n, q_max, i) for i in range(n_phases)]
    if rng.random() < 0.6:
        phases.append(_substrate(rng, q_max))
    hot = [(int(rng.integers(4, 110)), int(rng.integers(60, shape[1]))) for _ in range(3)]
    return Series(
        n_frames=n,
        phases=tuple(phases),
        grid=SeriesGrid(q_max, shape, gaps=_gaps(rng, q_max)),
        halo=Halo(float(rng.uniform(0.4, 0.8)) * q_max, 0.4, float(rng.uniform(0, 20))),
        flat=log_uniform(rng, 2.0, 12.0),
        seed=seed,
        monitor_noise=float(rng.uniform(0.0, 0.03)),
        hot=tuple(hot) if rng.random() < 0.5 else (),
    )


def _phase(rng: np.random.Generator, film: Film, n: int, q_max: float, index: int) -> ChangingPhase:
    structure = _structure(rng, film, q_max, f"{film}-{index}")
    contact = None
    if film != "powder":
        contact = _CONTACTS[int(rng.integers(len(_CONTACTS)))]
    mosaic = log_uniform(rng, 3.0, 25.0)
    size = log_uniform(rng, 150.0, 600.0)
    return ChangingPhase(
        structure=structure,
        counts=log_uniform(rng, 8.0, 120.0),
        growth=_growth(rng, n),
        texture=Texture(
            contact=contact,
            powder_fraction=float(rng.choice([0.0, 0.0, 0.2])) if contact else 0.0,
            unevenness=float(rng.uniform(0, 0.25)),
            seed=int(rng.integers(1 << 31)),
        ),
        expansion=float(rng.choice([0.0, rng.normal(0, 0.012) / n])),
        mosaic_deg=(mosaic, mosaic * float(rng.uniform(0.3, 1.0))),
        size_angstrom=(size, size * float(rng.uniform(1.0, 2.0))),
        footprint=log_uniform(rng, 0.003, 0.012),
    )


def _growth(rng: np.random.Generator, n: int) -> Growth:
    rise = float(rng.uniform(0.05, 0.35)) * n
    onset = float(rng.uniform(0.06, 0.6)) * n
    dissolves = rng.random() < 0.3 and onset + rise < 0.7 * n
    return Growth(
        onset=onset,
        rise=rise,
        order=float(rng.choice([1.0, 1.5, 2.0, 3.0])),
        law="avrami" if rng.random() < 0.7 else "ramp",
        end=float(rng.uniform(onset + rise + 0.1 * n, 0.95 * n)) if dissolves else math.inf,
        fall=float(rng.uniform(0.05, 0.2)) * n,
    )


def _substrate(rng: np.random.Generator, q_max: float) -> ChangingPhase:
    structure = _structure(rng, "powder", q_max, "substrate")
    return ChangingPhase(
        structure=replace(structure, reflections=structure.reflections.strongest(5)),
        counts=log_uniform(rng, 10.0, 60.0),
        growth=Growth(),
        size_angstrom=(400.0, 400.0),
    )


def _structure(rng: np.random.Generator, film: Film, q_max: float, slug: str) -> Structure:
    while True:
        drawn = _organic(rng, q_max) if film == "organic" else random_structure(rng, q_max)
        lines = drawn.reflections.strongest(_MOST_LINES[film])
        if len(lines) >= 4:
            return replace(drawn, name=slug, slug=slug, reflections=lines)


def _organic(rng: np.random.Generator, q_max: float) -> Structure:
    """Return a monoclinic cell of 6 to 20 angstrom, as small molecules have."""
    a, b, c = rng.uniform(6, 9), rng.uniform(6, 9), rng.uniform(12, 20)
    small = gemmi.SmallStructure()
    small.cell = gemmi.UnitCell(a, b, c, 90.0, float(rng.uniform(92, 108)), 90.0)
    small.spacegroup = gemmi.SpaceGroup("P 1 21/c 1")
    for _ in range(8):
        site = gemmi.SmallStructure.Site()
        site.element = gemmi.Element(str(rng.choice(("C", "N", "S"))))
        site.fract = gemmi.Fractional(*rng.uniform(0, 1, 3))
        site.u_iso = 0.04
        small.add_site(site)
    small.setup_cell_images()
    return Structure("", "", "", tuple(small.cell.parameters), powder_lines(small, q_max))


def _gaps(rng: np.random.Generator, q_max: float) -> tuple[tuple[float, float, float, float], ...]:
    gaps = []
    for _ in range(int(rng.integers(0, 3))):
        q, phi = float(rng.uniform(0.3, 0.9)) * q_max, float(rng.uniform(5, 75))
        gaps.append((q, phi, q + 0.02 * q_max, phi + 12.0))
    return tuple(gaps)
