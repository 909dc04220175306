"""The crystal of one CIF block, as structure factors need it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import StructureFileError
from gixi_bluesky.processing.structures.composition import contradiction, stated_formula
from gixi_bluesky.processing.structures.sites import crystallographic_sites, readable_sites
from gixi_bluesky.processing.structures.symmetry import SymmetryError, space_group_of

__all__ = ["crystal_of"]

DEFAULT_U_ISO = 1.0 / (8 * math.pi**2)  # B = 1 angstrom², for atoms without displacement
SAME_PLACE = 1e-3  # fractional; images nearer than this are one atom on a special position
_NUMBERS = ("_symmetry_Int_Tables_number", "_space_group_IT_number")


def crystal_of(block: gemmi.cif.Block, path: Path) -> tuple[gemmi.SmallStructure, tuple[str, ...]]:
    """Return the structure with crystallographic occupancies, and what is doubtful about it."""
    for tag in _NUMBERS:
        value = block.find_value(tag)
        if value:
            block.set_pair(tag, _number(value))
    small = gemmi.make_small_structure_from_block(block)
    if not small.cell.is_crystal():
        raise StructureFileError(
            f"{path}: no unit cell; _cell_length_a … _cell_angle_gamma must be given"
        )
    formula = stated_formula(block)
    sites, doubts = readable_sites(small, block, formula)
    if not sites:
        raise StructureFileError(
            f"{path}: no atoms with an element and coordinates; the _atom_site_ loop must hold "
            "_atom_site_label or _type_symbol and _atom_site_fract_x, _y, _z"
        )
    try:
        group, more = space_group_of(small)
    except SymmetryError as error:
        raise StructureFileError(f"{path}: {error}") from error
    crystal = gemmi.SmallStructure()
    crystal.cell = small.cell
    crystal.spacegroup = group or gemmi.SpaceGroup("P 1")
    for site in sites if group is not None else _expanded(sites, small.symops):
        if not site.u_iso > 0 and not site.aniso.nonzero():
            site.u_iso = DEFAULT_U_ISO
        crystal.add_site(site)
    crystal.setup_cell_images()
    used, twice = crystallographic_sites(crystal)
    single = gemmi.SmallStructure()
    single.cell, single.spacegroup = crystal.cell, crystal.spacegroup
    for site in used:
        single.add_site(site)
    single.setup_cell_images()
    units = gemmi.cif.as_number(block.find_value("_cell_formula_units_Z") or "?")
    operations = len(list(single.spacegroup.operations()))
    problem = contradiction(used, operations, formula, units if units > 0 else 0.0)
    return single, (*doubts, *more, *twice, *([problem] if problem else []))


def _number(value: str) -> str:
    """Return a space group's number without quotes, ? if it is none."""
    plain = gemmi.cif.as_string(value).strip()
    return plain if plain.isdigit() else "?"


def _expanded(
    sites: list[gemmi.SmallStructure.Site], symops: list[str]
) -> Iterator[gemmi.SmallStructure.Site]:
    """Yield every atom of the cell, for operations that have no name."""
    for site in sites:
        site.aniso = gemmi.SMat33d(0, 0, 0, 0, 0, 0)  # would turn with the operation
        origin = site.fract.tolist()
        places: list[NDArray[np.float64]] = []
        for triplet in symops:
            place = np.array(gemmi.Op(triplet).apply_to_xyz(origin))
            if any(np.abs((place - p + 0.5) % 1 - 0.5).max() < SAME_PLACE for p in places):
                continue
            places.append(place)
            copy = site.clone()
            copy.fract = gemmi.Fractional(*place)
            yield copy
