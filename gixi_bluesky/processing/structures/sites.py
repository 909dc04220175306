"""Atoms of a CIF: which element, where, and how much of it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

import gemmi
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["crystallographic_sites", "readable_sites"]

# Images of a site nearer than this, angstrom, are one atom on a special position.
_ONE_ATOM = 0.05
# Up to here they are one atom or a split one, as its occupancy says.
_SPECIAL = 0.4
# Two listed atoms nearer than this, angstrom, lie on one place.
_SAME_PLACE = 0.1
_FULL = 1.05
_FRACTION = re.compile(r"^([+-]?\d+)/(\d+)$")
_WATER = re.compile(r"^(wat|hoh|h2o|ow\b|ow\d)", re.IGNORECASE)


def readable_sites(
    small: gemmi.SmallStructure, block: gemmi.cif.Block, formula: Mapping[str, float]
) -> tuple[list[gemmi.SmallStructure.Site], list[str]]:
    """Return the sites with an element and a place, and a line on each kind that has none.

    Coordinates such as 1/2 are read. A label that names no element is taken as the element that
    it begins with, one of the formula if there is one.
    """
    columns = [list(block.find_values(f"_atom_site_fract_{axis}")) for axis in "xyz"]
    found, doubts = [], []
    lost: dict[str, int] = {}
    for index, site in enumerate(small.sites):
        _read_fractions(site, [column[index] for column in columns if index < len(column)])
        if site.occ <= 0:
            continue
        if not all(math.isfinite(x) for x in site.fract.tolist()):
            lost[f"{site.label} has no place"] = 1
            continue
        doubtful = site.element.atomic_number == 0 or bool(_WATER.match(site.label))
        if doubtful or (formula and site.element.name not in formula):
            element = _element_of(site.label, formula)
            if element is None and site.element.atomic_number == 0:
                lost[f"{site.label} names no element"] = 1
                continue
            if element is not None and element != site.element.name:
                doubts.append(f"{site.label} is taken as {element}")
                site.element = gemmi.Element(element)
        found.append(site)
    if lost:
        shown = "; ".join(sorted(lost)[:5])
        doubts.append(f"{len(lost)} atoms are left out: {shown}")
    return found, doubts


def crystallographic_sites(
    crystal: gemmi.SmallStructure,
) -> tuple[list[gemmi.SmallStructure.Site], list[str]]:
    """Return the sites with the occupancies that structure factors need, and what was doubtful.

    An atom on a special position counts once, although several operations put it there. A split
    atom, whose images beside a symmetry element fill one place together, is left as it is. An
    atom that is listed again as the image of another one is left out.
    """
    sites, doubts = _without_images(crystal)
    for site in sites:
        exact = crystal.cell.is_special_position(site.fract, _ONE_ATOM) + 1
        near = crystal.cell.is_special_position(site.fract, _SPECIAL) + 1
        split = site.occ * near / exact <= _FULL
        site.occ /= exact if split else near
    return sites, doubts


def _read_fractions(site: gemmi.SmallStructure.Site, texts: list[str]) -> None:
    place = site.fract.tolist()
    for axis, text in enumerate(texts):
        match = _FRACTION.match(gemmi.cif.as_string(text))
        if match and int(match[2]):
            place[axis] = int(match[1]) / int(match[2])
    site.fract = gemmi.Fractional(*place)


def _element_of(label: str, formula: Mapping[str, float]) -> str | None:
    """Return the element that a label begins with, None where there is none."""
    if _WATER.match(label) and (not formula or "O" in formula):
        return "O"
    letters = re.match(r"[A-Za-z]*", label)
    word = letters[0] if letters else ""
    for length in (2, 1):
        symbol = word[:length].capitalize()
        known = len(symbol) == length and gemmi.Element(symbol).atomic_number > 0
        if known and (not formula or symbol in formula):
            return symbol
    return None


def _without_images(
    crystal: gemmi.SmallStructure,
) -> tuple[list[gemmi.SmallStructure.Site], list[str]]:
    sites = list(crystal.sites)
    dropped: set[int] = set()
    for one, other in _overlapping(crystal):
        if one in dropped or other in dropped:
            continue
        a, b = sites[one], sites[other]
        if a.element == b.element and a.occ + b.occ > _FULL:
            dropped.add(other)
    doubts = []
    if dropped:
        names = ", ".join(sites[index].label for index in sorted(dropped)[:5])
        doubts.append(
            f"{len(dropped)} atoms are listed twice, as images of others ({names}); each is used "
            "once"
        )
    return [site for index, site in enumerate(sites) if index not in dropped], doubts


def _overlapping(crystal: gemmi.SmallStructure) -> Iterator[tuple[int, int]]:
    """Yield pairs of listed sites of which an image of the second lies on the first."""
    places = np.array([site.fract.tolist() for site in crystal.sites]) % 1.0
    operations = (crystal.spacegroup or gemmi.SpaceGroup("P 1")).operations()
    cell = np.array(crystal.cell.orth.mat.tolist())
    # An edge of this length holds the sphere of the same place, whatever the angles are.
    reach = _SAME_PLACE * float(np.linalg.norm(np.linalg.inv(cell), 2))
    if not 0 < reach < 0.5:
        return
    tree = cKDTree(np.minimum(places, np.nextafter(1.0, 0.0)), boxsize=np.ones(3))
    pairs: set[tuple[int, int]] = set()
    for operation in operations:
        images = _applied(operation, places)
        for other, image in enumerate(images):
            near: list[int] = tree.query_ball_point(image, reach)
            for one in near:
                if one < other and _distance(images[other] - places[one], cell) < _SAME_PLACE:
                    pairs.add((one, other))
    yield from sorted(pairs)


def _applied(operation: gemmi.Op, places: NDArray[np.float64]) -> NDArray[np.float64]:
    rotation = np.array(operation.rot) / operation.DEN
    moved = places @ rotation.T + np.array(operation.tran) / operation.DEN
    return np.minimum(moved % 1.0, np.nextafter(1.0, 0.0))


def _distance(difference: NDArray[np.float64], cell: NDArray[np.float64]) -> float:
    nearest = difference - np.rint(difference)
    return float(np.linalg.norm(cell @ nearest))
