"""Boxes on the grid of an image: centre, widths, how much of a ring they cover, and neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.measure.box_sums import BoxSums

__all__ = ["BoxShapes"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

_RING_SHARE, _RING_EXTENT_DEG = 0.7, 30.0  # of the visible phi range; at least


@dataclass(frozen=True, slots=True)
class BoxShapes:
    """Boxes in pixels of the image, as centre and widths.

    column, fwhm: (n,) centre and full width along q, columns
    first, last: (n,) int64 rows, both included
    ring: (n,) bool, the box covers most of what is visible at its q
    visible: (n, 2) int64 first and last row with data at this q, -1 = none
    """

    column: Float64
    fwhm: Float64
    first: Int64
    last: Int64
    ring: Bool
    visible: Int64

    @classmethod
    def of(cls, sums: BoxSums, boxes: Float32, row_height_deg: float) -> BoxShapes:
        """Put boxes [q0, phi0, q1, phi1] (n, 4) onto the grid."""
        n_rows, n_columns = sums.shape
        corners = np.sort(boxes.reshape(-1, 2, 2).astype(np.float64), axis=1)
        low, high = corners.transpose(1, 0, 2)
        column = (low[:, 0] + high[:, 0]) / 2
        fwhm = np.maximum(high[:, 0] - low[:, 0], 1.0)
        first = np.clip(np.rint(low[:, 1]), 0, n_rows - 1).astype(np.int64)
        last = np.clip(np.rint(high[:, 1]), 0, n_rows - 1).astype(np.int64)
        half = np.maximum(fwhm / 2, 0.5)
        left = np.clip(np.ceil(column - half), 0, n_columns).astype(np.int64)
        right = np.clip(np.floor(column + half) + 1, left, n_columns).astype(np.int64)
        seen: Bool = sums.rows_with_data(left, right)
        rows = np.arange(n_rows)
        known: Bool = np.asarray(seen.any(axis=1))
        inside = seen & (rows >= first[:, None]) & (rows <= last[:, None])
        share = inside.sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
        ends = np.stack([seen.argmax(axis=1), n_rows - 1 - seen[:, ::-1].argmax(axis=1)], axis=1)
        ring = (share > _RING_SHARE) & ((last - first + 1) * row_height_deg > _RING_EXTENT_DEG)
        return cls(column, fwhm, first, last, ring, np.where(known[:, None], ends, -1))

    def rows_shared(self) -> Float64:
        """Return (n, n) share of the rows of box i that box k covers too."""
        first = np.maximum(self.first[:, None], self.first)
        last = np.minimum(self.last[:, None], self.last)
        return np.maximum(last - first + 1, 0) / (self.last - self.first + 1)[:, None]

    def visible_rows(self) -> Int64:
        """Return the number of rows (n,) of each box between the first and last with data."""
        first = np.maximum(self.first, self.visible[:, 0])
        last = np.minimum(self.last, self.visible[:, 1])
        return np.where(self.visible[:, 0] < 0, 0, np.maximum(last - first + 1, 0))
