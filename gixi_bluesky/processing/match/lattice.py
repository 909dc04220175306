"""Cell parameters that the matched lines determine, refined together with the zero error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import gemmi
import numpy as np
from numpy.typing import NDArray

__all__ = ["Lattice", "LatticeFit", "LineSet", "free_parameters", "refine_lattices"]

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Cell = tuple[float, float, float, float, float, float]

POSITION_ERRORS = np.geomspace(5e-5, 2e-3, 8)  # relative, of single lines beyond their fit's error
PRIOR_STRAIN = 0.01  # relative for lengths, rad for angles
DETERMINED = 0.5  # of the prior's width: parameters known less well are not determined
OUTLIER_SIGMAS = 4.0
SAME = 1e-4  # relative, of lengths; deg x 100, of angles
_STEP = 1e-5


@dataclass(frozen=True, slots=True)
class LineSet:
    """Matched lines of one phase that are its own: (n,) each.

    cell: of the CIF, angstrom and deg; system: crystal system, "" = that of the cell's shape
    hkl: (n, 3); q_cif: where the CIF puts the line, of merged lines their mean; q, error: as seen,
        1/angstrom
    """

    cell: Cell
    system: str
    hkl: Int64
    q_cif: Float64
    q: Float64
    error: Float64


@dataclass(frozen=True, slots=True)
class Lattice:
    """A refined cell.

    cell, error: (6,) angstrom and deg; error NaN = not determined, then the value is the CIF's
        with the mean strain; 0 = fixed by symmetry
    scale, scale_error: geometric mean of the lengths over the CIF's
    """

    cell: Float64
    error: Float64
    scale: float
    scale_error: float

    def q_at(self, hkl: Int64, q_cif: Float64, cell: Cell) -> Float64:
        """Return where this cell puts lines that the CIF's `cell` puts at q_cif, 1/angstrom."""
        return q_cif * _length(tuple(self.cell), hkl) / _length(cell, hkl)


@dataclass(frozen=True, slots=True)
class LatticeFit:
    """The cells of a frame and what they share; zero, zero_error: 1/angstrom."""

    lattices: tuple[Lattice, ...]
    zero: float
    zero_error: float


def free_parameters(cell: Cell, system: str = "") -> Float64:
    """Return (6, m): how the free parameters change a, b, c (relative) and the angles (rad).

    Without a known crystal system, equal lengths stay equal and angles of 90 and 120 deg fixed.
    """
    lengths, angles = np.array(cell[:3]), np.array(cell[3:])
    alike = abs(lengths[:, None] / lengths - 1) < SAME
    right = abs(angles - 90) < 100 * SAME
    if system in ("triclinic", "monoclinic", "orthorhombic"):
        alike = np.eye(3, dtype=bool)
    columns = [alike[i] * 1.0 for i in range(3) if not alike[i, :i].any()]
    if system == "triclinic":
        free = [np.array([i == 0, i == 1, i == 2], float) for i in range(3)]
    elif system == "monoclinic":
        unique = int(np.argmax(abs(angles - 90))) if not right.all() else 1
        free = [np.eye(3)[unique]]
    elif alike.all() and not right.any() and np.ptp(angles) < 100 * SAME:
        free = [np.ones(3)]  # rhombohedral axes
    else:
        fixed = right | (abs(angles - 120) < 100 * SAME)
        free = [np.eye(3)[i] for i in range(3) if not fixed[i]]
    rows = [np.concatenate([c, np.zeros(3)]) for c in columns]
    rows += [np.concatenate([np.zeros(3), a]) for a in free]
    return np.array(rows).T


def refine_lattices(phases: Sequence[LineSet], zero_sigma: float) -> LatticeFit:
    """Fit the cells of all phases and the common zero error to their lines.

    Least squares of q = |h B(cell)| + zero. Each line errs by its fit's error and by an unknown
    position error, a constant times q, over which the fits are averaged with their restricted
    likelihood; so the covariance includes the scatter of the lines. Priors, as observations: strain
    1 % and zero_sigma (1/angstrom).
    """
    free = [free_parameters(p.cell, p.system) for p in phases]
    sizes = [m.shape[1] for m in free]
    starts = np.concatenate([[1], 1 + np.cumsum(sizes)]).astype(int)
    solution, covariance = np.zeros(starts[-1]), np.diag(np.full(starts[-1], PRIOR_STRAIN**2))
    covariance[0, 0] = zero_sigma**2
    kept = np.ones(sum(len(p.q) for p in phases), bool)
    for _ in range(3):
        design, residual, q, error = _linearised(phases, free, starts, solution)
        if not kept.any():
            break
        mean, covariance, scatter = _averaged(
            design[kept], residual[kept] + design[kept] @ solution, q[kept], error[kept], zero_sigma
        )
        left = residual - design @ (mean - solution)
        kept = abs(left) <= OUTLIER_SIGMAS * np.hypot(error, scatter * q)
        solution = mean
    lattices = tuple(
        _lattice(phase, matrix, solution[a:b], covariance[a:b, a:b])
        for phase, matrix, a, b in zip(phases, free, starts[:-1], starts[1:], strict=True)
    )
    return LatticeFit(lattices, float(solution[0]), float(np.sqrt(covariance[0, 0])))


def _linearised(
    phases: Sequence[LineSet], free: list[Float64], starts: Int64, solution: Float64
) -> tuple[Float64, Float64, Float64, Float64]:
    """Return the derivatives, the residuals at `solution`, and q and its error, lines stacked."""
    parts = []
    for phase, matrix, start in zip(phases, free, starts[:-1], strict=True):
        own = solution[start : start + matrix.shape[1]]
        scale = phase.q_cif / _length(phase.cell, phase.hkl)
        here = scale * _length(_changed(phase.cell, matrix @ own), phase.hkl)
        design = np.zeros((len(phase.q), len(solution)))
        design[:, 0] = 1
        for column in range(matrix.shape[1]):
            moved = own.copy()
            moved[column] += _STEP
            there = scale * _length(_changed(phase.cell, matrix @ moved), phase.hkl)
            design[:, start + column] = (there - here) / _STEP
        parts.append((design, phase.q - here - solution[0], phase.q, phase.error))
    empty = (np.zeros((0, len(solution))), np.zeros(0), np.zeros(0), np.zeros(0))
    design, residual, q, error = (np.concatenate(x) for x in zip(*parts, empty, strict=True))
    return design, residual, q, error


def _averaged(
    design: Float64, observed: Float64, q: Float64, error: Float64, zero_sigma: float
) -> tuple[Float64, Float64, float]:
    """Return mean and covariance over the position errors, and the mean position error."""
    precision = np.full(design.shape[1], PRIOR_STRAIN**-2)
    precision[0] = zero_sigma**-2
    weight = 1 / (error**2 + (POSITION_ERRORS[:, None] * q) ** 2)  # (position errors, lines)
    normal = (design.T * weight[:, None]) @ design + np.diag(precision)
    covariances = np.linalg.inv(normal)
    means = (covariances @ ((weight * observed) @ design)[:, :, None])[:, :, 0]
    left = observed - means @ design.T
    chi_square = (weight * left**2).sum(axis=1) + (means**2 @ precision)
    logs = 0.5 * (np.log(weight).sum(axis=1) - np.linalg.slogdet(normal)[1] - chi_square)
    share = np.exp(logs - logs.max())
    share /= share.sum()
    mean = share @ means
    off = means - mean
    within = np.einsum("i,ijk->jk", share, covariances)
    return mean, within + (off * share[:, None]).T @ off, float(share @ POSITION_ERRORS)


def _lattice(phase: LineSet, matrix: Float64, own: Float64, covariance: Float64) -> Lattice:
    known = np.sqrt(np.diag(covariance)) < DETERMINED * PRIOR_STRAIN
    of_length = (matrix[:3] > 0).any(axis=0)
    sure = known & of_length
    mean = float(own[sure].mean()) if sure.any() else float(own[of_length].mean())
    change = matrix @ np.where(known, own, np.where(of_length, mean, 0.0))
    cell = np.array(_changed(phase.cell, change))
    error = np.sqrt(np.einsum("ij,jk,ik->i", matrix, covariance, matrix))
    error = error * np.concatenate([cell[:3], np.full(3, np.degrees(1))])
    error[(matrix[:, ~known] != 0).any(axis=1)] = np.nan
    weights = matrix[:3].mean(axis=0)
    scale = float(np.exp(np.log1p(change[:3]).mean()))
    scale_error = float(np.sqrt(weights @ covariance @ weights)) if sure.any() else np.nan
    return Lattice(cell, error, scale, scale_error)


def _changed(cell: Cell, change: Float64) -> Cell:
    a, b, c = np.array(cell[:3]) * (1 + change[:3])
    alpha, beta, gamma = np.array(cell[3:]) + np.degrees(change[3:])
    return float(a), float(b), float(c), float(alpha), float(beta), float(gamma)


def _length(cell: Cell, hkl: Int64) -> Float64:
    """Return |q| of the planes, 1/angstrom, (n,)."""
    inverse = gemmi.UnitCell(*cell).calculate_1_d2_array(np.asarray(hkl, np.int32))
    return np.asarray(2 * np.pi * np.sqrt(inverse))
