"""Kinds of films that are drawn at random, and the ranges of their numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from gixi_bluesky.processing.geometry.grids import Space

__all__ = ["FilmDraw", "FilmStyle", "drawn_film", "log_uniform"]

FilmStyle = Literal["plain", "grainy", "oriented", "dense", "varied"]


@dataclass(frozen=True, slots=True)
class FilmDraw:
    """From what films are drawn; pairs are from ... to.

    phases: chances of none, one, two, ... of them
    textures: chances of powder, fibre, both mixed, and single grains on a powder
    counts: of a powder's strongest line over the noise; spots gather a ring's on top
    mosaic_deg: of the fibres; round_spots: as in Phase; rods: how often there are some
    crystallites: as in Texture, None = rings are smooth
    cell: lengths, angstrom; most_lines: of a phase
    size_angstrom, footprint: as in Phase
    neighbours: chance that a phase has a second one whose lines lie beside its own
    glow: small-angle scatter over the flat background
    """

    textures: tuple[float, float, float, float]
    counts: tuple[float, float]
    mosaic_deg: tuple[float, float]
    round_spots: bool
    rods: float
    phases: tuple[float, ...] = (0.12, 0.38, 0.28, 0.14, 0.08)
    crystallites: tuple[float, float] | None = None
    cell: tuple[float, float] = (3.8, 16.0)
    most_lines: int = 40
    size_angstrom: tuple[float, float] = (90.0, 1500.0)
    footprint: tuple[float, float] = (0.001, 0.035)
    neighbours: float = 0.0
    glow: tuple[float, float] = (0.3, 60.0)


_PLAIN: dict[Space, FilmDraw] = {
    "polar": FilmDraw(
        (0.3, 0.4, 0.15, 0.15), (0.3, 150.0), (0.7, 30.0), round_spots=False, rods=0.0
    ),
    "cartesian": FilmDraw(
        (0.1, 0.65, 0.15, 0.1), (0.1, 40.0), (0.3, 6.0), round_spots=True, rods=0.25
    ),
}


def drawn_film(rng: np.random.Generator, style: FilmStyle, space: Space) -> FilmDraw:
    """Return from what a film of that style is drawn.

    plain: smooth rings, arcs and spots; grainy: powders of few crystallites, some of them
    textured; oriented: no powder, from a few spots to hundreds of a large cell; dense: narrow
    lines and neighbours on much small-angle scatter; varied: any of them
    """
    plain = _PLAIN[space]
    if style == "varied":
        style = str(rng.choice(["plain", "grainy", "oriented", "dense"], p=[0.35, 0.25, 0.2, 0.2]))  # type: ignore[assignment]
    if style == "grainy":
        return replace(
            plain,
            phases=(0.0, 0.7, 0.25, 0.05),
            textures=(0.7, 0.1, 0.2, 0.0),
            counts=(0.5, 60.0),
            mosaic_deg=(8.0, 30.0),
            crystallites=(5.0, 1500.0),
            most_lines=25,
        )
    if style == "oriented":
        return replace(
            plain,
            phases=(0.0, 0.6, 0.3, 0.1),
            textures=(0.0, 1.0, 0.0, 0.0),
            mosaic_deg=(0.3, 6.0),
            cell=(4.0, 32.0),
            most_lines=90,
            counts=(0.1, 40.0),
        )
    if style == "dense":
        return replace(
            plain,
            phases=(0.0, 0.5, 0.35, 0.15),
            size_angstrom=(300.0, 4000.0),
            footprint=(0.0005, 0.012),
            neighbours=0.5,
            glow=(3.0, 600.0),
        )
    return plain


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Return a number from `low` to `high` whose logarithm is uniform."""
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))
