"""Radial and angular profiles of boxes in a polar image, with gaps and uneven background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from gixi_bluesky.processing.types import RemappedImage

__all__ = [
    "BoxShapes",
    "RadialProfiles",
    "WeightedImage",
    "angular_profiles",
    "box_shapes",
    "noise_scale",
    "radial_profiles",
]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

CORE = 1.25  # half width in FWHM of what a peak covers; 0.3 % of a Gaussian lies outside
OFFSET_ROWS = 15  # rows over which the background's course along phi is smoothed
RING_SHARE, RING_EXTENT_DEG = 0.7, 30.0  # of the visible phi range; at least
PHI_BINS = 32  # of an angular profile
BLOCK = (16, 4)  # rows, columns of the blocks whose scatter gauges the noise
FEWEST_BLOCKS = 30


@dataclass(frozen=True, slots=True)
class WeightedImage:
    """A polar image made ready for sums over boxes.

    weight: (n_phi, n_q) 0 = no data, 1 = as many detector pixels as is usual for the column
    weighted: weight · intensity; weighted_variance: weight² · variance
    """

    weight: Float32
    weighted: Float32
    weighted_variance: Float32

    @classmethod
    def of(cls, image: RemappedImage) -> WeightedImage:
        """Weigh every bin; full ones alike, so that where the sides fold does not count double."""
        valid = np.isfinite(image.intensity) & np.isfinite(image.variance) & (image.pixels > 0)
        filled = valid.sum(axis=0)
        usual = np.where(valid, image.pixels, 0).sum(axis=0) / np.maximum(filled, 1)
        usual = np.maximum(usual, 1e-6).astype(np.float32)
        weight = np.where(valid, np.minimum(image.pixels / usual, np.float32(1)), np.float32(0))
        return cls(
            weight=weight,
            weighted=np.where(valid, weight * image.intensity, np.float32(0)),
            weighted_variance=np.where(valid, weight * weight * image.variance, np.float32(0)),
        )

    def part(self, rows: slice, columns: slice) -> WeightedImage:
        """Return a window of the image, without copying."""
        window = rows, columns
        return WeightedImage(
            self.weight[window], self.weighted[window], self.weighted_variance[window]
        )


@dataclass(frozen=True, slots=True)
class BoxShapes:
    """Boxes in polar pixels, as centre and widths.

    column, fwhm: (n,) centre and full width along q, columns
    first, last: (n,) int64 rows, both included
    ring: (n,) bool, the box covers most of what is visible at its q
    visible: (n, 2) int64 first and last row with data at this q, -1 = none
    """

    column: Float64
    fwhm: Float64
    first: Int64
    last: Int64
    ring: NDArray[np.bool_]
    visible: Int64

    def overlap(self) -> Float64:
        """(n, n) share of the rows of box i that box k covers too."""
        first = np.maximum(self.first[:, None], self.first)
        last = np.minimum(self.last[:, None], self.last)
        return np.maximum(last - first + 1, 0) / (self.last - self.first + 1)[:, None]


@dataclass(frozen=True, slots=True)
class RadialProfiles:
    """Means over the rows of n boxes in m columns around each, background levelled along phi.

    x: (n, m) columns from the box centre
    y, variance: (n, m) counts, counts²
    own: (n, m) bool, there is data and no other peak is nearer
    response: (n, m) share of the peak the valid rows of a column see, 1 = the whole course
    slope: (n,) counts per column taken off; offsets: n arrays (rows,), counts taken off
    """

    x: Float64
    y: Float64
    variance: Float64
    own: NDArray[np.bool_]
    response: Float64
    slope: Float64
    offsets: tuple[Float64, ...]

    def rows(self, chosen: Int64) -> RadialProfiles:
        """Return some of the profiles."""
        return RadialProfiles(
            x=self.x[chosen],
            y=self.y[chosen],
            variance=self.variance[chosen],
            own=self.own[chosen],
            response=self.response[chosen],
            slope=self.slope[chosen],
            offsets=tuple(self.offsets[i] for i in chosen),
        )


def box_shapes(image: WeightedImage, boxes: Float32, row_height_deg: float) -> BoxShapes:
    """Put boxes [q0, phi0, q1, phi1] (n, 4) onto the grid and see how much of a ring they cover."""
    n_rows = len(image.weight)
    low, high = np.sort(boxes.reshape(-1, 2, 2).astype(np.float64), axis=1).transpose(1, 0, 2)
    column = (low[:, 0] + high[:, 0]) / 2
    fwhm = np.maximum(high[:, 0] - low[:, 0], 1.0)
    first = np.clip(np.rint(low[:, 1]), 0, n_rows - 1).astype(np.int64)
    last = np.clip(np.rint(high[:, 1]), 0, n_rows - 1).astype(np.int64)
    visible = np.full((len(boxes), 2), -1, np.int64)
    share = np.zeros(len(boxes))
    for i, (centre, half) in enumerate(zip(column, np.maximum(fwhm / 2, 0.5), strict=True)):
        core = image.weight[:, max(int(np.ceil(centre - half)), 0) : int(centre + half) + 1]
        rows = np.flatnonzero(core.any(axis=1))
        if rows.size:
            visible[i] = rows[0], rows[-1]
            share[i] = np.mean((rows >= first[i]) & (rows <= last[i]))
    ring = (share > RING_SHARE) & ((last - first + 1) * row_height_deg > RING_EXTENT_DEG)
    return BoxShapes(column, fwhm, first, last, ring, visible)


def radial_profiles(image: WeightedImage, shapes: BoxShapes) -> RadialProfiles:
    """Collapse every box over phi, with enough columns beside it to know the background."""
    reach = np.ceil(np.minimum(4 * shapes.fwhm, 2 * shapes.fwhm + 16)).astype(int) + 2
    steps = np.arange(-reach.max(), reach.max() + 1)
    centre = np.rint(shapes.column).astype(int)
    columns = centre[:, None] + steps
    x = columns - shapes.column[:, None]
    inside = (columns >= 0) & (columns < image.weight.shape[1]) & (abs(steps) <= reach[:, None])
    own = inside & _nearest(columns, shapes)
    y, variance, response = np.zeros(x.shape), np.zeros(x.shape), np.zeros(x.shape)
    slope, offsets = np.zeros(len(x)), []
    for i, used in enumerate(inside):
        if not used.any():
            offsets.append(np.zeros(shapes.last[i] - shapes.first[i] + 1))
            continue
        rows = slice(shapes.first[i], shapes.last[i] + 1)
        span = columns[i, used]
        box = image.part(rows, slice(span[0], span[-1] + 1))
        side = own[i, used] & (abs(x[i, used]) > CORE * shapes.fwhm[i])
        slope[i], offset = _background(box, x[i, used], side)
        course = _course(shapes, i)
        y[i, used], variance[i, used], response[i, used] = _collapsed(box, offset, course)
        y[i, used] -= slope[i] * x[i, used]
        offsets.append(offset)
    return RadialProfiles(x, y, variance, own & (response > 0), response, slope, tuple(offsets))


def _nearest(columns: Int64, shapes: BoxShapes) -> NDArray[np.bool_]:
    """(n, m) where no other box that shares rows is nearer, in units of the widths."""
    own = np.ones(columns.shape, bool)
    shared = shapes.overlap() > 0
    distance = abs(columns - shapes.column[:, None]) / shapes.fwhm[:, None]
    reach = (columns[:, -1] - columns[:, 0]) / 2 + 2 * shapes.fwhm.max()
    for i in range(len(columns)):
        near = shared[i] & (abs(shapes.column - shapes.column[i]) < reach[i])
        near[i] = False
        if not near.any():
            continue
        others = abs(columns[i][:, None] - shapes.column[near]) / shapes.fwhm[near]
        closest = others.min(axis=1)
        own[i] = (closest > CORE) | (distance[i] <= closest)
    return own


def _course(shapes: BoxShapes, i: int) -> Float64:
    """(rows,) expected course of the peak along phi; no data at the ends of the box counts 0."""
    rows = np.arange(shapes.first[i], shapes.last[i] + 1)
    seen = (rows >= shapes.visible[i, 0]) & (rows <= shapes.visible[i, 1])
    if shapes.ring[i]:
        return seen.astype(float)
    # a box ends where the profile is at 13.5 %, two standard deviations of a Gaussian
    z = 4 * (rows - rows.mean()) / len(rows)
    return np.where(seen, np.exp(-0.5 * z * z), 0.0)


def _background(box: WeightedImage, x: Float64, side: NDArray[np.bool_]) -> tuple[float, Float64]:
    """Return the slope along q and the level of every row, from the columns beside the peak."""
    basis = np.stack([side, side * x, side * x * x], axis=1).astype(np.float32)
    counts = (box.weight @ basis).astype(np.float64)
    sums = (box.weighted @ basis[:, :2]).astype(np.float64)
    known = counts[:, 0] > 0
    n, nx, nxx = counts[known].T
    spread = (nxx - nx**2 / n).sum()
    slope = 0.0
    if spread > 1e-3 * nxx.sum():
        slope = float((sums[known, 1] - nx * sums[known, 0] / n).sum() / spread)
    total = uniform_filter1d(counts[:, 0], OFFSET_ROWS, mode="constant")
    level = uniform_filter1d(sums[:, 0] - slope * counts[:, 1], OFFSET_ROWS, mode="constant")
    filled = total > 1e-3
    mean = level[filled].sum() / total[filled].sum() if filled.any() else 0.0
    return slope, np.divide(level, total, out=np.full_like(total, mean), where=filled)


def _collapsed(
    box: WeightedImage, offset: Float64, course: Float64
) -> tuple[Float64, Float64, Float64]:
    rows = np.stack([np.ones_like(offset), offset, course], axis=1).astype(np.float32)
    total, level, seen = (box.weight.T @ rows).astype(np.float64).T
    safe = np.where(total > 0, total, 1.0)
    y = (box.weighted.sum(axis=0, dtype=np.float64) - level) / safe
    variance = box.weighted_variance.sum(axis=0, dtype=np.float64) / safe**2
    extent = max(np.count_nonzero(course), 1)
    return y, variance, seen / safe / max(course.sum() / extent, 1e-9)


def angular_profiles(
    image: WeightedImage,
    shapes: BoxShapes,
    profiles: RadialProfiles,
    bell: Float64,
    line: Float64,
) -> tuple[Float64, Float64, Float64]:
    """Return rows (n, 32), height of the peak there and its variance, 0 = no data.

    bell: (n, m) the fitted Gaussian of height 1; line: (n, m) the line under it
    """
    rows = np.zeros((len(bell), PHI_BINS))
    height, variance = np.zeros_like(rows), np.zeros_like(rows)
    core = profiles.own & (bell > 0.3)
    for i in np.flatnonzero(core.any(axis=1)):
        first, last = shapes.first[i], shapes.last[i]
        span = np.flatnonzero(core[i])
        start = int(np.rint(shapes.column[i] + profiles.x[i, span[0]]))
        box = image.part(slice(first, last + 1), slice(start, start + span[-1] - span[0] + 1))
        cut = slice(span[0], span[-1] + 1)
        mask = core[i, cut].astype(float)
        under = line[i, cut] + profiles.slope[i] * profiles.x[i, cut]
        basis = np.stack([mask, mask * under, mask * bell[i, cut]], axis=1).astype(np.float32)
        total, level, seen = (box.weight @ basis).astype(np.float64).T
        signal = box.weighted @ basis[:, 0] - profiles.offsets[i] * total - level
        noise = box.weighted_variance @ basis[:, 0]
        edges = np.unique(np.linspace(0, len(total), PHI_BINS, endpoint=False).astype(int))
        used = slice(0, len(edges))
        n_rows = np.diff(np.append(edges, len(total)))
        rows[i, used] = first + edges + (n_rows - 1) / 2
        weight = np.add.reduceat(seen, edges)
        safe = np.where(weight > 0, weight, np.inf)
        height[i, used] = np.add.reduceat(signal, edges) / safe
        variance[i, used] = np.add.reduceat(noise, edges) / safe**2
    return rows, height, variance


def noise_scale(image: RemappedImage) -> Float64:
    """(columns,) true over stated standard error of means over neighbouring bins.

    Footprints of neighbouring bins overlap, so the errors of sums are larger than the variance
    map says for independent bins; and the gain may be wrong. Second differences of block means
    along the rows are free of rings and background; their scatter against the stated one tells.
    """
    mean = _block_sums(image.intensity) / np.prod(BLOCK)
    stated = _block_sums(image.variance) / np.prod(BLOCK) ** 2
    n = image.intensity.shape[1]
    rows, columns = mean.shape
    if rows < 3:
        return np.ones(n)
    bend = mean[2:] - 2 * mean[1:-1] + mean[:-2]
    sigma = np.sqrt(stated[2:] + 4 * stated[1:-1] + stated[:-2])
    z = np.divide(bend, sigma, out=np.full_like(bend, np.nan), where=sigma > 0)
    group = max(columns // 16, 1)
    centres, scales = [], []
    for first in range(0, columns, group):
        known = z[:, first : first + group]
        known = known[np.isfinite(known)]
        if known.size < FEWEST_BLOCKS or np.mean(known == 0) > 0.1:
            continue
        low, high = np.percentile(known, (15.865, 84.135))
        centres.append((first + group / 2) * BLOCK[1])
        scales.append(np.clip((high - low) / 2, 0.5, 20.0))
    if not centres:
        return np.ones(n)
    return np.interp(np.arange(n), centres, scales)


def _block_sums(image: Float32) -> Float32:
    rows, columns = (n // size for n, size in zip(image.shape, BLOCK, strict=True))
    cut = image[: rows * BLOCK[0], : columns * BLOCK[1]]
    # strided sums are several times faster than a sum over a short last axis
    narrow = sum(cut[:, k :: BLOCK[1]] for k in range(1, BLOCK[1])) + cut[:, :: BLOCK[1]]
    return np.asarray(narrow.reshape(rows, BLOCK[0], columns).sum(axis=1))
