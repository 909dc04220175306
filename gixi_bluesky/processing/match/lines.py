"""What a frame shows and what structures should show in it, along |q| alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.structures.cif_files import Structure
from gixi_bluesky.processing.tables import Peaks
from gixi_bluesky.processing.types import PolarImage

__all__ = [
    "POSITION_ERROR",
    "ExpectedLines",
    "Features",
    "LineLibrary",
    "Visibility",
    "features_of",
    "visibility_of",
]

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

POSITION_ERROR = 0.002  # relative, of one line: geometry and refraction; strain comes on top
CHANCE_FEATURES = 5.0  # peaks of unknown origin to expect besides those seen
MOST_LINES = 40
MOST_STORED = 80  # before lines that a frame cannot resolve are merged
SAMPLED_ROWS = 128
FAINTEST_SNR = 2.0  # below it a box is no evidence
FEWEST_ROWS = 0.03  # of the rows must hold data for a line to be expected there
ONE_LINE = 0.7  # FWHM; peaks that are nearer belong to one line


@dataclass(frozen=True, slots=True)
class Features:
    """Peaks of one |q|, whatever their phi: (n,) each, sorted by q.

    q, error, fwhm: 1/angstrom; intensity: of the whole line; members: the peaks' indices
    density: distinct q per 1/angstrom that unknown phases may bring
    """

    q: Float64
    error: Float64
    fwhm: Float64
    intensity: Float64
    members: tuple[Int64, ...]
    density: float

    def __len__(self) -> int:
        return len(self.q)


@dataclass(frozen=True, slots=True)
class Visibility:
    """Where a line can be seen, and what it must exceed.

    q: (n_q,) axis; noise: (n_q,) error of a whole ring's intensity, inf = no data
    resolution: 1/angstrom, lines nearer than this are one peak
    phi: (n_phi,) rows looked at, deg; seen: (n_phi, n_q) where those rows hold data
    """

    q: Float64
    noise: Float64
    resolution: float
    phi: Float64
    seen: Bool

    def column(self, q: Float64) -> Int64:
        """Return the nearest columns, also beyond the image."""
        step = (self.q[-1] - self.q[0]) / (len(self.q) - 1)
        return np.asarray(np.rint((q - self.q[0]) / step), np.int64)

    def noise_at(self, q: Float64) -> Float64:
        """Noise at the nearest column, inf outside the image."""
        column = self.column(q)
        inside = (column >= 0) & (column < len(self.q))
        return np.where(inside, self.noise[np.clip(column, 0, len(self.q) - 1)], np.inf)


@dataclass(frozen=True, slots=True)
class ExpectedLines:
    """Lines that can be seen apart, of all structures one after the other: (n,) each.

    owner: index of the structure, not falling; intensity: the structure's strongest = 1
    spread: 1/angstrom, standard deviation of the lines that are seen as one
    """

    q: Float64
    hkl: Int64
    intensity: Float64
    noise: Float64
    owner: Int64
    spread: Float64

    def __len__(self) -> int:
        return len(self.q)

    def of(self, owners: Int64) -> ExpectedLines:
        """Return the lines of some structures, which keep their indices."""
        kept = np.isin(self.owner, owners)
        return ExpectedLines(
            self.q[kept],
            self.hkl[kept],
            self.intensity[kept],
            self.noise[kept],
            self.owner[kept],
            self.spread[kept],
        )


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
        self._owner = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])

    def __len__(self) -> int:
        return len(self.structures)

    def expected(self, visibility: Visibility) -> ExpectedLines:
        """Merge the lines that the frame cannot resolve, drop those where it has no data."""
        visible = np.isfinite(visibility.noise_at(self._q))
        q, intensity, owner = self._q[visible], self._intensity[visible], self._owner[visible]
        hkl = self._hkl[visible]
        if not len(q):
            return ExpectedLines(q, hkl, intensity, q, owner, q)
        gap = np.maximum(visibility.resolution, POSITION_ERROR * q)
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
            noise=visibility.noise_at(centre[kept]),
            owner=whose[kept],
            spread=np.sqrt(variance[kept]),
        )


def _first_of_each(order: Int64, owner: Int64, count: int) -> Int64:
    """Return the first `count` of `order`, which is sorted by owner, for each owner."""
    sorted_owner = owner[order]
    first = np.searchsorted(sorted_owner, sorted_owner)
    return order[np.arange(len(order)) - first < count]


def features_of(peaks: Peaks, visibility: Visibility) -> Features:
    """Group measured peaks by |q|: spots or pieces of one ring are one observation of its q."""
    usable = np.flatnonzero((peaks.snr >= FAINTEST_SNR) & (peaks.q > 0))
    order = usable[np.argsort(peaks.q[usable], kind="stable")]
    groups: list[list[int]] = []
    for index in order.tolist():
        if groups and _one_line(peaks, groups[-1], index, visibility.resolution):
            groups[-1].append(index)
        else:
            groups.append([index])
    members = tuple(np.array(group, np.int64) for group in groups)
    weights = [
        1 / (peaks.q_error[m] ** 2 + (POSITION_ERROR / 3 * peaks.q[m]) ** 2) for m in members
    ]
    positions = [np.average(peaks.q[m], weights=w) for m, w in zip(members, weights, strict=True)]
    seen = visibility.q[np.isfinite(visibility.noise)]
    reach = max(float(seen[-1] - seen[0]), 0.1) if seen.size else np.inf
    return Features(
        q=np.array(positions),
        error=np.array([w.sum() ** -0.5 for w in weights]),
        fwhm=np.array([peaks.fwhm_q[m].max() for m in members]),
        intensity=np.array([_total(peaks, m) for m in members]),
        members=members,
        density=(len(members) + CHANCE_FEATURES) / reach,
    )


def _one_line(peaks: Peaks, group: list[int], index: int, resolution: float) -> bool:
    """Say whether a peak shows the line of a group: pieces and doubles are nearer than a width."""
    q, first = peaks.q[index], group[0]
    error = np.hypot(peaks.q_error[index], peaks.q_error[first])
    if q - peaks.q[first] <= min(np.hypot(POSITION_ERROR * q, 2 * error), resolution):
        return True
    width = max(peaks.fwhm_q[index], float(peaks.fwhm_q[group].max()))
    return bool(q - peaks.q[group].mean() <= ONE_LINE * width)


def _total(peaks: Peaks, group: Int64) -> float:
    """Return the intensity of one line: of boxes over the same phi only the brightest counts."""
    values = np.maximum(peaks.intensity[group], peaks.intensity_error[group])
    total = 0.0
    counted: list[int] = []
    for at in np.argsort(-values):
        index = group[at]
        apart = abs(peaks.phi[counted] - peaks.phi[index])
        if (apart >= 0.5 * (peaks.fwhm_phi[counted] + peaks.fwhm_phi[index])).all():
            counted.append(int(index))
            total += float(values[at])
    return total


def visibility_of(polar: PolarImage, peaks: Peaks) -> Visibility:
    """See from the variance map what a ring must exceed at every q."""
    some = np.s_[:: max(len(polar.phi) // SAMPLED_ROWS, 1)]  # a noise level needs no more
    valid = np.isfinite(polar.intensity[some])
    step_q = float(polar.q[1] - polar.q[0])
    step_phi = float(polar.phi[1] - polar.phi[0])
    width = float(np.median(peaks.fwhm_q)) if len(peaks) else 4 * step_q
    # a ring's sum runs over about twice its width, and the background under it costs as much
    columns = 4 * max(width / step_q, 1.0)
    mean = np.where(valid, polar.variance[some], 0).mean(axis=0, dtype=np.float64)
    noise = np.sqrt(columns * mean * len(polar.phi)) * step_q * step_phi
    enough = valid.mean(axis=0) >= FEWEST_ROWS
    return Visibility(
        q=polar.q,
        noise=np.where(enough, np.maximum(noise, np.finfo(np.float32).tiny), np.inf),
        resolution=0.4 * width,
        phi=polar.phi[some],
        seen=valid,
    )
