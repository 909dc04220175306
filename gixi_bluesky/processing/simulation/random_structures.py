"""Crystal structures drawn at random, with the strongest of their lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import gemmi
import numpy as np

from gixi_bluesky.processing.structures.cif_files import Structure
from gixi_bluesky.processing.structures.reflections import powder_lines

__all__ = ["drawn_structure", "random_structure"]

_ELEMENTS = ("C", "N", "O", "S", "Br", "I", "Pb", "Sn", "Cs", "Zn", "Ti")
_MOST_LINES = 40


def drawn_structure(
    rng: np.random.Generator,
    q_max: float,
    known: Sequence[Structure],
    lengths: tuple[float, float],
    most_lines: int,
) -> Structure:
    """Return one of the known structures in two of five cases, otherwise a random one."""
    if known and rng.random() < 0.4:
        chosen = known[int(rng.integers(len(known)))]
        return replace(chosen, reflections=chosen.reflections.strongest(most_lines))
    while True:
        drawn = random_structure(rng, q_max, lengths, most_lines)
        if len(drawn.reflections):  # a small cell may have no line in so short a range
            return drawn


def random_structure(
    rng: np.random.Generator,
    q_max: float,
    lengths: tuple[float, float] = (3.8, 16.0),
    most_lines: int = _MOST_LINES,
) -> Structure:
    """Return a lattice of random system, size and atoms, with structure factors.

    lengths: of the cell, from … to, angstrom; most_lines: the strongest are kept
    """
    system = rng.choice(["cubic", "tetragonal", "hexagonal", "orthorhombic", "monoclinic"])
    group = {
        "cubic": ("P m -3 m", "F m -3 m", "I m -3 m"),
        "tetragonal": ("P 4/m m m", "I 4/m m m"),
        "hexagonal": ("P 6/m m m", "P -3 m 1"),
        "orthorhombic": ("P m m m", "C m m m", "P n m a"),
        "monoclinic": ("P 1 2/m 1", "P 1 21/c 1"),
    }[str(system)]
    a, b, c = np.exp(rng.uniform(np.log(lengths[0]), np.log(lengths[1]), 3))
    beta = rng.uniform(92, 112) if system == "monoclinic" else 90.0
    sizes = {
        "cubic": (a, a, a, 90.0),
        "tetragonal": (a, a, c, 90.0),
        "hexagonal": (a, a, c, 120.0),
        "orthorhombic": (a, b, c, 90.0),
        "monoclinic": (a, b, c, 90.0),
    }[str(system)]
    small = gemmi.SmallStructure()
    small.cell = gemmi.UnitCell(*sizes[:3], 90.0, beta, sizes[3])
    small.spacegroup = gemmi.SpaceGroup(str(rng.choice(group)))
    for _ in range(int(rng.integers(1, 5))):
        site = gemmi.SmallStructure.Site()
        site.element = gemmi.Element(str(rng.choice(_ELEMENTS)))
        site.fract = gemmi.Fractional(*rng.uniform(0, 1, 3))
        site.u_iso = float(rng.uniform(0.01, 0.06))
        small.add_site(site)
    small.setup_cell_images()
    lines = powder_lines(small, q_max).strongest(most_lines)
    return Structure("random", "random", "", tuple(small.cell.parameters), lines)
