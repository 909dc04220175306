"""The lines of all candidate structures, as frames see them."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.match.lattice import free_parameters
from gixi_bluesky.processing.match.lines import POSITION_ERROR, ExpectedLines, Visibility
from gixi_bluesky.processing.match.plane_angles import PlaneAngles
from gixi_bluesky.processing.structures.cif_files import Structure

__all__ = ["LineLibrary"]

Int64 = NDArray[np.int64]

MOST_LINES = 40
RESOLUTION_STEPS = 10  # per factor e; frames of one run share the merged lines
MOST_VIEWS = 8  # whose merged lines are kept
MOST_STORED = 80  # before lines that a frame cannot resolve are merged
AS_CALCULATED = 0.5  # of the intensities of a powder
UNEQUAL_STRAIN = 0.0015  # between the free lengths of a cell, half of the usual strain


class LineLibrary:
    """The strongest lines of all candidates, stacked once so that frames are matched fast."""

    def __init__(self, structures: Sequence[Structure]) -> None:
        self.structures = tuple(structures)
        parts = []
        for structure in self.structures:
            lines = structure.reflections
            kept = np.sort(np.argsort(-lines.intensity, kind="stable")[:MOST_STORED])
            parts.append((lines.q[kept], lines.hkl[kept], lines.intensity[kept]))
        empty = (np.empty(0), np.empty((0, 3), np.int64), np.empty(0))
        q, hkl, intensity = zip(*parts, empty, strict=True)
        self._q, self._hkl = np.concatenate(q), np.concatenate(hkl)
        self._intensity = np.concatenate(intensity)
        self._index = {s.slug: index for index, s in enumerate(self.structures)}
        self._merged: OrderedDict[tuple[bytes, float], ExpectedLines] = OrderedDict()
        self._angles: dict[int, PlaneAngles] = {}
        self._owner = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
        self._strain = np.array([_unequal_strain(s) for s in self.structures])

    def __len__(self) -> int:
        return len(self.structures)

    def plane_angles(self, structure: Structure) -> PlaneAngles:
        """Return the angles of a structure's lines to its planes; kept."""
        return self.angles_of_owner(self._index[structure.slug])

    def angles_of_owner(self, index: int) -> PlaneAngles:
        """Return the angles of the lines of the structure with this index."""
        if index not in self._angles:
            hkl = self._hkl[self._owner == index].tolist()
            lines = [(int(h), int(k), int(el)) for h, k, el in hkl]
            self._angles[index] = PlaneAngles.of(self.structures[index].cell, lines)
        return self._angles[index]

    def expected(self, visibility: Visibility) -> ExpectedLines:
        """Merge the lines that the frame cannot resolve, drop those where it has no data."""
        visible = np.isfinite(visibility.noise_at(self._q))
        resolution = visibility.resolution
        if resolution > 0:
            steps = round(math.log(resolution) * RESOLUTION_STEPS)
            resolution = math.exp(steps / RESOLUTION_STEPS)
        key = (np.packbits(visible).tobytes(), resolution)
        if key not in self._merged:
            self._merged[key] = self._apart(visible, resolution)
            while len(self._merged) > MOST_VIEWS:
                self._merged.popitem(last=False)
        self._merged.move_to_end(key)
        lines = self._merged[key]
        intensity = lines.intensity * visibility.share_at(lines.q)
        top = np.zeros(len(self))
        np.maximum.at(top, lines.owner, intensity)
        return replace(
            lines, noise=visibility.noise_at(lines.q), intensity=intensity / top[lines.owner]
        )

    def _apart(self, visible: NDArray[np.bool_], resolution: float) -> ExpectedLines:
        """Return the strongest lines of each structure that are seen apart, without their noise."""
        q, intensity, owner = self._q[visible], self._intensity[visible], self._owner[visible]
        hkl = self._hkl[visible]
        if not len(q):
            return ExpectedLines(q, hkl, intensity, q, owner, q, q, q.astype(np.float32))
        gap = np.maximum(resolution, POSITION_ERROR * q)
        apart = (np.diff(owner) > 0) | (np.diff(q) > gap[1:])
        starts = np.flatnonzero(np.append(True, apart))
        total = np.add.reduceat(intensity, starts)
        centre = np.add.reduceat(intensity * q, starts) / total
        group = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(q))))
        variance = np.add.reduceat(intensity * (q - centre[group]) ** 2, starts) / total
        strongest = np.lexsort((-intensity, group))[starts]
        whose = owner[starts]
        top = np.zeros(len(self))
        np.maximum.at(top, whose, total)
        kept = np.sort(_first_of_each(np.lexsort((-total, whose)), whose, MOST_LINES))
        return ExpectedLines(
            q=centre[kept],
            hkl=hkl[strongest[kept]],
            intensity=total[kept] / top[whose[kept]],
            noise=np.full(len(kept), np.nan),
            owner=whose[kept],
            spread=np.sqrt(variance[kept]),
            strain=self._strain[whose[kept]],
            calculated=np.full(len(kept), AS_CALCULATED, np.float32),
        )


def _first_of_each(order: Int64, owner: Int64, count: int) -> Int64:
    """Return the first `count` of `order`, which is sorted by owner, for each owner."""
    sorted_owner = owner[order]
    first = np.searchsorted(sorted_owner, sorted_owner)
    return order[np.arange(len(order)) - first < count]


def _unequal_strain(structure: Structure) -> float:
    free = free_parameters(structure.cell, structure.crystal_system)
    return UNEQUAL_STRAIN if free.shape[1] > 1 else 0.0
