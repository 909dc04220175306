"""Single pixels far above all their neighbours: hot pixels and cosmic rays, in one frame.

A pixel counts as an outlier where it exceeds the median of its eight neighbours by many standard
errors while the brightest of them hardly does. The image of a real spot, however sharp, falls on
the neighbours too: of a Gaussian with a full width of one pixel at half maximum, centred on the
pixel, each of the four nearest gets 15 % of its counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Outliers", "find_outliers", "outlying", "without_outliers"]

Bool = NDArray[np.bool_]
Int64 = NDArray[np.int64]

_ROWS = 16  # of the strips whose maxima are compared first
_FEWEST_COUNTS = 12.0  # above the neighbours; fewer may be a weak spot whose flanks hold none
_SIGNIFICANT = 8.0  # standard errors
_FLANK = 0.04  # of the excess, in the brightest neighbour
_FEWEST_NEIGHBOURS = 5
_EXPECTED_RANGE = 2.85  # of eight normal numbers, in standard deviations


@dataclass(frozen=True, slots=True)
class Outliers:
    """The outliers of one frame: rows, columns and what replaces them, (n,) each.

    values: in the frame's dtype
    """

    rows: Int64
    columns: Int64
    values: NDArray[Any]

    @classmethod
    def none(cls, frame: NDArray[Any]) -> Outliers:
        """Return no outliers of a frame."""
        nowhere = np.empty(0, np.int64)
        return cls(nowhere, nowhere, np.empty(0, frame.dtype))

    def __len__(self) -> int:
        return len(self.rows)

    def replaced(self, frame: NDArray[Any]) -> NDArray[Any]:
        """Return a copy of the frame without its outliers, or the frame if it has none."""
        if not len(self):
            return frame
        cleaned = frame.copy()
        cleaned[self.rows, self.columns] = self.values
        return cleaned


def without_outliers(frame: NDArray[Any], masked: Bool | None = None) -> tuple[NDArray[Any], int]:
    """Return (rows, columns) with outliers replaced by their neighbours' median, and their number.

    masked: as of `find_outliers`
    """
    found = find_outliers(frame, masked)
    return found.replaced(frame), len(found)


def find_outliers(frame: NDArray[Any], masked: Bool | None = None) -> Outliers:
    """Return the outliers of a frame (rows, columns) with their neighbours' medians.

    masked: the same shape, pixels that need no care; NaN, negative integers and the maximum of an
    integer type are no data. Strips of 16 rows are searched for their brightest pixel alone, so of
    several outliers close together in one column only the brightest is found.
    """
    rows, columns = _brightest(frame)
    rows, columns = _alone(frame, masked, rows, columns)
    found, medians = outlying(frame, masked, rows, columns)
    values = medians[found] if frame.dtype.kind == "f" else np.rint(medians[found])
    return Outliers(rows[found], columns[found], values.astype(frame.dtype))


def outlying(
    frame: NDArray[Any], masked: Bool | None, rows: Int64, columns: Int64
) -> tuple[Bool, NDArray[np.float64]]:
    """Return which pixels (n,) are outliers, and the median of the neighbours of each."""
    if not len(rows):
        return np.zeros(0, bool), np.zeros(0)
    down, across = np.meshgrid([-1, 0, 1], [-1, 0, 1], indexing="ij")
    beside = np.flatnonzero((down != 0) | (across != 0))
    near_rows = rows[:, None] + down.ravel()[beside]
    near_columns = columns[:, None] + across.ravel()[beside]
    on = (near_rows >= 0) & (near_rows < frame.shape[0])
    on &= (near_columns >= 0) & (near_columns < frame.shape[1])
    places = np.where(on, near_rows, rows[:, None]), np.where(on, near_columns, columns[:, None])
    near = frame[places].astype(np.float64)
    known = on & _is_data(frame[places])
    if masked is not None:
        known &= ~masked[places]
    number = known.sum(axis=1)
    ordered = np.sort(np.where(known, near, np.inf), axis=1)
    last = np.maximum(number - 1, 0)
    take = np.arange(len(rows))
    low, high = ordered[take, last // 2], ordered[take, (last + 1) // 2]
    enough = number >= _FEWEST_NEIGHBOURS
    median = np.where(enough, (np.where(enough, low, 0) + np.where(enough, high, 0)) / 2, 0)
    brightest = np.where(enough, ordered[take, last], 0)
    spread = (brightest - np.where(enough, ordered[:, 0], 0)) / _EXPECTED_RANGE
    value = frame[rows, columns]
    with np.errstate(invalid="ignore"):  # what is not finite is no data, and no outlier
        excess = value.astype(np.float64) - median
    noise = np.maximum(spread, np.sqrt(np.maximum(median, 0)))
    found = enough & _is_data(value) & (excess > _FEWEST_COUNTS)
    found &= excess > _SIGNIFICANT * noise
    # The nearest four of a sharp spot's neighbours are half of them, and raise the median.
    darkest = np.where(enough, ordered[:, 1], 0)
    return found & (brightest - darkest < _FLANK * excess), median


def _brightest(frame: NDArray[Any]) -> tuple[Int64, Int64]:
    """Return row and column of pixels that stand out from the strips beside them."""
    whole = len(frame) // _ROWS * _ROWS
    strips = frame[:whole].reshape(-1, _ROWS, frame.shape[1])
    parts = [(0, strips.max(axis=1))]
    if whole < len(frame):
        parts.append((whole // _ROWS, frame[whole:].max(axis=0, keepdims=True)))
    rows, columns = [], []
    for first, top in parts:
        level = top.astype(np.float32)
        level[np.isnan(level)] = np.inf
        # The darker side, so that outliers in columns next to each other do not hide themselves.
        beside = np.full_like(level, np.inf)
        beside[:, 1:] = level[:, :-1]
        np.minimum(beside[:, :-1], level[:, 1:], out=beside[:, :-1])
        strip, column = np.nonzero(level > 2 * np.maximum(beside, 0) + _FEWEST_COUNTS)
        rows.append(strip + first)
        columns.append(column)
    strip, column = np.concatenate(rows), np.concatenate(columns)
    places = np.minimum(strip[:, None] * _ROWS + np.arange(_ROWS), len(frame) - 1)
    row = places[np.arange(len(strip)), frame[places, column[:, None]].argmax(axis=1)]
    return row.astype(np.int64), column.astype(np.int64)


def _alone(
    frame: NDArray[Any], masked: Bool | None, rows: Int64, columns: Int64
) -> tuple[Int64, Int64]:
    """Leave out pixels that are no data."""
    use = _is_data(frame[rows, columns])
    if masked is not None:
        use &= ~masked[rows, columns]
    return rows[use], columns[use]


def _is_data(values: NDArray[Any]) -> Bool:
    if values.dtype.kind == "f":
        return np.isfinite(values)
    return np.asarray((values >= 0) & (values < np.iinfo(values.dtype).max))
