"""Cells that explain a set of |q|: trial assignments of low indices, and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, permutations, product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEWEST_LINES", "ProposedCell", "propose_cells"]

Float64 = NDArray[np.float64]
System = Literal["cubic", "tetragonal", "hexagonal", "orthorhombic"]

FEWEST_LINES = 5
_SYSTEMS: tuple[System, ...] = ("cubic", "tetragonal", "hexagonal", "orthorhombic")
_CENTRINGS = ("P", "I", "F")
_LARGEST_INDEX = {"cubic": 8, "tetragonal": 6, "hexagonal": 6, "orthorhombic": 5}
_TRIAL_FAMILIES = {"cubic": 12, "tetragonal": 14, "hexagonal": 14, "orthorhombic": 14}
_FIRST_LINES = 5  # of which trial cells are made
_EDGE = (2.5, 40.0)  # angstrom, of cells that are tried
_LEAST_TOLERANCE = 1e-3  # of q, relative
_MISSED_SHARE = 0.2  # of the lines that a cell may leave out
_LEAST_DECADES, _DECADES_A_LINE = 2.0, 0.3  # of five lines; more for each further one
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class ProposedCell:
    """A cell that explains lines.

    system: cubic, tetragonal, hexagonal or orthorhombic; centring: P, I or F
    a, b, c: angstrom
    figure: de Wolff's M (J. Appl. Cryst. 1, 108 (1968)): Q of the last line over twice the mean
        |dQ| and the number of lines possible up to there
    decades: -log10 of how often lines at random places would be explained as well by one of the
        cells that are tried; at least 2 for five lines, 4 for twelve
    n_indexed: how many of the lines it explains
    """

    system: System
    centring: str
    a: float
    b: float
    c: float
    figure: float
    decades: float
    n_indexed: int


def propose_cells(q: Float64, q_error: Float64, most: int = 3) -> list[ProposedCell]:
    """Return the cells that explain lines best, the best first; none for fewer than five lines.

    q, q_error: (n,) 1/angstrom, standard errors; one for each line
    """
    order = np.argsort(q)
    q, q_error = q[order], q_error[order]
    if len(q) < FEWEST_LINES:
        return []
    found = [cell for system in _SYSTEMS for cell in _best(system, q, q_error)]
    found.sort(key=lambda cell: -cell.decades)
    kept: list[ProposedCell] = []
    for cell in found:
        if not any(_same(cell, other) for other in kept):
            kept.append(cell)
    return kept[:most]


@dataclass(frozen=True, slots=True)
class _Families:
    """Reflections with different |q|: (n, k) coefficients of the k reciprocal constants."""

    terms: Float64
    low: Float64  # those of trial assignments


def _families(system: System, centring: str) -> _Families:
    largest = _LARGEST_INDEX[system]
    terms: set[tuple[int, ...]] = set()
    for h, k, l in product(range(largest + 1), repeat=3):  # noqa: E741 - the field's name
        if h + k + l == 0 or not _allowed(h, k, l, centring):
            continue
        key: tuple[int, ...]
        if system == "cubic":
            key = (h * h + k * k + l * l,)
        elif system == "tetragonal":
            key = (h * h + k * k, l * l)
        elif system == "hexagonal":
            key = (h * h + h * k + k * k, l * l)
        else:
            key = (h * h, k * k, l * l)
        terms.add(key)
    ordered = sorted(terms, key=lambda key: (sum(key), key))
    every = np.array(ordered, float)
    return _Families(every, every[: _TRIAL_FAMILIES[system]])


def _allowed(h: int, k: int, l: int, centring: str) -> bool:  # noqa: E741 - the field's name
    if centring == "I":
        return (h + k + l) % 2 == 0
    if centring == "F":
        return h % 2 == k % 2 == l % 2
    return True


def _best(system: System, q: Float64, q_error: Float64) -> Iterator[ProposedCell]:
    """Yield the best cell of each centring."""
    centrings = _CENTRINGS if system != "hexagonal" else ("P",)
    for centring in centrings:
        if system == "tetragonal" and centring == "F":
            continue  # is I with another edge
        families = _families(system, centring)
        best: ProposedCell | None = None
        for constants in _trials(families.low, q):
            for one in _promising(constants, families.terms, q, q_error):
                cell = _refined(system, centring, one, families.terms, q, q_error)
                if cell is not None and (best is None or cell.decades > best.decades):
                    best = cell
        if best is not None:
            yield best


def _trials(low: Float64, q: Float64) -> Iterator[Float64]:
    """Yield (m, k) reciprocal constants from assignments of low families to the first lines."""
    squares = q[:_FIRST_LINES] ** 2
    k = low.shape[1]
    assigned = np.array(list(combinations(range(len(low)), k)), np.intp)
    assigned = np.concatenate([assigned[:, list(order)] for order in permutations(range(k))])
    matrices = low[assigned]
    solvable = np.abs(np.linalg.det(matrices)) > 1e-6
    matrices = matrices[solvable]
    inverse = np.linalg.inv(matrices)
    longest, shortest = ((2 * math.pi / edge) ** 2 for edge in _EDGE)
    for lines in combinations(range(len(squares)), k):
        constants = inverse @ squares[list(lines)]
        good = ((constants > shortest) & (constants < longest)).all(axis=1)
        chosen = constants[good]
        for first in range(0, len(chosen), _CHUNK):
            yield chosen[first : first + _CHUNK]


def _tolerance(q: Float64, q_error: Float64) -> Float64:
    """(n,) how far q² of a line may be off."""
    return 2 * q * np.maximum(3 * q_error, _LEAST_TOLERANCE * q)


def _promising(
    constants: Float64, terms: Float64, q: Float64, q_error: Float64
) -> Iterator[Float64]:
    """Yield those of the trial constants that explain most lines with few possible ones."""
    if not len(constants):
        return
    squares = q**2
    predicted = constants @ terms.T
    off = np.stack([np.abs(predicted - one).min(axis=1) for one in squares], axis=1)
    explained = (off < 3 * _tolerance(q, q_error)).sum(axis=1)
    possible = (predicted <= squares[-1] * 1.01).sum(axis=1)
    enough = explained >= math.ceil((1 - _MISSED_SHARE) * len(q))
    score = np.where(enough, explained - 0.02 * possible, -np.inf)
    for i in np.argsort(-score)[:6]:
        if np.isfinite(score[i]):
            yield constants[i]


def _refined(
    system: System,
    centring: str,
    constants: Float64,
    terms: Float64,
    q: Float64,
    q_error: Float64,
) -> ProposedCell | None:
    """Return the cell after least squares, None if it explains too few lines or is no better."""
    squares, tolerance = q**2, _tolerance(q, q_error)
    good = np.zeros(len(q), bool)
    for _ in range(4):
        predicted = terms @ constants
        nearest = np.abs(predicted - squares[:, None]).argmin(axis=1)
        off = np.abs(predicted[nearest] - squares)
        good = off < 3 * tolerance
        if good.sum() < terms.shape[1] + 1:
            return None
        weight = 1 / tolerance[good]
        design = terms[nearest[good]] * weight[:, None]
        solved, _, rank, _ = np.linalg.lstsq(design, squares[good] * weight, rcond=None)
        if rank < terms.shape[1] or (solved <= 0).any():
            return None
        constants = solved
    predicted = terms @ constants
    off = np.abs(predicted - squares[:, None]).min(axis=1)
    good = off < tolerance
    if good.sum() < math.ceil((1 - _MISSED_SHARE) * len(q)):
        return None
    last = squares[good][-1]
    possible = len(np.unique(np.round(predicted[predicted <= last * 1.001], 9)))
    # No line can be trusted to lie better than its error says.
    error = np.maximum(off, 2 * q * q_error)[good]
    decades = _decades(system, error * possible / last, len(q))
    if decades < _LEAST_DECADES + _DECADES_A_LINE * (len(q) - FEWEST_LINES):
        return None
    figure = float(last / (2 * error.mean() * possible))
    a, b, c = _edges(system, constants)
    return ProposedCell(system, centring, a, b, c, figure, decades, int(good.sum()))


def _decades(system: System, crowded: Float64, n_lines: int) -> float:
    """Return how surely lines are not explained by chance.

    crowded: (m,) of the lines explained, distance to the possible line in units of their spacing
    """
    m = len(crowded)
    constants = {"cubic": 1, "tetragonal": 2, "hexagonal": 2, "orthorhombic": 3}[system]
    chance = np.log10(np.minimum(2 * crowded, 1.0)).sum()
    # As many lines as there are constants are explained by any cell.
    free = chance * (m - constants) / m
    trials = math.comb(_FIRST_LINES, constants) * math.perm(_TRIAL_FAMILIES[system], constants)
    left_out = math.comb(n_lines, n_lines - m)
    return float(-free - math.log10(trials * left_out * len(_CENTRINGS)))


def _edges(system: System, constants: Float64) -> tuple[float, float, float]:
    edges = 2 * math.pi / np.sqrt(constants)
    if system == "cubic":
        return float(edges[0]), float(edges[0]), float(edges[0])
    if system == "tetragonal":
        return float(edges[0]), float(edges[0]), float(edges[1])
    if system == "hexagonal":
        a = float(edges[0]) * 2 / math.sqrt(3)
        return a, a, float(edges[1])
    a, b, c = sorted(edges.tolist())
    return a, b, c


def _same(one: ProposedCell, other: ProposedCell) -> bool:
    """Return whether two cells are one lattice, as a cubic one is tetragonal, too."""
    if one.centring != other.centring or (one.system == "hexagonal") != (
        other.system == "hexagonal"
    ):
        return False
    pairs = zip(sorted((one.a, one.b, one.c)), sorted((other.a, other.b, other.c)), strict=True)
    return all(abs(x / y - 1) < 0.005 for x, y in pairs)
