"""How strongly the peaks of a frame speak for one structure: a Bayes factor over its lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from gixi_bluesky.processing.reflections import Lines
from gixi_bluesky.processing.types import Peaks, PolarImage

__all__ = [
    "Evidence",
    "ExpectedLines",
    "Features",
    "Visibility",
    "expected_lines",
    "features_of",
    "visibility_of",
    "weigh",
]

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

POSITION_ERROR = 0.002  # relative, of one line: geometry, refraction; what all share is STRAIN
STRAIN_SIGMA = 0.003  # how far lattices usually are from their CIF
SCALE_STEP = 0.001
INTENSITY_SPREAD = 1.0  # in log: texture and absorption change intensities by such a factor
STRENGTHS = 10  # trial amounts of the phase
FOUND_AT_BEST = 0.92  # of strong lines; texture or a detector's lapse hides the others
SNR_HALF_FOUND, SNR_SPREAD = 8.0, 1.0  # half of the lines of this SNR are found; in log
CHANCE_FEATURES = 5.0  # peaks of unknown origin to expect besides those seen
GATE_SIGMAS = 3.5
MOST_LINES = 40
SAMPLED_ROWS = 128
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


@dataclass(frozen=True, slots=True)
class Evidence:
    """The verdict on one structure.

    log_factor: natural log of the Bayes factor, present against absent
    scale: lattice over the CIF's; scale_error its standard error
    lines, features: (n_matched,) indices of the pairs; n_expected: lines above the noise
    """

    log_factor: float
    scale: float
    scale_error: float
    lines: Int64
    features: Int64
    n_expected: int


def features_of(peaks: Peaks, visibility: Visibility) -> Features:
    """Group measured peaks by |q|: spots of one ring are one observation of its q."""
    usable = np.flatnonzero(np.isfinite(peaks.intensity_error) & (peaks.q > 0))
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


def weigh(
    lines: ExpectedLines,
    features: Features,
    claimed: NDArray[np.bool_],
    max_dq: float,
    max_strain: float,
) -> Evidence:
    """Weigh the structure's presence against peaks of unknown origin.

    Every line multiplies the factor by 1 - d + d·p(found as it was)/density: d is the chance to
    find it, for a trial lattice scale and amount of the phase; a missing strong line costs
    1 - d, a found one gains by how well its q and intensity agree. Scale (a Gaussian prior
    around the CIF's) and amount are integrated over, so that freedom is paid for. A line on a
    claimed feature, one that a surer phase explains, says nothing either way.
    """
    if not len(lines.q) or not len(features.q):
        nothing = np.empty(0, np.int64)
        return Evidence(-np.inf, 1.0, np.nan, nothing, nothing, 0)
    scales = _trial_scales(max_strain)
    position, sigma = _position_likelihood(lines, features, scales, max_dq)
    strengths, amount = _amount_likelihood(lines, features)
    found = FOUND_AT_BEST * ndtr(
        np.log(strengths[:, None] * lines.intensity / lines.noise / SNR_HALF_FOUND) / SNR_SPREAD
    )
    free = np.where(claimed, 0.0, 1 / features.density)
    # (lines, scales, features) by (lines, features, strengths)
    gain = (position * free).transpose(1, 0, 2) @ amount.transpose(1, 2, 0)
    if claimed.any():
        hidden = ((position > 0) & claimed).any(axis=2)
        gain = np.maximum(gain, hidden.T[:, :, None])
    found_by_line = found.T[:, None, :]
    prior = -0.5 * ((scales - 1) / STRAIN_SIGMA) ** 2
    logs = np.log1p(found_by_line * (gain - 1)).sum(axis=0) + (prior - _log_sum(prior))[:, None]
    log_factor = float(_log_sum(logs.ravel()) - np.log(len(strengths)))
    best, strength = np.unravel_index(np.argmax(logs), logs.shape)
    line, feature = _pairs(position[best] * amount[strength])
    scale, scale_error = _refined(lines.q[line], features.q[feature], sigma[line, feature])
    if len(line) and abs(scale - 1) > max_strain:
        scale = float(scales[best])
    strong = np.flatnonzero(found[strength] > 0.5 * FOUND_AT_BEST)
    n_expected = len(np.union1d(strong, line))
    return Evidence(log_factor, scale, scale_error, line, feature, n_expected)


def _trial_scales(max_strain: float) -> Float64:
    steps = int(np.ceil(max_strain / SCALE_STEP))
    return 1 + np.linspace(-max_strain, max_strain, 2 * steps + 1)


def _position_likelihood(
    lines: ExpectedLines, features: Features, scales: Float64, max_dq: float
) -> tuple[Float64, Float64]:
    """(scales, lines, features) density of finding the line there, and its width.

    A feature serves one line, the one it most likely is.
    """
    expected = lines.q / scales[:, None]
    dq = features.q - expected[:, :, None]
    sigma = np.hypot(features.error, POSITION_ERROR * lines.q[:, None])
    z = dq / sigma
    near = (np.abs(dq) <= max_dq) & (np.abs(z) <= GATE_SIGMAS)
    density = np.where(near, np.exp(-0.5 * z * z), 0) / (sigma * np.sqrt(2 * np.pi))
    claim = density * lines.intensity[:, None]
    return np.where(claim >= claim.max(axis=1, keepdims=True), density, 0.0), sigma


def _amount_likelihood(lines: ExpectedLines, features: Features) -> tuple[Float64, Float64]:
    """Trial strengths (k,), and (k, lines, features) likelihood ratio of the intensities."""
    log_seen = np.log(features.intensity)
    low, high = log_seen.min() - 1, log_seen.max() + 2
    log_strength = np.linspace(low, high, STRENGTHS)
    usual, spread = log_seen.mean(), max(float(log_seen.std()), INTENSITY_SPREAD)
    off = log_seen - log_strength[:, None, None] - np.log(lines.intensity)[:, None]
    as_line = np.exp(-0.5 * (off / INTENSITY_SPREAD) ** 2) / INTENSITY_SPREAD
    as_other = np.exp(-0.5 * ((log_seen - usual) / spread) ** 2) / spread
    return np.exp(log_strength), as_line / as_other


def _pairs(likelihood: Float64) -> tuple[Int64, Int64]:
    """Return lines and features that choose each other."""
    choice = likelihood.argmax(axis=1)
    lines = np.flatnonzero(likelihood[np.arange(len(likelihood)), choice] > 0)
    return lines, choice[lines]


def _refined(expected: Float64, observed: Float64, sigma: Float64) -> tuple[float, float]:
    """Return the lattice scale by weighted least squares of q·scale = q of the CIF."""
    if not len(expected):
        return 1.0, np.nan
    weight = (observed / sigma) ** 2
    ratio = expected / observed
    scale = float(np.average(ratio, weights=weight))
    stated = weight.sum() ** -0.5
    if len(expected) > 2:
        scatter = np.sqrt(np.average((ratio - scale) ** 2, weights=weight) / (len(expected) - 1))
        return scale, float(max(scatter, 0.1 * stated))
    return scale, float(stated)


def _log_sum(logs: Float64) -> float:
    top = logs.max()
    return float(top + np.log(np.exp(logs - top).sum()))
