"""The space group of a CIF, checked against its operations, name, number and cell."""

from __future__ import annotations

import gemmi

__all__ = ["SymmetryError", "space_group_of"]

# Lengths (relative) and angles (deg) that a crystal system makes equal may differ by rounding.
_LENGTHS_AGREE = 2e-3
_ANGLES_AGREE_DEG = 0.15


class SymmetryError(ValueError):
    """The symmetry of a CIF is missing or contradicts itself."""


def space_group_of(small: gemmi.SmallStructure) -> tuple[gemmi.SpaceGroup | None, list[str]]:
    """Return the space group, None for operations that have no name, and what is doubtful.

    Operations that a named group only completes (centring left out, or x,y,z alone) are taken as
    that group. Raises SymmetryError where nothing is given, or where the group needs another cell.
    """
    named, doubts = _by_name(small)
    group = named
    if small.symops:
        listed = gemmi.GroupOps([gemmi.Op(triplet) for triplet in small.symops])
        given = {op.triplet() for op in listed}
        if named is not None and given < {op.triplet() for op in named.operations()}:
            doubts.append(
                f"lists {len(given)} of the {len(list(named.operations()))} operations of "
                f"{named.xhm()}; all of them are used"
            )
        else:
            group = gemmi.find_spacegroup_by_ops(listed)
            if named is not None and group != named:
                doubts.append(
                    f"the operations are not those of {named.xhm()}; the operations are used"
                )
    elif named is None:
        got = small.spacegroup_hm or small.spacegroup_hall or small.spacegroup_number or "none"
        message = (
            f"space group not understood (got {got}); give _space_group_symop_operation_xyz or a "
            "standard _space_group_name_H-M_alt"
        )
        raise SymmetryError(message)
    if group is not None and (problem := _cell_problem(group, small.cell)):
        raise SymmetryError(problem)
    return group, doubts


def _by_name(small: gemmi.SmallStructure) -> tuple[gemmi.SpaceGroup | None, list[str]]:
    """Return the group of name, Hall symbol or number, in the setting that fits the cell."""
    cell, number = small.cell, small.spacegroup_number
    by_name = None
    if small.spacegroup_hall:
        by_name = gemmi.find_spacegroup_by_ops(_hall(small.spacegroup_hall))
    if by_name is None and small.spacegroup_hm:
        by_name = gemmi.find_spacegroup_by_name(small.spacegroup_hm, cell.alpha, cell.gamma)
    if by_name is None and 1 <= number <= 230:
        hm = gemmi.find_spacegroup_by_number(number).hm
        return gemmi.find_spacegroup_by_name(hm, cell.alpha, cell.gamma), []
    if by_name is not None and number and by_name.number != number:
        return by_name, [
            f"the name {by_name.xhm()} is number {by_name.number}, the file says {number}; "
            "the name is used"
        ]
    return by_name, []


def _hall(symbol: str) -> gemmi.GroupOps:
    try:
        return gemmi.symops_from_hall(symbol)
    except (RuntimeError, ValueError):
        return gemmi.GroupOps([])


def _cell_problem(group: gemmi.SpaceGroup, cell: gemmi.UnitCell) -> str:
    """Return what keeps the cell from being one of the group, "" if nothing does."""
    a, b, c, alpha, beta, gamma = cell.parameters
    rhombohedral = group.ext == "R"
    system = group.crystal_system_str()
    equal: tuple[tuple[str, float, float], ...] = ()
    right = {"alpha": (alpha, 90.0), "beta": (beta, 90.0), "gamma": (gamma, 90.0)}
    if system == "cubic" or rhombohedral:
        equal = (("a and b", a, b), ("a and c", a, c))
    elif system in ("tetragonal", "hexagonal", "trigonal"):
        equal = (("a and b", a, b),)
    if rhombohedral:
        right = {"beta": (beta, alpha), "gamma": (gamma, alpha)}
    elif system in ("hexagonal", "trigonal"):
        right["gamma"] = (gamma, 120.0)
    elif system == "monoclinic":
        axis = {"a": "alpha", "b": "beta", "c": "gamma"}[_unique_axis(group)]
        del right[axis]
    elif system == "triclinic":
        right = {}
    for names, one, other in equal:
        if abs(one - other) > _LENGTHS_AGREE * other:
            return (
                f"{group.xhm()} is {system}, but {names} are {one:g} and {other:g} angstrom; "
                "correct the cell or the space group"
            )
    for name, (angle, expected) in right.items():
        if abs(angle - expected) > _ANGLES_AGREE_DEG:
            return (
                f"{group.xhm()} is {system}, but {name} is {angle:g} deg, not {expected:g}; "
                "correct the cell or the space group"
            )
    return ""


def _unique_axis(group: gemmi.SpaceGroup) -> str:
    axis: str = group.monoclinic_unique_axis()
    return axis if axis in ("a", "b", "c") else "b"
