"""Orientation of the array as read, after which q_z grows with the row and y with the column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Orientation"]


@dataclass(frozen=True, slots=True)
class Orientation:
    """One of the eight ways to lay an image: transpose first, then flip rows and columns."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @classmethod
    def from_flip(cls, flip: str) -> Orientation:
        """Return the orientation of none, vertical, horizontal or both."""
        return cls(False, flip in ("vertical", "both"), flip in ("horizontal", "both"))

    @classmethod
    def from_sample(cls, number: int) -> Orientation:
        """Return pyFAI's `sample_orientation` 1…8 (EXIF values, 1 = as the array is)."""
        return _SAMPLE[number - 1]

    @classmethod
    def from_detector(cls, number: int) -> Orientation:
        """Return pyFAI's detector orientation 1…4 of a PONI file (3 = as the array is)."""
        return _DETECTOR[number - 1]

    @classmethod
    def of_memory(cls, array: NDArray[Any]) -> Orientation:
        """Return how an array's memory became its rows and columns, so that no flip is copied."""
        rows, columns = array.strides
        return cls(abs(rows) < abs(columns), rows < 0, columns < 0)

    def apply(self, frame: NDArray[Any]) -> NDArray[Any]:
        """Turn (rows, columns) without copying."""
        turned = frame.T if self.transpose else frame
        return turned[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]

    def shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the shape of an image of `shape` after `apply`."""
        return (shape[1], shape[0]) if self.transpose else shape

    def within(self, rows: slice, columns: slice, shape: tuple[int, int]) -> tuple[slice, slice]:
        """Return where a part of the turned image, of `shape`, lies in the array before `apply`."""
        parts = [
            slice(size - part.stop, size - part.start) if flip else part
            for part, size, flip in zip(
                (rows, columns), shape, (self.flip_rows, self.flip_columns), strict=True
            )
        ]
        return (parts[1], parts[0]) if self.transpose else (parts[0], parts[1])

    def place(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, ...]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the indices before `apply` of pixels (n,) of the turned image, of `shape`."""
        row = shape[0] - 1 - rows if self.flip_rows else rows
        column = shape[1] - 1 - columns if self.flip_columns else columns
        return (column, row) if self.transpose else (row, column)

    def corner(
        self, corner: tuple[int, int], shape: tuple[int, int], whole: tuple[int, int]
    ) -> tuple[int, int]:
        """Return where a region of `shape` at `corner` of an array `whole` begins after `apply`."""
        first, size, full = (one[::-1] if self.transpose else one for one in (corner, shape, whole))
        flips = (self.flip_rows, self.flip_columns)
        row, column = (
            full[i] - first[i] - size[i] if flip else first[i] for i, flip in enumerate(flips)
        )
        return row, column

    @property
    def inverse(self) -> Orientation:
        """The orientation that undoes this one."""
        if self.transpose:
            return Orientation(True, self.flip_columns, self.flip_rows)
        return self

    def then(self, other: Orientation) -> Orientation:
        """Return the orientation equal to this one followed by `other`."""
        rows, columns = self.flip_rows, self.flip_columns
        if other.transpose:
            rows, columns = columns, rows
        return Orientation(
            self.transpose != other.transpose,
            rows != other.flip_rows,
            columns != other.flip_columns,
        )

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(2, 2) map of (row, column) directions of the array to those of the turned array."""
        axes = np.eye(2)[::-1] if self.transpose else np.eye(2)
        signs = np.array([-1.0 if self.flip_rows else 1.0, -1.0 if self.flip_columns else 1.0])
        return signs[:, None] * axes


_SAMPLE = (
    Orientation(False, False, False),
    Orientation(False, False, True),
    Orientation(False, True, True),
    Orientation(False, True, False),
    Orientation(True, True, True),
    Orientation(True, False, True),
    Orientation(True, False, False),
    Orientation(True, True, False),
)
_DETECTOR = (
    Orientation(False, True, True),
    Orientation(False, True, False),
    Orientation(False, False, False),
    Orientation(False, False, True),
)
