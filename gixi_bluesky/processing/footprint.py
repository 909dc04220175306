"""Which detector pixels a cell of a reciprocal grid averages, as sparse matrices.

A cell wider than sqrt(2) pixels both ways holds the centre of at least one pixel: it averages the
pixels whose centres lie in it, so that every pixel counts once and none is interpolated. Where
all pixels of a 2 x 2 block do so, the block's mean stands for them: a quarter of the reads, for a
blur of half a pixel. Narrower cells are sampled: bilinear at points about a pixel apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gixi_bluesky.processing.geometry import Geometry
from gixi_bluesky.processing.grids import Grid
from gixi_bluesky.processing.orientation import Orientation

__all__ = ["Footprint"]

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]

# Matrix rows are laid in square tiles of cells, so that neighbours read from the same cache lines.
_TILE = 16
_ROWS_AT_ONCE = 128
_MOST_POINTS = 16
_MINIMUM_COVERAGE = 0.5
_HOLDS_A_PIXEL = np.sqrt(2)
_SMALLEST_AREA = 1e-4


@dataclass(frozen=True, slots=True)
class Footprint:
    """The weights of detector pixels in the cells of a grid.

    shape: (rows, columns) of the grid
    detector_shape: (rows, columns) of the frame, turned so that q_z grows with the row
    pixels, blocks: weights of single pixels and of 2 x 2 blocks' means, matrix rows in tiles
    full_weight: (rows, columns) weight that makes a cell whole: masked pixels count, the wedge,
        the horizon and the detector's edge do not
    reachable: (rows, columns) whether the cell's centre is on the detector and above the horizon
    squares: (rows, columns) sum of squared weights of single pixels
    layout: how the frame's memory order becomes (rows, columns) of the turned frame
    """

    shape: tuple[int, int]
    detector_shape: tuple[int, int]
    pixels: sparse.csr_array
    blocks: sparse.csr_array
    full_weight: Float32
    reachable: Bool
    squares: Float32
    layout: Orientation = Orientation()

    @classmethod
    def build(
        cls, geometry: Geometry, grid: Grid, valid: Bool, *, horizon: bool = True
    ) -> Footprint:
        """Weigh the `valid` pixels (rows, columns); with `horizon`, none from below it."""
        lowest = geometry.horizon_q_z if horizon else -np.inf
        cell, right = _cells_of_pixels(geometry, grid, valid.shape, lowest)
        sampled = _SampledCells.of(geometry, grid, valid.shape, lowest)
        binned = cell >= 0
        binned[binned] = ~sampled.narrow.ravel()[cell[binned]]
        counts = [
            np.bincount(cell[binned & side], minlength=sampled.narrow.size).reshape(grid.shape)
            for side in (right, ~right)
        ]
        full_weight = np.where(sampled.narrow, sampled.full_weight, np.maximum(*counts))
        binned &= valid
        whole = _in_whole_blocks(binned)
        n_cells = _tiled_size(grid.shape)
        tile = _tile_order(grid.shape)
        flat = np.flatnonzero(binned & ~whole).astype(np.int32)
        samples = sampled.weights(valid)
        pixels = _matrix(
            np.concatenate([tile[cell.ravel()[flat]], tile[samples[0]]]),
            np.concatenate([flat, samples[1]]),
            np.concatenate([np.ones(len(flat), np.float32), samples[2]]),
            (n_cells, valid.size),
        )
        flat = np.flatnonzero(whole).astype(np.int32)
        rows, columns = np.divmod(flat, valid.shape[1])
        halved = (valid.shape[0] // 2, valid.shape[1] // 2)
        blocks = _matrix(
            tile[cell.ravel()[flat]],
            (rows // 2) * np.int32(halved[1]) + columns // 2,
            np.ones(len(flat), np.float32),
            (n_cells, halved[0] * halved[1]),
        )
        squares = _row_sums(pixels, pixels.data**2) + _row_sums(blocks, blocks.data**2 / 4)
        return cls(
            shape=grid.shape,
            detector_shape=valid.shape,
            pixels=pixels,
            blocks=blocks,
            full_weight=full_weight.astype(np.float32),
            reachable=sampled.reachable,
            squares=_untile(squares.astype(np.float32), grid.shape),
        )

    def laid(self, layout: Orientation) -> Footprint:
        """Return the same weights for frames that lie in memory as `layout`."""
        if layout == self.layout:
            return self
        halved = (self.detector_shape[0] // 2, self.detector_shape[1] // 2)
        return replace(
            self,
            pixels=_relabelled(self.pixels, self.detector_shape, self.layout, layout),
            blocks=_relabelled(self.blocks, halved, self.layout, layout),
            layout=layout,
        )

    def sums(self, frame: Float32) -> Float32:
        """Weighted sum of the pixels of each cell, (rows, columns) of the grid.

        frame: contiguous, in memory order: `layout` turns it into rows and columns
        """
        rows, columns = self.detector_shape
        even = self.layout.apply(frame)[: rows // 2 * 2, : columns // 2 * 2]
        even = self.layout.inverse.apply(even)
        sums = self.pixels @ frame.ravel()
        if self.blocks.nnz:
            half = (even.shape[1] // 2, even.shape[0] // 2)
            sums += self.blocks @ cv2.resize(even, half, interpolation=cv2.INTER_AREA).ravel()
        return _untile(sums, self.shape)

    def weight(self, valid: Bool | None = None) -> Float32:
        """Weight of each cell, 0 where it is no data; `valid` (in memory order) as in `sums`.

        A cell is data if its centre can be reached and at least half of one side's footprint
        is valid: the mean then lies within half a cell of the centre.
        """
        if valid is None:
            weight = _untile(
                (_row_sums(self.pixels) + _row_sums(self.blocks)).astype(np.float32), self.shape
            )
        else:
            weight = self.sums(valid.astype(np.float32))
        enough = weight >= np.maximum(_MINIMUM_COVERAGE * self.full_weight, 1e-6)
        return np.where(enough & self.reachable, weight, np.float32(0))


@dataclass(frozen=True, slots=True)
class _SampledCells:
    """The cells too narrow to hold a pixel's centre, and where their sides lie on the detector.

    narrow, reachable: (rows, columns)
    full_weight: (rows, columns) area of the larger side, detector pixels
    sides: per side the flat cells, their (points) rows, columns and weight per point
    """

    shape: tuple[int, int]
    narrow: Bool
    reachable: Bool
    full_weight: Float64
    sides: list[tuple[Int32, Float64, Float64, Float64]]

    @classmethod
    def of(
        cls, geometry: Geometry, grid: Grid, shape: tuple[int, int], lowest: float
    ) -> _SampledCells:
        placed = []
        narrow = np.zeros(grid.shape, bool)
        reachable = np.zeros(grid.shape, bool)
        for q_xy, q_z in grid.centers():
            rows, columns = geometry.pixel_at(q_xy, q_z)
            on = (np.abs(rows - (shape[0] - 1) / 2) <= shape[0] / 2) & (
                np.abs(columns - (shape[1] - 1) / 2) <= shape[1] / 2
            )
            reachable |= on & (q_z >= lowest)
            steps = [(_slope(rows, axis), _slope(columns, axis)) for axis in (0, 1)]
            height, width = (np.hypot(*step) for step in steps)
            narrow |= on & ~((height >= _HOLDS_A_PIXEL) & (width >= _HOLDS_A_PIXEL))
            placed.append((rows, columns, on, steps, height, width))
        sides, full_weight = [], np.zeros(grid.shape)
        for rows, columns, on, steps, height, width in placed:
            area = np.maximum(np.nan_to_num(height * width), _SMALLEST_AREA)
            full_weight = np.maximum(full_weight, np.where(on, area, 0))
            here = np.flatnonzero(narrow & on)
            points = [
                np.clip(np.nan_to_num(s.ravel()[here]), 1, _MOST_POINTS).astype(np.int32)
                for s in (height, width)
            ]
            for m, n in sorted(set(zip(*(p.tolist() for p in points), strict=True))):
                cells = here[(points[0] == m) & (points[1] == n)]
                for i, j in np.ndindex(m, n):
                    down, across = (i + 0.5) / m - 0.5, (j + 0.5) / n - 0.5
                    r, c = (
                        centre.ravel()[cells]
                        + down * np.nan_to_num(steps[0][k].ravel()[cells])
                        + across * np.nan_to_num(steps[1][k].ravel()[cells])
                        for k, centre in enumerate((rows, columns))
                    )
                    sides.append((cells, r, c, area.ravel()[cells] / (m * n)))
        return cls(shape, narrow, reachable, full_weight, sides)

    def weights(self, valid: Bool) -> tuple[Int32, Int32, Float32]:
        """Return (cells, flat pixels, weights) of the bilinear samples on valid pixels."""
        found: tuple[list[Int32], list[Int32], list[Float32]] = ([], [], [])
        for cells, rows, columns, weight in self.sides:
            row, column = np.floor(rows), np.floor(columns)
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                part = np.abs(1 - i - (rows - row)) * np.abs(1 - j - (columns - column))
                r, c = (row + i).astype(np.int32), (column + j).astype(np.int32)
                inside = (r >= 0) & (r < self.shape[0]) & (c >= 0) & (c < self.shape[1])
                inside[inside] = valid[r[inside], c[inside]]
                inside &= part > 0
                found[0].append(cells[inside])
                found[1].append((r * np.int32(self.shape[1]) + c)[inside])
                found[2].append((part * weight)[inside].astype(np.float32))
        if not found[0]:
            return np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32)
        return np.concatenate(found[0]), np.concatenate(found[1]), np.concatenate(found[2])


def _cells_of_pixels(
    geometry: Geometry, grid: Grid, shape: tuple[int, int], lowest: float
) -> tuple[Int32, Bool]:
    """Return the flat cell of each pixel's centre, -1 for none, and whether q_xy > 0."""
    cell = np.full(shape, -1, np.int32)
    right = np.empty(shape, bool)
    columns = np.arange(shape[1], dtype=float)[None, :]
    for start in range(0, shape[0], _ROWS_AT_ONCE):
        part = slice(start, min(start + _ROWS_AT_ONCE, shape[0]))
        q_xy, q_z = geometry.q_at(np.arange(part.start, part.stop, dtype=float)[:, None], columns)
        row, column = grid.cells(q_xy, q_z)
        inside = (np.abs(row - (grid.shape[0] - 1) / 2) < grid.shape[0] / 2) & (
            np.abs(column - (grid.shape[1] - 1) / 2) < grid.shape[1] / 2
        )
        inside &= q_z >= lowest
        flat = np.rint(row[inside]).astype(np.int32) * np.int32(grid.shape[1])
        cell[part][inside] = flat + np.rint(column[inside]).astype(np.int32)
        right[part] = q_xy > 0
    return cell, right


def _slope(values: Float64, axis: int) -> Float64:
    """Change from one cell to the next along an axis; NaN only where both neighbours are NaN."""
    step = np.diff(values, axis=axis)
    edge = np.full_like(values.take([0], axis), np.nan)
    before, after = np.concatenate([edge, step], axis), np.concatenate([step, edge], axis)
    mean = (before + after) / 2
    return np.where(np.isnan(mean), np.fmin(before, after), mean)


def _in_whole_blocks(pixels: Bool) -> Bool:
    """Return which pixels lie in a 2 x 2 block, counted from pixel (0, 0), of True only."""
    rows, columns = (n // 2 for n in pixels.shape)
    blocks = pixels[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2).all(axis=(1, 3))
    whole = np.zeros_like(pixels)
    whole[: 2 * rows, : 2 * columns] = blocks.repeat(2, axis=0).repeat(2, axis=1)
    return whole


def _matrix(
    rows: Int32, columns: Int32, weights: Float32, shape: tuple[int, int]
) -> sparse.csr_array:
    matrix = sparse.coo_array((weights, (rows, columns)), shape=shape).tocsr()
    matrix.sum_duplicates()
    return matrix


def _row_sums(matrix: sparse.csr_array, data: Float32 | None = None) -> Float64:
    data = matrix.data if data is None else data
    total = np.concatenate([[0.0], np.cumsum(data, dtype=np.float64)])
    return total[matrix.indptr[1:]] - total[matrix.indptr[:-1]]


def _relabelled(
    matrix: sparse.csr_array, shape: tuple[int, int], old: Orientation, new: Orientation
) -> sparse.csr_array:
    """Return the matrix with its columns numbered in another memory order."""

    def positions(layout: Orientation) -> Int32:
        memory = np.arange(shape[0] * shape[1], dtype=np.int32)
        return layout.apply(memory.reshape(layout.inverse.shape(shape)))

    moved = np.empty(shape[0] * shape[1], np.int32)
    moved[positions(old).ravel()] = positions(new).ravel()
    return sparse.csr_array((matrix.data, moved[matrix.indices], matrix.indptr), matrix.shape)


def _tiles(shape: tuple[int, int]) -> tuple[int, int]:
    return -(-shape[0] // _TILE), -(-shape[1] // _TILE)


def _tiled_size(shape: tuple[int, int]) -> int:
    rows, columns = _tiles(shape)
    return rows * columns * _TILE * _TILE


def _tile_order(shape: tuple[int, int]) -> Int32:
    """Return the matrix row of each flat cell."""
    index = np.arange(_tiled_size(shape), dtype=np.int32)
    return _untile(index, shape).ravel()


def _untile(values: NDArray[np.generic], shape: tuple[int, int]) -> NDArray[np.generic]:
    """Return values in matrix order as (rows, columns) of the grid."""
    rows, columns = _tiles(shape)
    tiles = values.reshape(rows, columns, _TILE, _TILE).transpose(0, 2, 1, 3)
    return tiles.reshape(rows * _TILE, columns * _TILE)[: shape[0], : shape[1]]
