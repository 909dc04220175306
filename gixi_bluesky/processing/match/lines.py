"""What a frame shows and what a structure should show in it, along |q| alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.structures.reflections import Lines
from gixi_bluesky.processing.types import Peaks, PolarImage

__all__ = [
    "POSITION_ERROR",
    "ExpectedLines",
    "Features",
    "Visibility",
    "expected_lines",
    "features_of",
    "visibility_of",
]

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

POSITION_ERROR = 0.002  # relative, of one line: geometry and refraction; strain comes on top
CHANCE_FEATURES = 5.0  # peaks of unknown origin to expect besides those seen
MOST_LINES = 40
SAMPLED_ROWS = 128
FAINTEST_SNR = 2.0  # below it a box is no evidence
FEWEST_ROWS = 0.03  # of the rows must hold data for a line to be expected there


@dataclass(frozen=True, slots=True)
class Features:
    """Peaks of one |q|, whatever their phi: (n,) each, sorted by q.

    q, error: 1/angstrom; intensity: summed; members: the peaks' indices
    density: distinct q per 1/angstrom that unknown phases may bring
    """

    q: Float64
    error: Float64
    intensity: Float64
    members: tuple[Int64, ...]
    density: float


@dataclass(frozen=True, slots=True)
class Visibility:
    """Where a line can be seen, and what it must exceed.

    q: (n_q,) axis; noise: (n_q,) error of a whole ring's intensity, inf = no data
    resolution: 1/angstrom, lines nearer than this are one peak
    """

    q: Float64
    noise: Float64
    resolution: float

    def noise_at(self, q: Float64) -> Float64:
        """Noise at the nearest column, inf outside the image."""
        step = (self.q[-1] - self.q[0]) / (len(self.q) - 1)
        column = np.rint((q - self.q[0]) / step).astype(int)
        inside = (column >= 0) & (column < len(self.q))
        return np.where(inside, self.noise[np.clip(column, 0, len(self.q) - 1)], np.inf)


@dataclass(frozen=True, slots=True)
class ExpectedLines:
    """Lines of a structure that can be seen apart: (n,) each; intensity, strongest = 1."""

    q: Float64
    hkl: Int64
    intensity: Float64
    noise: Float64


def features_of(peaks: Peaks, visibility: Visibility) -> Features:
    """Group measured peaks by |q|: spots of one ring are one observation of its q."""
    usable = np.flatnonzero((peaks.snr >= FAINTEST_SNR) & (peaks.q > 0))
    order = usable[np.argsort(peaks.q[usable], kind="stable")]
    groups: list[list[int]] = []
    for index in order:
        q, error = peaks.q[index], peaks.q_error[index]
        if groups:
            first = groups[-1][0]
            apart = np.hypot(POSITION_ERROR * q, 2 * np.hypot(error, peaks.q_error[first]))
            if q - peaks.q[first] <= min(apart, visibility.resolution):
                groups[-1].append(int(index))
                continue
        groups.append([int(index)])
    members = tuple(np.array(group, np.int64) for group in groups)
    weights = [
        1 / (peaks.q_error[m] ** 2 + (POSITION_ERROR / 3 * peaks.q[m]) ** 2) for m in members
    ]
    seen = visibility.q[np.isfinite(visibility.noise)]
    reach = max(float(seen[-1] - seen[0]), 0.1) if seen.size else np.inf
    return Features(
        q=np.array(
            [np.average(peaks.q[m], weights=w) for m, w in zip(members, weights, strict=True)]
        ),
        error=np.array([w.sum() ** -0.5 for w in weights]),
        intensity=np.array(
            [np.maximum(peaks.intensity[m], peaks.intensity_error[m]).sum() for m in members]
        ),
        members=members,
        density=(len(members) + CHANCE_FEATURES) / reach,
    )


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
    )


def expected_lines(lines: Lines, visibility: Visibility) -> ExpectedLines:
    """Merge the lines that the frame cannot tell apart, drop those where it has no data."""
    visible = np.isfinite(visibility.noise_at(lines.q))
    q, intensity, hkl = lines.q[visible], lines.intensity[visible], lines.hkl[visible]
    if not len(q):
        return ExpectedLines(q, hkl, intensity, q)
    gap = np.maximum(visibility.resolution, POSITION_ERROR * q)
    starts = np.flatnonzero(np.append(True, np.diff(q) > gap[1:]))
    total = np.add.reduceat(intensity, starts)
    centre = np.add.reduceat(intensity * q, starts) / total
    group = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(q))))
    strongest = np.lexsort((-intensity, group))[starts]
    kept = np.sort(np.argsort(-total, kind="stable")[:MOST_LINES])
    centre, total = centre[kept], total[kept]
    return ExpectedLines(
        q=centre,
        hkl=hkl[strongest[kept]],
        intensity=total / total.max(),
        noise=visibility.noise_at(centre),
    )
