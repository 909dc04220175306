"""Features of a frame and expected lines of structures, along |q| alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.tables import FIT_FAILED, FWHM_PER_SIGMA, Peaks
from gixi_bluesky.processing.types import PolarImage

__all__ = [
    "POSITION_ERROR",
    "ExpectedLines",
    "Features",
    "Visibility",
    "features_of",
    "visibility_of",
]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

POSITION_ERROR = 0.002  # relative, of one line: geometry and refraction; strain comes on top
CHANCE_FEATURES = 5.0  # peaks of unknown origin to expect besides those seen
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
    """The noise and the visible range that decide where a line can be seen.

    q: (n_q,) axis; noise: (n_q,) error of a whole ring's intensity, inf = no data
    share: (n_q,) of a whole ring that is in view
    resolution: 1/angstrom, lines nearer than this are one peak
    phi: (n_phi,) rows looked at, deg; seen: (n_phi, n_q) where those rows hold data
    """

    q: Float64
    noise: Float64
    share: Float64
    resolution: float
    phi: Float64
    seen: Bool

    def column(self, q: Float64) -> Int64:
        """Return the nearest columns, also beyond the image."""
        step = (self.q[-1] - self.q[0]) / (len(self.q) - 1)
        return np.asarray(np.rint((q - self.q[0]) / step), np.int64)

    def share_at(self, q: Float64) -> Float64:
        """Return the share of a ring in view at the nearest column."""
        return np.asarray(self.share[np.clip(self.column(q), 0, len(self.q) - 1)])

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
    strain: relative, what one scale for all lengths of a cell leaves of its strain
    calculated: chance that the intensity is about the structure's and no texture changes it
    """

    q: Float64
    hkl: Int64
    intensity: Float64
    noise: Float64
    owner: Int64
    spread: Float64
    strain: Float64
    calculated: Float32

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
            self.strain[kept],
            self.calculated[kept],
        )


def features_of(peaks: Peaks, visibility: Visibility) -> Features:
    """Group measured peaks by |q|: spots or pieces of one ring are one observation of its q."""
    usable = np.flatnonzero((peaks.snr >= FAINTEST_SNR) & (peaks.q > 0))
    order = usable[np.argsort(peaks.q[usable], kind="stable")]
    shapes = _PeakShapes.of(peaks)
    groups: list[list[int]] = []
    for index in order.tolist():
        if groups and _one_line(shapes, groups[-1], index, visibility.resolution):
            groups[-1].append(index)
        else:
            groups.append([index])
    members = tuple(np.array(group, np.int64) for group in groups)
    which = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    q = peaks.q[order]
    brightest = np.zeros(len(groups))
    np.maximum.at(brightest, which, peaks.intensity[order])
    weight = np.clip(peaks.intensity[order] / np.maximum(brightest[which], 1e-30), 1e-3, 1)
    # of a failed fit only the box is known
    of_box = np.where(_failed(peaks), peaks.fwhm_q / FWHM_PER_SIGMA, 0.0)
    error = np.maximum(peaks.q_error, of_box)[order]
    weight /= error**2 + (POSITION_ERROR / 3 * q) ** 2
    total = np.bincount(which, weight, len(groups))
    fwhm = np.zeros(len(groups))
    np.maximum.at(fwhm, which, peaks.fwhm_q[order])
    seen = visibility.q[np.isfinite(visibility.noise)]
    reach = max(float(seen[-1] - seen[0]), 0.1) if seen.size else np.inf
    return Features(
        q=np.bincount(which, weight * q, len(groups)) / total,
        error=np.asarray(total**-0.5, np.float64),
        fwhm=fwhm,
        intensity=np.array([_total(peaks, m) for m in members]),
        members=members,
        density=(len(members) + CHANCE_FEATURES) / reach,
    )


@dataclass(frozen=True, slots=True)
class _PeakShapes:
    """Columns of the table of peaks as lists, which are read faster one by one."""

    q: list[float]
    q_error: list[float]
    fwhm_q: list[float]
    phi: list[float]
    fwhm_phi: list[float]
    intensity: list[float]
    failed: list[bool]

    @classmethod
    def of(cls, peaks: Peaks) -> _PeakShapes:
        return cls(
            peaks.q.tolist(),
            peaks.q_error.tolist(),
            peaks.fwhm_q.tolist(),
            peaks.phi.tolist(),
            peaks.fwhm_phi.tolist(),
            peaks.intensity.tolist(),
            _failed(peaks).tolist(),
        )


def _failed(peaks: Peaks) -> Bool:
    return np.asarray((peaks.fit_flags & FIT_FAILED) > 0)


def _one_line(peaks: _PeakShapes, group: list[int], index: int, resolution: float) -> bool:
    """Return whether a peak belongs to the line of a group, nearer than a width as pieces are."""
    q, first = peaks.q[index], group[0]
    error = math.hypot(peaks.q_error[index], peaks.q_error[first])
    if q - peaks.q[first] <= min(math.hypot(POSITION_ERROR * q, 2 * error), resolution):
        return True
    width = max(peaks.fwhm_q[index], *(peaks.fwhm_q[i] for i in group))
    if q - sum(peaks.q[i] for i in group) / len(group) <= ONE_LINE * width:
        return True
    strongest = max(group, key=peaks.intensity.__getitem__)
    if _in_flank(peaks, index, strongest) or _in_flank(peaks, strongest, index):
        return True
    return _failed_beside(peaks, group, index)


def _failed_beside(peaks: _PeakShapes, group: list[int], index: int) -> bool:
    """Return whether a failed fit lies within one FWHM of a peak that was fitted.

    Such a box is a second one on that peak's line and not a line of its own.
    """
    if peaks.failed[index]:
        beside = [i for i in group if not peaks.failed[i]]
    else:
        beside = group if all(peaks.failed[i] for i in group) else []
    return any(
        _share_phi(peaks, i, index)
        and abs(peaks.q[index] - peaks.q[i]) <= max(peaks.fwhm_q[index], peaks.fwhm_q[i])
        for i in beside
    )


def _share_phi(peaks: _PeakShapes, one: int, other: int) -> bool:
    apart = abs(peaks.phi[one] - peaks.phi[other])
    return apart <= 0.5 * (peaks.fwhm_phi[one] + peaks.fwhm_phi[other])


def _in_flank(peaks: _PeakShapes, weak: int, strong: int) -> bool:
    """Return whether a peak is weaker than the flank of another one at its place."""
    if not _share_phi(peaks, weak, strong):
        return False
    apart = (peaks.q[weak] - peaks.q[strong]) / max(peaks.fwhm_q[strong], 1e-9)
    return peaks.intensity[weak] < peaks.intensity[strong] * 2.0 ** (-4 * apart**2)


def _total(peaks: Peaks, group: Int64) -> float:
    """Return the intensity of one line: of boxes over the same phi only the brightest counts.

    A failed fit counts only where no other box lies: its area includes much of its neighbours.
    """
    values = np.maximum(peaks.intensity[group], peaks.intensity_error[group])
    if len(group) == 1:
        return float(values[0])
    total = 0.0
    counted: list[int] = []
    for at in np.lexsort((-values, _failed(peaks)[group])):
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
    share = valid.mean(axis=0)
    return Visibility(
        q=polar.q,
        share=share,
        noise=np.where(share >= FEWEST_ROWS, np.maximum(noise, np.finfo(np.float32).tiny), np.inf),
        resolution=0.4 * width,
        phi=polar.phi[some],
        seen=valid,
    )
