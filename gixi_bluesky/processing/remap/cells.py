"""The cell of a reciprocal grid that holds each detector pixel, and its place on the detector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.geometry.grids import Grid
from gixi_bluesky.processing.geometry.instrument import Geometry

__all__ = ["CellWeights", "NarrowCells", "cells_of_pixels"]

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

_ROWS_AT_ONCE = 16  # so that they stay in the cache
# Cells narrower than this, pixels, mostly hold no pixel's centre on either side of the beam.
_HOLDS_A_PIXEL = 0.7
# In cells narrower than this, pixels, the mean of a 2 x 2 block would blur more than the cell does.
_HOLDS_A_BLOCK = 1.4
_MOST_POINTS = 16
_SMALLEST_AREA = 1e-4


@dataclass(frozen=True, slots=True)
class CellWeights:
    """Weights of single pixels in cells: (n,) flat cell, flat pixel and weight of each pair."""

    cells: Int32
    pixels: Int32
    weights: Float32


def cells_of_pixels(
    geometry: Geometry, grid: Grid, shape: tuple[int, int], lowest_q_z: float
) -> tuple[Int32, NDArray[np.int8]]:
    """Return each pixel's flat cell (rows, columns), -1 for none, and the part it is folded from.

    part: 0 for q_xy > 0, 1 for the other side; 2 more for q_z < 0 of a grid with a mirror
    """
    cell = np.full(shape, -1, np.int32)
    part_of = np.empty(shape, np.int8)
    columns = np.arange(shape[1], dtype=float)[None, :]
    for start in range(0, shape[0], _ROWS_AT_ONCE):
        part = slice(start, min(start + _ROWS_AT_ONCE, shape[0]))
        q_xy, q_z = geometry.q_at(np.arange(part.start, part.stop, dtype=float)[:, None], columns)
        row, column = grid.cells(q_xy, q_z)
        inside = _within(row, column, grid.shape) & (q_z >= lowest_q_z)
        flat = np.rint(row[inside]) * grid.shape[1] + np.rint(column[inside])
        cell[part][inside] = flat.astype(np.int32)
        part_of[part] = q_xy <= 0
        if grid.mirror:
            part_of[part] += np.int8(2) * (q_z < 0)
    return cell, part_of


@dataclass(frozen=True, slots=True)
class _Side:
    """The cells of one sign of q_xy on the detector.

    rows, columns: (grid rows, grid columns) of the centres, pixels
    steps: change of (row, column) to the next cell, along the grid's rows and columns
    area: detector pixels per cell; on: whether the centre is on the detector
    """

    rows: Float64
    columns: Float64
    steps: tuple[tuple[Float64, Float64], tuple[Float64, Float64]]
    size: tuple[Float64, Float64]
    area: Float64
    on: Bool

    @classmethod
    def of(cls, rows: Float64, columns: Float64, shape: tuple[int, int]) -> _Side:
        down, across = ((_slope(rows, axis), _slope(columns, axis)) for axis in (0, 1))
        size = (np.hypot(*down), np.hypot(*across))
        area = np.maximum(np.nan_to_num(size[0] * size[1]), _SMALLEST_AREA)
        return cls(rows, columns, (down, across), size, area, _within(rows, columns, shape))

    def points(self, cells: Bool) -> Iterator[tuple[Int64, Float64, Float64, Float64]]:
        """Yield (flat cell, row, column, weight) of points about a pixel apart in `cells`."""
        here = np.flatnonzero(cells & self.on)
        pick = [np.nan_to_num(a.ravel()[here]) for pair in self.steps for a in pair]
        row, column, area = (a.ravel()[here] for a in (self.rows, self.columns, self.area))
        counts = [
            np.clip(np.nan_to_num(size.ravel()[here]), 1, _MOST_POINTS).astype(int)
            for size in self.size
        ]
        code = counts[0] * (_MOST_POINTS + 1) + counts[1]
        for present in np.flatnonzero(np.bincount(code)):
            m, n = divmod(int(present), _MOST_POINTS + 1)
            of = np.flatnonzero(code == present)
            for i, j in np.ndindex(m, n):
                down, across = (i + 0.5) / m - 0.5, (j + 0.5) / n - 0.5
                yield (
                    here[of],
                    row[of] + down * pick[0][of] + across * pick[2][of],
                    column[of] + down * pick[1][of] + across * pick[3][of],
                    area[of] / (m * n),
                )


@dataclass(frozen=True, slots=True)
class NarrowCells:
    """The cells too narrow to hold pixel centres, or that happen to hold none; they are sampled.

    narrow: (grid rows, grid columns) which they are
    broad: the same shape, which cells are wide enough for the means of 2 x 2 blocks
    reachable: the same shape, whether the centre is on the detector and above the lowest q_z
    area: the same shape, detector pixels per cell on the side where it is larger
    """

    narrow: Bool
    broad: Bool
    reachable: Bool
    area: Float64
    sides: tuple[_Side, ...]

    @classmethod
    def of(
        cls,
        centers: Sequence[tuple[Float64, Float64]],
        above: Bool,
        shape: tuple[int, int],
        held: Int64,
    ) -> NarrowCells:
        """Find them for frames of `shape` (rows, columns).

        centers: (row, column) of the cells' centres on the detector, once per side
        above: (grid rows, grid columns) which cells lie above the lowest q_z
        held: the same shape, pixel centres in each cell
        """
        sides = tuple(_Side.of(rows, columns, shape) for rows, columns in centers)
        seen = np.any([side.on for side in sides], axis=0)
        # The smaller extent on the side where it is smaller; NaN where no side has it.
        extent = np.fmin.reduce(
            [np.where(side.on, np.minimum(*side.size), np.nan) for side in sides]
        )
        return cls(
            narrow=seen & (~(extent >= _HOLDS_A_PIXEL) | (held == 0)),
            broad=~(extent < _HOLDS_A_BLOCK),
            reachable=seen & above,
            area=np.max([np.where(side.on, side.area, 0) for side in sides], axis=0),
            sides=sides,
        )

    def weights(self, usable: Bool) -> CellWeights:
        """Return the bilinear weights of the `usable` pixels (rows, columns) in these cells."""
        n_rows, n_columns = usable.shape
        found: list[tuple[Int64, Int64, Float64]] = []
        for side in self.sides:
            for cells, rows, columns, weight in side.points(self.narrow):
                row, column = np.floor(rows).astype(int), np.floor(columns).astype(int)
                for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                    r, c = row + i, column + j
                    part = (1 - np.abs(rows - r)) * (1 - np.abs(columns - c)) * weight
                    use = (r >= 0) & (r < n_rows) & (c >= 0) & (c < n_columns) & (part > 0)
                    use[use] = usable[r[use], c[use]]
                    found.append((cells[use], (r * n_columns + c)[use], part[use]))
        if not found:
            return CellWeights(
                np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32)
            )
        cells, pixels, weights = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return CellWeights(
            cells.astype(np.int32), pixels.astype(np.int32), weights.astype(np.float32)
        )


def _within(rows: Float64, columns: Float64, shape: tuple[int, int]) -> Bool:
    """Return whether points lie on an array of `shape`, to its edges half a step beyond centres."""
    return (np.abs(rows - (shape[0] - 1) / 2) < shape[0] / 2) & (
        np.abs(columns - (shape[1] - 1) / 2) < shape[1] / 2
    )


def _slope(values: Float64, axis: int) -> Float64:
    """Change from one cell to the next along an axis; NaN only where both neighbours are NaN."""
    step = np.diff(values, axis=axis)
    edge = np.full_like(values.take([0], axis), np.nan)
    before, after = np.concatenate([edge, step], axis), np.concatenate([step, edge], axis)
    mean = (before + after) / 2
    return np.where(np.isnan(mean), np.fmin(before, after), mean)
