"""Profiles of boxes along q, with gaps and uneven background, cut into cells of equal grids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.measure.box_shapes import BoxShapes
from gixi_bluesky.processing.measure.box_sums import BoxSums

__all__ = ["CORE", "BoxCells", "RadialProfiles", "box_cells", "radial_profiles"]

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

CORE = 1.25  # half width in FWHM of what a peak covers; 0.3 % of a Gaussian lies outside
_PHI_CELLS = 32  # along phi, of as many rows each as the box needs
_MOST_SIDE_CELLS = 28  # along q on each side of the centre; wide boxes have wider cells
_EVEN = 0.75  # of the data in the neighbouring cell
_OFFSET_ROWS = 15  # rows over which the background's course along phi is smoothed


@dataclass(frozen=True, slots=True)
class BoxCells:
    """Sums over the k x m cells that each of n boxes and the background beside it is cut into.

    weight, weighted, weighted_variance: (n, k, m) as in `BoxSums`
    x: (n, m) columns from the box's centre; inside: (n, m) on the image, within reach
    width: (n,) columns of a cell
    rows: (n, k) middle of each cell; height: (n, k) its rows, 0 = not used
    """

    weight: Float64
    weighted: Float64
    weighted_variance: Float64
    x: Float64
    inside: Bool
    width: Int64
    rows: Float64
    height: Int64


@dataclass(frozen=True, slots=True)
class RadialProfiles:
    """Means over the rows of n boxes in m cells along q, background levelled along phi.

    x: (n, m) columns from the box's centre; y, variance: (n, m) counts, counts²
    own: (n, m) there is data, and no peak lies nearer that is not fitted together with this one
    response: (n, m) share of the peak that the valid rows see, 1 = the whole course
    offset: (n, k) counts, slope: (n,) counts per column that were subtracted
    level: (n,) mean of the offset over the rows
    course: (n, k) expected course of the peak along phi, 1 on top; 0 beyond the data
    """

    x: Float64
    y: Float64
    variance: Float64
    own: Bool
    response: Float64
    offset: Float64
    level: Float64
    slope: Float64
    course: Float64


def box_cells(sums: BoxSums, shapes: BoxShapes) -> BoxCells:
    """Cut every box, with enough columns beside it to know the background, into cells."""
    reach = np.ceil(np.minimum(4 * shapes.fwhm, 2 * shapes.fwhm + 16)) + 2
    width = np.ceil(reach / _MOST_SIDE_CELLS).astype(np.int64)
    half = int(np.ceil(reach / width).max())
    n_columns = sums.shape[1]
    step = np.arange(-half, half + 2)
    first = np.rint(shapes.column).astype(np.int64) - width // 2
    edges = first[:, None] + step * width[:, None]
    x = edges[:, :-1] + (width[:, None] - 1) / 2 - shapes.column[:, None]
    on_image = (edges[:, :-1] >= 0) & (edges[:, 1:] <= n_columns)
    extent = shapes.last - shapes.first + 1
    used = np.minimum(extent, _PHI_CELLS)
    most = int(used.max())
    share = np.minimum(np.arange(most + 1), used[:, None])
    row_edges = shapes.first[:, None] + share * extent[:, None] // used[:, None]
    weight, weighted, variance = sums.cells(row_edges, np.clip(edges, 0, n_columns))
    return BoxCells(
        weight=np.maximum(weight, 0),
        weighted=weighted,
        weighted_variance=np.maximum(variance, 0),
        x=x,
        inside=on_image & (abs(x) <= reach[:, None] + 0.5),
        width=width,
        rows=(row_edges[:, :-1] + row_edges[:, 1:] - 1) / 2,
        height=np.diff(row_edges, axis=1),
    )


def radial_profiles(
    cells: BoxCells, shapes: BoxShapes, together: Int64, near: Bool
) -> RadialProfiles:
    """Collapse every box over phi.

    together: (n, j) boxes that are fitted together with each, -1 = none
    near: (n, n) pairs of boxes that share rows and are not fitted together
    """
    held = cells.weight.sum(axis=1)
    data = cells.inside & (held > 1e-6) & _even(held, cells.width)
    own = data & _nearest(cells, shapes, near)
    side = own & (abs(cells.x) > CORE * shapes.fwhm[:, None])
    for other in together.T:
        place = (shapes.column[other] - shapes.column)[:, None]
        beside = abs(cells.x - place) > CORE * shapes.fwhm[other][:, None]
        side &= beside | (other < 0)[:, None]
    slope, offset = _background(cells, side)
    course = _course(cells, shapes)
    total = np.where(data, held, 1.0)
    under = (offset[:, None, :] @ cells.weight)[:, 0]
    seen = (course[:, None, :] @ cells.weight)[:, 0] / total
    y = (cells.weighted.sum(axis=1) - under) / total - slope[:, None] * cells.x
    variance = cells.weighted_variance.sum(axis=1) / total**2
    bright = np.where(course > 0, cells.height, 0)
    mean_course = (course * bright).sum(axis=1) / np.maximum(bright.sum(axis=1), 1)
    response = seen / np.maximum(mean_course, 1e-9)[:, None]
    return RadialProfiles(
        x=cells.x,
        y=np.where(data, y, 0.0),
        variance=np.where(data, variance, 0.0),
        own=own & (response > 1e-3),
        response=np.where(data, response, 0.0),
        offset=offset,
        level=(offset * cells.height).sum(axis=1) / np.maximum(cells.height.sum(axis=1), 1),
        slope=slope,
        course=course,
    )


def _even(held: Float64, width: Int64) -> Bool:
    """Return (n, m) where cells of several columns are not cut by a gap; x is their middle."""
    beside = np.zeros((len(held), held.shape[1] + 2))
    beside[:, 1:-1] = held
    most = np.maximum(beside[:, :-2], beside[:, 2:])
    return (width[:, None] == 1) | (held >= _EVEN * most)


def _nearest(cells: BoxCells, shapes: BoxShapes, near: Bool) -> Bool:
    """Return (n, m) where no other box of `near` is nearer, in units of the widths."""
    own = np.ones(cells.x.shape, bool)
    reach = abs(cells.x).max(axis=1)
    apart = abs(shapes.column[:, None] - shapes.column)
    close = near & (apart < reach[:, None] + CORE * shapes.fwhm)
    for i, k in np.argwhere(close):
        x = cells.x[i]
        other = abs(x + (shapes.column[i] - shapes.column[k])) / shapes.fwhm[k]
        own[i] &= (other > CORE) | (abs(x) / shapes.fwhm[i] <= other)
    return own


def _course(cells: BoxCells, shapes: BoxShapes) -> Float64:
    """Return (n, k) expected course of the peak along phi; no data at the box's ends counts 0."""
    rows = cells.rows
    seen = (cells.height > 0) & (rows >= shapes.visible[:, :1] - 0.5)
    seen &= rows <= shapes.visible[:, 1:] + 0.5
    # A box ends where the profile is at 13.5 %, two standard deviations of a Gaussian.
    extent = (shapes.last - shapes.first + 1)[:, None]
    z = 4 * (rows - (shapes.first + shapes.last)[:, None] / 2) / extent
    bell = np.where(shapes.ring[:, None], 1.0, np.exp(-0.5 * z * z))
    return np.where(seen, bell, 0.0)


def _background(cells: BoxCells, side: Bool) -> tuple[Float64, Float64]:
    """Return the slope along q and the level of every cell row, from the columns beside peaks."""
    beside = np.where(side, 1.0, 0.0)
    basis = np.stack([beside, beside * cells.x, beside * cells.x**2], axis=2)
    n, nx, nxx = (cells.weight @ basis).transpose(2, 0, 1)
    total, first = (cells.weighted @ basis[:, :, :2]).transpose(2, 0, 1)
    known = n > 1e-6
    safe = np.where(known, n, 1.0)
    spread = np.where(known, nxx - nx * nx / safe, 0).sum(axis=1)
    lean = np.where(known, first - nx * total / safe, 0).sum(axis=1)
    steady = spread > 1e-3 * np.where(known, nxx, 0).sum(axis=1)
    slope = np.divide(lean, spread, out=np.zeros_like(lean), where=steady)
    apart = abs(cells.rows[:, :, None] - cells.rows[:, None, :])
    kernel = (apart <= _OFFSET_ROWS / 2).astype(np.float64)
    kernel *= (cells.height > 0)[:, None, :]
    smooth = kernel @ np.stack([n, total - slope[:, None] * nx], axis=2)
    filled = smooth[..., 0] > 1e-3
    level = np.where(filled, smooth[..., 1], 0)
    count = np.where(filled, smooth[..., 0], 0)
    mean = level.sum(axis=1) / np.maximum(count.sum(axis=1), 1e-6)
    wide = np.broadcast_to(mean[:, None], level.shape)
    return slope, np.divide(level, count, out=wide.copy(), where=filled)
