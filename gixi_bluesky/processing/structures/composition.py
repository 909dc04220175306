"""Comparison of a cell's content with the formula of its CIF."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

import gemmi

__all__ = ["contradiction", "stated_formula"]

_PART = re.compile(r"([A-Z][a-z]?)\s*(\d+(?:\.\d+)?)?")
_AGREE = 0.06  # relative; formulas are rounded
_LIGHT = {"H", "D", "X"}  # often not listed; they scatter little


def stated_formula(block: gemmi.cif.Block) -> dict[str, float]:
    """Return the elements of `_chemical_formula_sum` with their numbers, {} if it has none."""
    text = ""
    for tag in block.find_values("_chemical_formula_sum"):
        text = text or gemmi.cif.as_string(tag)
    found: defaultdict[str, float] = defaultdict(float)
    for symbol, number in _PART.findall(text):
        if gemmi.Element(symbol).atomic_number == 0:
            return {}
        found[symbol] += float(number or 1)
    return dict(found)


def contradiction(
    sites: Iterable[gemmi.SmallStructure.Site],
    operations: int,
    formula: Mapping[str, float],
    units: float,
) -> str:
    """Return how the cell's content differs from `units` formulas, "" if it does not.

    sites: with crystallographic occupancies; operations: of the space group, centring included
    units: `_cell_formula_units_Z`, 0 = not stated; then only the ratios are compared
    """
    content: defaultdict[str, float] = defaultdict(float)
    for site in sites:
        content[site.element.name] += site.occ * operations
    stated = {symbol: number for symbol, number in formula.items() if symbol not in _LIGHT}
    found = {symbol: number for symbol, number in content.items() if symbol not in _LIGHT}
    if not stated or not found:
        return ""
    scale = units or sum(found.values()) / sum(stated.values())
    wrong = [
        symbol
        for symbol in sorted(stated.keys() | found.keys())
        if abs(found.get(symbol, 0.0) - scale * stated.get(symbol, 0.0))
        > _AGREE * scale * max(stated.get(symbol, 0.0), min(stated.values()))
    ]
    if not wrong:
        return ""
    listed = " ".join(f"{symbol}{found[symbol] / scale:.3g}" for symbol in sorted(found))
    expected = " ".join(f"{symbol}{number:.3g}" for symbol, number in sorted(stated.items()))
    cells = f"{scale:g} formula units in the cell" if units else "ratios only"
    return f"the atoms make {listed}, the formula is {expected} ({cells}); check the atom list"
