"""Powder lines of a crystal structure: |q|, hkl, multiplicity, intensity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

__all__ = ["Lines", "powder_lines"]

SAME_Q = 1e-6  # relative; families nearer than this are one line
WEAKEST = 1e-4  # of the strongest line; weaker ones are left out

Hkl = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Lines:
    """Powder lines up to some q_max, sorted by q.

    q: (n,) float64, 1/angstrom
    hkl: (n, 3) int64, the strongest family of the line, its positive-most member
    intensity: (n,) float64, m |F|² / q² summed over the families, the strongest line is 1
    multiplicity: (n,) int64, planes in all families of the line, Friedel mates included
    families: every family of the line, strongest first (cubic 300 and 221 share a line)
    """

    q: NDArray[np.float64]
    hkl: NDArray[np.int64]
    intensity: NDArray[np.float64]
    multiplicity: NDArray[np.int64]
    families: tuple[tuple[Hkl, ...], ...]

    def __len__(self) -> int:
        return len(self.q)

    def chosen(self, indices: NDArray[np.integer[Any]]) -> Lines:
        """Return some of the lines, in the order of `indices` (m,)."""
        return Lines(
            self.q[indices],
            self.hkl[indices],
            self.intensity[indices],
            self.multiplicity[indices],
            tuple(self.families[i] for i in indices),
        )

    def strongest(self, most: int) -> Lines:
        """Return at most `most` lines, the strongest ones, sorted by q."""
        return self.chosen(np.sort(np.argsort(-self.intensity)[:most]))


def powder_lines(structure: gemmi.SmallStructure, q_max: float) -> Lines:
    """Return the powder lines of a structure whose occupancies are crystallographic.

    The intensity is what a ring of a random powder holds per unit of q and of polar angle once
    polarisation and solid angle are corrected: m |F|² / q². Form factors are those of the
    International Tables C (1992), without anomalous scattering.
    """
    group = structure.spacegroup or gemmi.SpaceGroup("P 1")
    operations = group.operations()
    calculator = gemmi.StructureFactorCalculatorX(structure.cell)
    families = gemmi.make_miller_array(structure.cell, group, 2 * np.pi / q_max)
    q = 2 * np.pi * np.sqrt(structure.cell.calculate_1_d2_array(families))
    multiplicity = np.array([_multiplicity(operations, hkl) for hkl in families], np.int64)
    amplitude = np.array(
        [calculator.calculate_sf_from_small_structure(structure, list(hkl)) for hkl in families]
    )
    strength = multiplicity * np.abs(amplitude) ** 2 / q**2
    seen = strength > WEAKEST * strength.max(initial=0)
    return _merged(q[seen], families[seen], strength[seen], multiplicity[seen], operations)


def _merged(
    q: NDArray[np.float64],
    families: NDArray[np.int32],
    strength: NDArray[np.float64],
    multiplicity: NDArray[np.int64],
    operations: gemmi.GroupOps,
) -> Lines:
    order = np.argsort(q, kind="stable")
    starts = np.flatnonzero(np.diff(q[order], prepend=0) > SAME_Q * q[order])
    members = [m[np.argsort(-strength[m])] for m in np.split(order, starts[1:]) if len(m)]
    named = tuple(tuple(_representative(operations, families[i]) for i in m) for m in members)
    intensity = np.array([strength[m].sum() for m in members])
    return Lines(
        q=np.array([q[m[0]] for m in members]),
        hkl=np.array([f[0] for f in named], np.int64).reshape(-1, 3),
        intensity=intensity / intensity.max(initial=np.finfo(float).tiny),
        multiplicity=np.array([multiplicity[m].sum() for m in members], np.int64),
        families=named,
    )


def _multiplicity(operations: gemmi.GroupOps, hkl: NDArray[np.int32]) -> int:
    equivalents = len(operations.sym_ops) // operations.epsilon_factor_without_centering(list(hkl))
    return equivalents if operations.is_reflection_centric(list(hkl)) else 2 * equivalents


def _representative(operations: gemmi.GroupOps, hkl: NDArray[np.int32]) -> Hkl:
    half = np.array([op.apply_to_hkl(list(hkl)) for op in operations.sym_ops])
    images = np.vstack([half, -half]).tolist()
    best = max(images, key=lambda image: (sum(index >= 0 for index in image), image))
    return best[0], best[1], best[2]
