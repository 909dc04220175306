"""Cell parameters that the matched lines determine, refined together with the zero error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import gemmi
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "HiddenLines",
    "Lattice",
    "LatticeFit",
    "LineSet",
    "free_parameters",
    "refine_lattices",
]

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Cell = tuple[float, float, float, float, float, float]

RELATIVE_ERRORS = np.geomspace(2e-5, 2e-3, 6)  # of single lines beyond their fit's error: of q
CONSTANT_ERRORS = np.array([0, 1e-4, 3e-4, 1e-3])  # and 1/angstrom; the centre of the beam
TOLERANCES = (3e-3, 1e-3, 3e-4, 0.0)  # 1/angstrom, of lines that may be others', in turn
PRIOR_STRAIN = 0.01  # relative for lengths, rad for angles
DETERMINED = 0.5  # of the prior's width: parameters known less well are not determined
STRAYS, STRAY_WIDTH = 0.05, 0.006  # part of the lines that are others', and how far off, 1/angstrom
SHARED, ROUNDS = 2, 3  # parameters of the frame: zero and tilt; linearised so often
BLENDED_SPREAD = 1.0  # in log, of the intensities of lines that one peak shows
SAME = 1e-4  # relative, of lengths; deg x 100, of angles
_STEP = 1e-5


@dataclass(frozen=True, slots=True)
class LineSet:
    """Matched lines of one phase that are its own: (n,) each.

    cell: of the CIF, angstrom and deg; system: crystal system, "" = that of the cell's shape
    hkl: (n, 3); q_cif: where the CIF puts the line; q, error: as seen, 1/angstrom
    tilt: cos phi - sin phi of where on the ring it is seen, None = evenly about 45 deg
    """

    cell: Cell
    system: str
    hkl: Int64
    q_cif: Float64
    q: Float64
    error: Float64
    tilt: Float64 | None = None


@dataclass(frozen=True, slots=True)
class HiddenLines:
    """Further lines that the peaks of matched ones show with these: (m,) each.

    shown: the matched line, counted over all sets; phase: index of the set whose cell places it
    hkl: (m, 3); q_cif: where the CIF puts it, 1/angstrom; strength: over that of the matched line
    """

    shown: Int64
    phase: Int64
    hkl: Int64
    q_cif: Float64
    strength: Float64

    @classmethod
    def none(cls) -> HiddenLines:
        """Return no lines."""
        index, value = np.zeros(0, np.int64), np.zeros(0)
        return cls(index, index, np.zeros((0, 3), np.int64), value, value)

    @classmethod
    def together(cls, parts: Sequence[HiddenLines]) -> HiddenLines:
        """Return the lines of all parts."""
        every = (cls.none(), *parts)
        return cls(
            *(np.concatenate([getattr(one, name) for one in every]) for name in cls.__slots__)
        )


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


def refine_lattices(
    phases: Sequence[LineSet], hidden: HiddenLines, zero_sigma: float
) -> LatticeFit:
    """Fit the cells of all phases and what the frame shares to their lines.

    Least squares of q = |h B(cell)| + zero + tilt (cos phi - sin phi), as a shifted beam centre
    moves them; with hidden lines |h B| is the mean of all that a peak shows, by their strengths,
    which err by BLENDED_SPREAD. Each line errs by its fit's error and by an unknown position error,
    a constant times q and another, over which the fits are averaged with their restricted
    likelihood; so the covariance includes the scatter of the lines. A line in twenty is another's.
    Priors, as observations: strain 1 %, and zero_sigma (1/angstrom) of zero and tilt.
    """
    lines = _Lines.of(phases, hidden)
    precision = np.full(lines.starts[-1], PRIOR_STRAIN**-2)
    precision[:SHARED] = zero_sigma**-2
    solution, covariance = np.zeros(len(precision)), np.diag(1 / precision)
    for _ in range(ROUNDS if len(lines.q) else 0):
        design, residual, error = lines.linearised(solution)
        observed = residual + design @ solution
        solution, covariance = _averaged(design, observed, lines.q, error, precision)
    lattices = tuple(
        _lattice(phase, matrix, solution[a:b], covariance[a:b, a:b])
        for phase, matrix, a, b in zip(
            phases, lines.free, lines.starts[:-1], lines.starts[1:], strict=True
        )
    )
    return LatticeFit(lattices, float(solution[0]), float(np.sqrt(covariance[0, 0])))


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of all phases, those with peaks of their own and those hidden under these.

    free: of each phase; starts: of its parameters, which follow zero and tilt
    which: of each phase, the indices of its lines; hkl, q_cif: of all lines
    q, error, tilt: (n,) of the peaks; share: (n, lines) of a peak's intensity
    """

    phases: Sequence[LineSet]
    free: list[Float64]
    starts: Int64
    which: list[Int64]
    hkl: Int64
    q_cif: Float64
    q: Float64
    error: Float64
    tilt: Float64
    share: Float64

    @classmethod
    def of(cls, phases: Sequence[LineSet], hidden: HiddenLines) -> _Lines:
        free = [free_parameters(p.cell, p.system) for p in phases]
        ends = np.cumsum([SHARED, *(matrix.shape[1] for matrix in free)])
        owner = np.repeat(np.arange(len(phases)), [len(p.q) for p in phases])
        n = len(owner)
        owner = np.concatenate([owner, hidden.phase])
        strength = np.zeros((n, len(owner)))
        strength[np.arange(n), np.arange(n)] = 1
        strength[hidden.shown, n + np.arange(len(hidden.shown))] = hidden.strength
        empty = np.zeros(0)
        return cls(
            phases=phases,
            free=free,
            starts=ends.astype(np.int64),
            which=[np.flatnonzero(owner == i) for i in range(len(phases))],
            hkl=np.concatenate([*(p.hkl for p in phases), hidden.hkl]),
            q_cif=np.concatenate([*(p.q_cif for p in phases), hidden.q_cif]),
            q=np.concatenate([empty, *(p.q for p in phases)]),
            error=np.concatenate([empty, *(p.error for p in phases)]),
            tilt=np.concatenate([empty, *(_tilt(p) for p in phases)]),
            share=strength / strength.sum(axis=1, keepdims=True),
        )

    def linearised(self, solution: Float64) -> tuple[Float64, Float64, Float64]:
        """Return the derivatives, the residuals at `solution` and the errors of the peaks' q."""
        lines, slope = np.zeros(len(self.q_cif)), np.zeros((len(self.q_cif), len(solution)))
        for phase, matrix, start, own in zip(
            self.phases, self.free, self.starts[:-1], self.which, strict=True
        ):
            hkl, values = self.hkl[own], solution[start : start + matrix.shape[1]]
            scale = self.q_cif[own] / _length(phase.cell, hkl)
            lines[own] = scale * _length(_changed(phase.cell, matrix @ values), hkl)
            for column in range(matrix.shape[1]):
                moved = values.copy()
                moved[column] += _STEP
                there = scale * _length(_changed(phase.cell, matrix @ moved), hkl)
                slope[own, start + column] = (there - lines[own]) / _STEP
        mean = self.share @ lines
        moved = BLENDED_SPREAD * self.share * (lines - mean[:, None])
        error = np.sqrt(self.error**2 + (moved**2).sum(axis=1))
        design = self.share @ slope
        design[:, 0], design[:, 1] = 1, self.tilt
        return design, self.q - mean - design[:, :SHARED] @ solution[:SHARED], error


def _tilt(phase: LineSet) -> Float64:
    return np.zeros(len(phase.q)) if phase.tilt is None else phase.tilt


def _averaged(
    design: Float64, observed: Float64, q: Float64, error: Float64, precision: Float64
) -> tuple[Float64, Float64]:
    """Return mean and covariance over the position errors.

    The lines of others are sought with much tolerance first, so that they do not lead astray where
    little scatter is allowed.
    """
    relative, constant = (x.reshape(-1, 1) for x in np.meshgrid(RELATIVE_ERRORS, CONSTANT_ERRORS))
    variance = error**2 + (relative * q) ** 2 + constant**2  # (position errors, lines)
    sure = np.ones_like(variance)
    for tolerance in TOLERANCES:
        weight = sure / variance
        normal = (design.T * weight[:, None]) @ design + np.diag(precision)
        covariances = np.linalg.inv(normal)
        means = (covariances @ ((weight * observed) @ design)[:, :, None])[:, :, 0]
        square = (observed - means @ design.T) ** 2
        own = (1 - STRAYS) * _normal(square, variance + tolerance**2)
        either = own + STRAYS * _normal(square, variance + STRAY_WIDTH**2)
        sure = own / either
    logs = np.log(either).sum(axis=1) - 0.5 * (np.linalg.slogdet(normal)[1] + means**2 @ precision)
    share = np.exp(logs - logs.max())
    share /= share.sum()
    mean = share @ means
    off = means - mean
    within = np.einsum("i,ijk->jk", share, covariances)
    return mean, within + (off * share[:, None]).T @ off


def _normal(square: Float64, variance: Float64) -> Float64:
    return np.asarray(np.exp(-0.5 * square / variance) / np.sqrt(variance))


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
