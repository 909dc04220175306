"""Sums over the features in reach of a line, and over the lines of a structure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from gixi_bluesky.processing.match.line_pairs import LinePairs

__all__ = ["LineGroups", "first_of_runs"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LineGroups:
    """The pairs of one line at one scale: (g,) groups, sorted by scale, then line.

    starts: of each group's pairs; line: its index
    further: for the second, third, … feature of a line, the groups that have one and its pairs
    bounds: (scales times structures + 1,) of the pairs of each structure at each scale
    sums: (scales times structures, g) matrix of ones that sums over the lines of each
    """

    starts: Int64
    line: Int64
    further: tuple[tuple[Int64, Int64], ...]
    bounds: Int64
    sums: csr_array

    @classmethod
    def of(cls, pairs: LinePairs, slot: Int64, shape: tuple[int, int]) -> LineGroups:
        """Group pairs; slot: (n,) of each line's structure; shape: (scales, structures)."""
        line = pairs.line[pairs.couple]
        starts = np.flatnonzero(first_of_runs(line) | first_of_runs(pairs.scale))
        count = np.diff(starts, append=len(line))
        further = []
        for number in range(1, int(count.max(initial=0))):
            several = np.flatnonzero(count > number)
            further.append((several, starts[several] + number))
        cell = pairs.scale[starts] * shape[1] + slot[line[starts]]
        first = np.searchsorted(cell, np.arange(shape[0] * shape[1] + 1))
        ones = np.ones(len(starts))
        return cls(
            starts=starts,
            line=line[starts],
            further=tuple(further),
            bounds=np.append(starts, len(line))[first],
            sums=csr_array((ones, np.arange(len(starts)), first), (len(first) - 1, len(starts))),
        )

    def over_features(self, values: Float32) -> Float32:
        """Sum (e, k) over the features of each line at each scale, (g, k)."""
        total = values.take(self.starts, axis=0)
        for group, pair in self.further:
            total[group] += values.take(pair, axis=0)
        return total

    def largest(self, values: Float32) -> Float32:
        """Return the largest of (e,) values of the features of each line at each scale, (g,)."""
        if not len(self.starts):
            return np.zeros(0, np.float32)
        return np.asarray(np.maximum.reduceat(values, self.starts), np.float32)

    def over_lines(self, values: Float32, shape: tuple[int, int, int]) -> Float64:
        """Sum (g, k) over the lines of each structure at each scale, (s, c, k)."""
        return np.asarray(self.sums @ values.astype(np.float64)).reshape(shape)


def first_of_runs(values: Int64) -> NDArray[np.bool_]:
    """Return where a value differs from the one before, (n,)."""
    first = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return first
