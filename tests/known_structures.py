"""Structures that are in none of the real frames: perovskites, oxides, elements, salts, organics.

Lattices are textbook values (Wyckoff, Crystal Structures; Villars, Pearson's Handbook), rounded.
"""

from __future__ import annotations

import gemmi
import numpy as np

from gixi_bluesky.processing.structures.cif_files import Structure
from gixi_bluesky.processing.structures.reflections import powder_lines

Sites = list[tuple[str, float, float, float]]

ROCK_SALT = {
    "MgO": 4.212, "NiO": 4.177, "CoO": 4.261, "FeO": 4.307, "CaO": 4.811, "MnO": 4.445,
    "NaCl": 5.640, "KCl": 6.293, "KBr": 6.600, "KI": 7.066, "LiF": 4.026, "PbS": 5.936,
    "PbSe": 6.124, "PbTe": 6.462, "SnTe": 6.313, "AgBr": 5.775, "AgCl": 5.549, "TiN": 4.242,
}  # fmt: skip
ZINC_BLENDE = {
    "ZnS": 5.409, "ZnSe": 5.668, "ZnTe": 6.103, "CdTe": 6.482, "GaAs": 5.653, "InP": 5.869,
    "GaP": 5.451, "InAs": 6.058, "CuI": 6.043, "CuBr": 5.691,
}  # fmt: skip
FACE_CENTRED = {
    "Au": 4.078,
    "Ag": 4.086,
    "Al": 4.050,
    "Cu": 3.615,
    "Ni": 3.524,
    "Pt": 3.924,
    "Pb": 4.951,
}
BODY_CENTRED = {"Fe": 2.866, "W": 3.165, "Mo": 3.147, "Cr": 2.885, "Ta": 3.303, "Na": 4.291}
DIAMOND = {"Si": 5.431, "Ge": 5.658, "Sn": 6.489}
FLUORITE = {"CaF2": 5.463, "CeO2": 5.411, "BaF2": 6.200, "SrF2": 5.800}
CAESIUM_CHLORIDE = {"CsCl": 4.123, "CsBr": 4.286, "CsI": 4.567, "TlBr": 3.986}
PEROVSKITE = {
    "SrTiO3": (3.905, "Sr", "Ti", "O"), "BaTiO3": (4.006, "Ba", "Ti", "O"),
    "KTaO3": (3.989, "K", "Ta", "O"), "LaAlO3": (3.790, "La", "Al", "O"),
    "CsPbCl3": (5.605, "Cs", "Pb", "Cl"), "MAPbCl3": (5.675, "N", "Pb", "Cl"),
    "CsSnI3": (6.220, "Cs", "Sn", "I"), "MASnI3": (6.240, "N", "Sn", "I"),
    "CsSnBr3": (5.804, "Cs", "Sn", "Br"), "CsPbI3": (6.289, "Cs", "Pb", "I"),
}  # fmt: skip


def wrong_structures(q_max: float) -> tuple[Structure, ...]:
    """Return more than 60 structures with their lines up to q_max, 1/angstrom."""
    found = []

    def add(name: str, group: str, cell: tuple[float, ...], sites: Sites) -> None:
        found.append(_structure(name, group, cell, sites, q_max))

    for name, a in ROCK_SALT.items():
        one, other = gemmi_elements(name)
        add(name, "F m -3 m", cubic(a), [(one, 0, 0, 0), (other, 0.5, 0.5, 0.5)])
    for name, a in ZINC_BLENDE.items():
        one, other = gemmi_elements(name)
        add(name, "F -4 3 m", cubic(a), [(one, 0, 0, 0), (other, 0.25, 0.25, 0.25)])
    for name, a in FACE_CENTRED.items():
        add(name, "F m -3 m", cubic(a), [(name, 0, 0, 0)])
    for name, a in BODY_CENTRED.items():
        add(name, "I m -3 m", cubic(a), [(name, 0, 0, 0)])
    for name, a in DIAMOND.items():
        add(name, "F -4 3 m", cubic(a), [(name, 0, 0, 0), (name, 0.25, 0.25, 0.25)])
    for name, a in FLUORITE.items():
        one, other = gemmi_elements(name)
        add(name, "F m -3 m", cubic(a), [(one, 0, 0, 0), (other, 0.25, 0.25, 0.25)])
    for name, a in CAESIUM_CHLORIDE.items():
        one, other = gemmi_elements(name)
        add(name, "P m -3 m", cubic(a), [(one, 0, 0, 0), (other, 0.5, 0.5, 0.5)])
    for name, (a, big, small, anion) in PEROVSKITE.items():
        sites: Sites = [(big, 0.5, 0.5, 0.5), (small, 0, 0, 0), (anion, 0.5, 0, 0)]
        add(name, "P m -3 m", cubic(a), sites)
    add(
        "rutile",
        "P 42/m n m",
        (4.594, 4.594, 2.959, 90, 90, 90),
        [("Ti", 0, 0, 0), ("O", 0.305, 0.305, 0)],
    )
    add(
        "SnO2",
        "P 42/m n m",
        (4.738, 4.738, 3.187, 90, 90, 90),
        [("Sn", 0, 0, 0), ("O", 0.307, 0.307, 0)],
    )
    add(
        "ZnO",
        "P 63 m c",
        (3.250, 3.250, 5.207, 90, 90, 120),
        [("Zn", 1 / 3, 2 / 3, 0), ("O", 1 / 3, 2 / 3, 0.382)],
    )
    add(
        "CdS",
        "P 63 m c",
        (4.136, 4.136, 6.713, 90, 90, 120),
        [("Cd", 1 / 3, 2 / 3, 0), ("S", 1 / 3, 2 / 3, 0.378)],
    )
    add(
        "graphite",
        "P 63/m m c",
        (2.464, 2.464, 6.711, 90, 90, 120),
        [("C", 0, 0, 0.25), ("C", 1 / 3, 2 / 3, 0.25)],
    )
    add(
        "corundum",
        "R -3 c",
        (4.759, 4.759, 12.99, 90, 90, 120),
        [("Al", 0, 0, 0.352), ("O", 0.306, 0, 0.25)],
    )
    add(
        "Fe2O3",
        "R -3 c",
        (5.038, 5.038, 13.77, 90, 90, 120),
        [("Fe", 0, 0, 0.355), ("O", 0.306, 0, 0.25)],
    )
    add("Cu2O", "P n -3 m", cubic(4.270), [("O", 0, 0, 0), ("Cu", 0.25, 0.25, 0.25)])
    add("C60", "F m -3 m", cubic(14.17), [("C", 0.05, 0.0, 0.247), ("C", 0.1, 0.08, 0.215)])
    rng = np.random.default_rng(0)
    organics = {
        "pentacene": ("P -1", (6.266, 7.775, 14.53, 76.5, 87.7, 84.6)),
        "rubrene": ("C m c e", (26.86, 7.193, 14.43, 90, 90, 90)),
        "naphthalene": ("P 1 21/a 1", (8.235, 6.003, 8.658, 90, 122.9, 90)),
        "anthracene": ("P 1 21/a 1", (8.561, 6.036, 11.16, 90, 124.7, 90)),
    }
    for name, (group, cell) in organics.items():
        atoms: Sites = [("C", *(float(x) for x in rng.uniform(0, 1, 3))) for _ in range(8)]
        add(name, group, cell, atoms)
    return tuple(found)


def cubic(a: float) -> tuple[float, ...]:
    return (a, a, a, 90, 90, 90)


def gemmi_elements(formula: str) -> tuple[str, str]:
    split = 2 if formula[1].islower() else 1
    return formula[:split], formula[split:].rstrip("0123456789")


def _structure(
    name: str, group: str, cell: tuple[float, ...], sites: Sites, q_max: float
) -> Structure:
    small = gemmi.SmallStructure()
    small.cell, small.spacegroup = gemmi.UnitCell(*cell), gemmi.SpaceGroup(group)
    for element, x, y, z in sites:
        site = gemmi.SmallStructure.Site()
        site.element, site.fract = gemmi.Element(element), gemmi.Fractional(x, y, z)
        site.occ, site.u_iso = 1.0, 0.015
        small.add_site(site)
    small.setup_cell_images()
    small.change_occupancies_to_crystallographic()
    system = small.spacegroup.crystal_system_str()
    return Structure(
        name=name,
        slug=name,
        sha256="",
        cell=tuple(small.cell.parameters),
        reflections=powder_lines(small, q_max),
        crystal_system=system,
    )
