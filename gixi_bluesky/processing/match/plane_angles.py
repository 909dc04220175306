"""Angles of the lines of a structure to the planes that may lie on the substrate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.match.contact_planes import ANGLES, contact_planes, index_box
from gixi_bluesky.processing.match.tilts import tilt_table
from gixi_bluesky.processing.match.views import View
from gixi_bluesky.processing.structures.directions import Cell, Hkl, reciprocal_basis

__all__ = ["PlaneAngles"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_SAME_LENGTH = 1e-4  # relative


@dataclass(frozen=True, slots=True)
class PlaneAngles:
    """Whole angles between the families of (l) lines and (p) planes; a family has one |q|.

    planes: (p, 3); prior: (p,) sums to 1; rows: hkl to l
    angle: (l, p, d) uint8, deg, the distinct ones; share: (l, p, d) of the family, 0 = unused
    """

    planes: Int64
    prior: Float64
    rows: dict[Hkl, int]
    angle: NDArray[np.uint8]
    share: Float32

    @classmethod
    def of(cls, cell: Cell, lines: Sequence[Hkl]) -> PlaneAngles:
        """Return the angles of lines of one cell."""
        planes, basis = contact_planes(cell), reciprocal_basis(cell)
        normals = planes @ basis
        normals = normals / np.linalg.norm(normals, axis=1)[:, None]
        vectors, lengths = _half_lattice(cell, np.asarray(lines))
        counts = np.zeros((len(lines), len(planes), len(ANGLES)), np.float32)
        for row, hkl in enumerate(lines):
            length = float(np.linalg.norm(np.asarray(hkl) @ basis))
            first, last = np.searchsorted(lengths, length * (1 + _SAME_LENGTH * np.array([-1, 1])))
            cosine = abs(normals @ vectors[first:last].T) / length
            angles = np.rint(np.degrees(np.arccos(np.clip(cosine, 0, 1)))).astype(np.int64)
            plane = np.broadcast_to(np.arange(len(planes))[:, None], angles.shape)
            np.add.at(counts[row], (plane, angles), np.float32(1))
        counts /= np.maximum(counts.sum(axis=2, keepdims=True), 1)
        most = max(int((counts > 0).sum(axis=2).max(initial=1)), 1)
        angle = np.argsort(-counts, axis=2, kind="stable")[:, :, :most]
        prior = 1.0 / abs(planes).sum(axis=1) ** 2
        return cls(
            planes=planes,
            prior=prior / prior.sum(),
            rows={hkl: row for row, hkl in enumerate(lines)},
            angle=angle.astype(np.uint8),
            share=np.take_along_axis(counts, angle, axis=2),
        )

    def at(self, row: Int64, phi: Int64) -> Float32:
        """Return the density of lines (j,) at phi (j,), whole deg: (j, planes, mosaics)."""
        return _weighted(tilt_table(), phi, self.angle[row], self.share[row])

    def brought(self, row: Int64, view: View, column: Int64) -> Float32:
        """Return the intensity in view of lines (j,) at columns of it: (j, planes, mosaics)."""
        return _weighted(view.brought, column, self.angle[row], self.share[row])

    def along_phi(self, row: Int64, plane: int, mosaic: int) -> Float32:
        """Return the density of lines (j,) under one plane and mosaic, (j, 91)."""
        density = tilt_table()[:, self.angle[row, plane], mosaic] * self.share[row, plane]
        return np.asarray(density.sum(axis=2).T)


def _weighted(table: Float32, first: Int64, angle: NDArray[np.uint8], share: Float32) -> Float32:
    """Return the sums over d of table (t, angles, m) at `first` (j,) and angle: (j, p, m).

    angle, share: (j, p, d)
    """
    place = angle + (first * table.shape[1])[:, None, None]
    values = table.reshape(-1, table.shape[2]).take(place, axis=0)
    return np.asarray((share[:, :, None] @ values)[:, :, 0], np.float32)


def _half_lattice(cell: Cell, lines: Int64) -> tuple[Float64, Float64]:
    """Return one of each pair of opposite vectors up to the longest line, by rising length."""
    basis = reciprocal_basis(cell)
    longest = float(np.linalg.norm(lines @ basis, axis=1).max()) * (1 + _SAME_LENGTH)
    reach = np.floor(longest / (2 * np.pi) * np.asarray(cell[:3])).astype(int)
    indices = index_box(reach)
    h, k, el = indices.T
    half = (h > 0) | ((h == 0) & ((k > 0) | ((k == 0) & (el > 0))))
    vectors = indices[half] @ basis
    lengths = np.linalg.norm(vectors, axis=1)
    order = np.argsort(lengths, kind="stable")
    return vectors[order], lengths[order]
