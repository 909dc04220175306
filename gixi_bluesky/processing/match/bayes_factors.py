"""How strongly the peaks of a frame speak for one structure: a Bayes factor over its lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from gixi_bluesky.processing.match.lines import POSITION_ERROR, ExpectedLines, Features

__all__ = ["Evidence", "Trials", "trials"]

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

STRAIN_SIGMA = 0.003  # how far lattices usually are from their CIF
SCALE_STEP = 0.001
INTENSITY_SPREAD = 1.0  # in log: texture and absorption change intensities by such a factor
AMOUNTS = 10  # trial amounts of the phase
FOUND_AT_BEST = 0.92  # of strong lines; texture or a detector's lapse hides the others
SNR_HALF_FOUND, SNR_SPREAD = 8.0, 1.0  # half of the lines of this SNR are found; in log
GATE_SIGMAS = 3.5
MOST_SURPLUS = 2.0  # in log; a feature that much too intense may hide another phase's line


@dataclass(frozen=True, slots=True)
class Evidence:
    """The verdict on one structure.

    log_factor: natural log of the Bayes factor, present against absent
    scale: lattice over the CIF's; scale_error its standard error
    lines, features: (n_matched,) indices of the pairs; n_expected: lines above the noise
    explained: indices of the features that are not far too intense to be these lines alone
    """

    log_factor: float
    scale: float
    scale_error: float
    lines: Int64
    features: Int64
    explained: Int64
    n_expected: int


@dataclass(frozen=True, slots=True)
class Trials:
    """One structure tried at (s) lattice scales and (k) amounts, before any peak is claimed.

    line, feature: (p,) pairs near enough at some scale, sorted by line
    sigma: (p,) 1/angstrom, standard error of the pair's dq
    position: (s, p) density of finding the line where the feature is, 0 where it is another's
    surplus: (p, k) log of the feature's intensity over the line's
    amount: (p, k) likelihood of the feature's intensity, as the line's against as any other's
    found: (n, k) chance that the detector finds the line
    """

    lines: ExpectedLines
    features: Features
    scales: Float64
    line: Int64
    feature: Int64
    sigma: Float64
    position: Float64
    surplus: Float64
    amount: Float64
    found: Float64

    def weigh(self, claimed: NDArray[np.bool_]) -> Evidence:
        """Weigh the structure's presence against peaks of unknown origin.

        Every line multiplies the factor by 1 - d + d·p(found as it was)/density, d being the
        chance to find it: a missing strong line costs 1 - d, a found one gains by how well its
        q and intensity agree. Scale (a Gaussian prior around the CIF's) and amount are
        integrated over, so that freedom is paid for. A line on a claimed feature, one that a
        surer phase explains, says nothing either way. Without any found line the factor is 0.
        """
        if not len(self.line):
            logs = np.log1p(-self.found).sum(axis=0)[None, :] + np.zeros((len(self.scales), 1))
        else:
            logs = np.log1p(self.found * (self._gain(claimed) - 1)).sum(axis=1)
        prior = -0.5 * ((self.scales - 1) / STRAIN_SIGMA) ** 2
        logs = logs + (prior - _log_sum(prior))[:, None]
        best, strength = np.unravel_index(np.argmax(logs), logs.shape)
        pairs = self._pairs(int(best), int(strength))
        scale, scale_error = _refined(
            self.lines.q[self.line[pairs]],
            self.features.q[self.feature[pairs]],
            self.sigma[pairs],
        )
        within = pairs[self.surplus[pairs, int(strength)] < MOST_SURPLUS]
        strong = np.flatnonzero(self.found[:, int(strength)] > 0.5 * FOUND_AT_BEST)
        log_factor = float(_log_sum(logs.ravel()) - np.log(logs.shape[1]))
        return Evidence(
            log_factor=log_factor if len(pairs) else -np.inf,
            scale=float(np.clip(scale, self.scales[0], self.scales[-1])),
            scale_error=scale_error,
            lines=self.line[pairs],
            features=self.feature[pairs],
            explained=self.feature[within],
            n_expected=len(np.union1d(strong, self.line[pairs])),
        )

    def _gain(self, claimed: NDArray[np.bool_]) -> Float64:
        """(s, n, k) likelihood ratio of a found line; 0 where nothing is near."""
        ratio = self.position[:, :, None] * self.amount / self.features.density
        taken = claimed[self.feature]
        if taken.any():
            ratio[:, taken] = self.position[:, taken, None] > 0
        starts = np.flatnonzero(np.diff(self.line, prepend=-1))
        gain = np.zeros((len(self.scales), *self.found.shape))
        gain[:, self.line[starts]] = np.add.reduceat(ratio, starts, axis=1)
        return gain

    def _pairs(self, scale: int, strength: int) -> Int64:
        """Return one pair for each line that has one, the likeliest."""
        likelihood = self.position[scale] * self.amount[:, strength]
        order = np.lexsort((-likelihood, self.line))
        first = order[np.diff(self.line[order], prepend=-1) > 0]
        return first[likelihood[first] > 0]


def trials(lines: ExpectedLines, features: Features, max_dq: float, max_strain: float) -> Trials:
    """Try a structure at every lattice scale within ±max_strain and at every amount."""
    steps = int(np.ceil(max_strain / SCALE_STEP))
    scales = 1 + np.linspace(-max_strain, max_strain, 2 * steps + 1)
    reach = max_dq + max_strain / (1 - max_strain) * lines.q
    line, feature = np.nonzero(abs(lines.q[:, None] - features.q) <= reach[:, None])
    sigma = np.hypot(features.error[feature], POSITION_ERROR * lines.q[line])
    dq = features.q[feature] - lines.q[line] / scales[:, None]
    near = (abs(dq) <= max_dq) & (abs(dq) <= GATE_SIGMAS * sigma)
    density = np.where(near, np.exp(-0.5 * (dq / sigma) ** 2), 0) / (sigma * np.sqrt(2 * np.pi))
    log_seen = np.log(features.intensity) if len(features.q) else np.zeros(1)
    log_amount = np.linspace(log_seen.min() - 1, log_seen.max() + 2, AMOUNTS)
    spread = max(float(log_seen.std()), INTENSITY_SPREAD)
    seen = log_seen[feature][:, None]
    off = seen - log_amount - np.log(lines.intensity[line])[:, None]
    like = abs(off) <= GATE_SIGMAS * INTENSITY_SPREAD
    as_line = np.where(like, np.exp(-0.5 * (off / INTENSITY_SPREAD) ** 2), 0) / INTENSITY_SPREAD
    as_other = np.exp(-0.5 * ((seen - log_seen.mean()) / spread) ** 2) / spread
    signal = log_amount + np.log(lines.intensity / lines.noise / SNR_HALF_FOUND)[:, None]
    return Trials(
        lines=lines,
        features=features,
        scales=scales,
        line=line,
        feature=feature,
        sigma=sigma,
        position=_exclusive(density, density * lines.intensity[line], feature),
        surplus=off,
        amount=as_line / as_other,
        found=FOUND_AT_BEST * ndtr(signal / SNR_SPREAD),
    )


def _exclusive(density: Float64, claim: Float64, feature: Int64) -> Float64:
    """Keep, at each scale, a feature for the line with the largest claim to it."""
    if not len(feature):
        return density
    order = np.argsort(feature, kind="stable")
    starts = np.flatnonzero(np.diff(feature[order], prepend=-1))
    largest = np.maximum.reduceat(claim[:, order], starts, axis=1)
    counts = np.diff(np.append(starts, len(order)))
    limit = np.empty_like(claim)
    limit[:, order] = np.repeat(largest, counts, axis=1)
    return np.where(claim >= limit, density, 0.0)


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
