"""Regular grids in reciprocal space that a frame is averaged onto."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["CartesianGrid", "Grid", "PolarGrid", "QGrid", "Side", "Space"]

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Side = Literal["fold", "right", "left"]
Space = Literal["polar", "cartesian"]

_SIGNS = {"fold": (1, -1), "right": (1,), "left": (-1,)}


class Grid(Protocol):
    """The interface of a grid to the remap."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""

    @property
    def mirror(self) -> bool:
        """True if q_z < 0 counts as q_z > 0."""

    def cells(self, q_xy: Float64, q_z: Float64) -> tuple[Float64, Float64]:
        """Return (row, column) of points, cell centres at integers; NaN off the chosen side."""

    def centers(self) -> list[tuple[Float64, Float64]]:
        """Return (q_xy, q_z) of the cell centres, each (rows, columns), once per side."""


@dataclass(frozen=True, slots=True)
class PolarGrid:
    """phi from 0 to 90 deg in rows, |q| from 0 to q_max in columns, ends included.

    side: fold = both signs of q_xy in one cell, right = q_xy > 0, left = q_xy < 0
    mirror: q_z < 0 counts as q_z > 0
    """

    q_max: float
    shape: tuple[int, int]
    side: Side = "fold"
    mirror: bool = False

    @property
    def q(self) -> Float64:
        """(columns,) |q| of the cell centres, 1/angstrom."""
        return np.linspace(0, self.q_max, self.shape[1])

    @property
    def phi(self) -> Float64:
        """(rows,) polar angle of the cell centres, deg."""
        return np.linspace(0, 90, self.shape[0])

    def cells(self, q_xy: Float64, q_z: Float64) -> tuple[Float64, Float64]:
        """Return (row, column) of points, cell centres at integers; NaN off the chosen side."""
        q_z = np.abs(q_z) if self.mirror else q_z
        rows = np.arctan2(q_z, np.abs(q_xy)) * ((self.shape[0] - 1) / (math.pi / 2))
        columns = np.hypot(q_xy, q_z) * ((self.shape[1] - 1) / self.q_max)
        columns[_off_side(q_xy, self.side)] = np.nan
        return rows, columns

    def centers(self) -> list[tuple[Float64, Float64]]:
        """Return (q_xy, q_z) of the cell centres, each (rows, columns), once per side."""
        phi = np.radians(self.phi)[:, None]
        q_xy, q_z = self.q * np.cos(phi), self.q * np.sin(phi)
        return _on_all_sides(q_xy, q_z, self.side, mirror=self.mirror)


@dataclass(frozen=True, slots=True)
class CartesianGrid:
    """q_z in rows, |q_xy| in columns, both from 0 to q_max, ends included; |q| up to q_max.

    side, mirror: as for PolarGrid
    """

    q_max: float
    shape: tuple[int, int]
    side: Side = "fold"
    mirror: bool = False

    @property
    def q(self) -> Float64:
        """(columns,) |q_xy| of the cell centres, 1/angstrom."""
        return np.linspace(0, self.q_max, self.shape[1])

    @property
    def q_z(self) -> Float64:
        """(rows,) q_z of the cell centres, 1/angstrom."""
        return np.linspace(0, self.q_max, self.shape[0])

    def cells(self, q_xy: Float64, q_z: Float64) -> tuple[Float64, Float64]:
        """Return (row, column) of points, cell centres at integers; NaN beyond and off the side."""
        rows = (np.abs(q_z) if self.mirror else q_z) * ((self.shape[0] - 1) / self.q_max)
        columns = np.abs(q_xy) * ((self.shape[1] - 1) / self.q_max)
        columns[_off_side(q_xy, self.side) | (np.hypot(q_xy, q_z) > self.q_max)] = np.nan
        return rows, columns

    def centers(self) -> list[tuple[Float64, Float64]]:
        """Return (q_xy, q_z) of the cell centres, each (rows, columns), once per side."""
        q_z, q_xy = np.meshgrid(self.q_z, self.q, indexing="ij")
        q_xy[np.hypot(q_xy, q_z) > self.q_max] = np.nan
        return _on_all_sides(q_xy, q_z, self.side, mirror=self.mirror)


@dataclass(frozen=True, slots=True)
class QGrid:
    """q_z in rows, signed q_xy in columns, ends included.

    q_xy_range, q_z_range: first and last cell centre, 1/angstrom
    """

    q_xy_range: tuple[float, float]
    q_z_range: tuple[float, float]
    shape: tuple[int, int]
    mirror: bool = False

    @property
    def q_xy(self) -> Float64:
        """(columns,) q_xy of the cell centres, 1/angstrom."""
        return np.linspace(*self.q_xy_range, self.shape[1])

    @property
    def q_z(self) -> Float64:
        """(rows,) q_z of the cell centres, 1/angstrom."""
        return np.linspace(*self.q_z_range, self.shape[0])

    def cells(self, q_xy: Float64, q_z: Float64) -> tuple[Float64, Float64]:
        """Return (row, column) of points, cell centres at integers."""
        (left, right), (low, high) = self.q_xy_range, self.q_z_range
        return (
            (q_z - low) * ((self.shape[0] - 1) / (high - low)),
            (q_xy - left) * ((self.shape[1] - 1) / (right - left)),
        )

    def centers(self) -> list[tuple[Float64, Float64]]:
        """Return (q_xy, q_z) of the cell centres, each (rows, columns)."""
        q_z, q_xy = np.meshgrid(self.q_z, self.q_xy, indexing="ij")
        return [(q_xy, q_z)]


def _off_side(q_xy: Float64, side: Side) -> Bool:
    if side == "fold":
        return np.zeros(q_xy.shape, bool)
    return np.signbit(q_xy) == (side == "right")


def _on_all_sides(
    q_xy: Float64, q_z: Float64, side: Side, *, mirror: bool
) -> list[tuple[Float64, Float64]]:
    upwards = (1, -1) if mirror else (1,)
    return [(sign * q_xy, up * q_z) for up in upwards for sign in _SIGNS[side]]
