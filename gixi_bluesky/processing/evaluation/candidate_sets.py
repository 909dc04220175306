"""Candidate structures for judging the matching: shipped ones, their relatives, and others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import gemmi
import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.simulation.random_structures import random_structure
from gixi_bluesky.processing.simulation.texture import Cell, reciprocal_basis
from gixi_bluesky.processing.structures.cif_files import Structure, read_structures, shipped_cifs
from gixi_bluesky.processing.structures.reflections import powder_lines

__all__ = ["candidate_structures", "constrained", "strained"]

Float64 = NDArray[np.float64]

RELATIVES = 4  # of each shipped structure
_LATTICE_SPREAD = (0.012, 0.06)  # of a relative: beyond the strain that matching allows
_KIN = {
    "I": ("Br", "Cl"), "Br": ("I", "Cl"), "Pb": ("Sn", "Ge"), "Cs": ("Rb", "K"),
    "La": ("Ce", "Ca"), "B": ("C",), "C": ("N",), "N": ("C",),
}  # fmt: skip


def candidate_structures(seed: int, q_max: float, count: int = 110) -> tuple[Structure, ...]:
    """Return at least 100 candidates: the shipped CIFs, relatives of them, random lattices.

    A relative keeps the space group and the sites of a shipped structure; its lattice differs by
    1.2 to 6 % along each free axis and one element is another of its column. The rest are lattices
    of random system, size and atoms.
    """
    rng = np.random.default_rng([seed, 1])
    shipped = read_structures(shipped_cifs().values(), q_max)
    found = [*shipped, *_relatives(rng, q_max)]
    while len(found) < count:
        drawn = random_structure(rng, q_max)
        if len(drawn.reflections) >= 4:
            name = f"random-{len(found)}"
            found.append(replace(drawn, name=name, slug=name))
    return tuple(found)


def constrained(cell: Cell, changes: Float64) -> Cell:
    """Return a cell with its lengths times 1 + `changes` (3,), equal axes changed alike."""
    a, b, c = cell[:3]
    change = np.array(changes, dtype=float)
    if abs(a - b) < 1e-6 * a:
        change[1] = change[0]
    if abs(c - a) < 1e-6 * a:
        change[2] = change[0]
    lengths = np.array([a, b, c]) * (1 + change)
    return float(lengths[0]), float(lengths[1]), float(lengths[2]), *cell[3:]


def strained(structure: Structure, cell: Cell) -> Structure:
    """Return the structure with the lines of every hkl moved to where `cell` puts them."""
    lines = structure.reflections
    q = np.linalg.norm(lines.hkl @ reciprocal_basis(cell), axis=1)
    order = np.argsort(q, kind="stable")
    moved = replace(lines.chosen(order), q=q[order])
    return replace(structure, cell=cell, reflections=moved)


def _relatives(rng: np.random.Generator, q_max: float) -> Iterator[Structure]:
    for name, path in shipped_cifs().items():
        for number in range(RELATIVES):
            small = gemmi.read_small_structure(str(path))
            size = rng.uniform(*_LATTICE_SPREAD, 3) * rng.choice([-1.0, 1.0], 3)
            cell = constrained(tuple(small.cell.parameters), size)
            small.cell = gemmi.UnitCell(*cell)
            _exchange_element(rng, small)
            for site in small.sites:
                site.aniso = gemmi.SMat33d(0, 0, 0, 0, 0, 0)
                site.u_iso = site.u_iso if site.u_iso > 0 else 0.015
            small.setup_cell_images()
            small.change_occupancies_to_crystallographic()
            slug = f"{name}-like-{number}"
            yield Structure(slug, slug, "", cell, powder_lines(small, q_max))


def _exchange_element(rng: np.random.Generator, small: gemmi.SmallStructure) -> None:
    elements = sorted({site.element.name for site in small.sites} & _KIN.keys())
    if not elements:
        return
    old = elements[int(rng.integers(len(elements)))]
    new = _KIN[old][int(rng.integers(len(_KIN[old])))]
    for site in small.sites:
        if site.element.name == old:
            site.element = gemmi.Element(new)
