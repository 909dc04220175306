"""How strongly the peaks of a frame speak for each structure: Bayes factors over their lines.

All candidates are tried at once: their pairs of line and feature lie in common arrays, so that a
hundred of them cost a few array operations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from gixi_bluesky.processing.match.lines import POSITION_ERROR, ExpectedLines, Features

__all__ = ["STRAIN_SIGMA", "Claims", "LogFactors", "MatchLimits", "Trials", "trials"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

STRAIN_SIGMA = 0.003  # how far lattices usually are from their CIF
SCALE_STEP = 0.002
INTENSITY_SPREAD = 1.0  # in log: texture and absorption change intensities by such a factor
AMOUNTS = 8  # trial amounts of the phase
FOUND_AT_BEST = 0.92  # of strong lines; texture or a detector's lapse hides the others
SNR_HALF_FOUND, SNR_SPREAD = 8.0, 1.0  # half of the lines of this SNR are found; in log
GATE_SIGMAS = 3.5


@dataclass(frozen=True, slots=True)
class MatchLimits:
    """How far lines may lie from where a CIF puts them.

    max_dq: 1/angstrom; max_strain: relative
    zero, zero_sigma: shift that all lines of the frame share and its standard error, 1/angstrom
    """

    max_dq: float
    max_strain: float
    zero: float = 0.0
    zero_sigma: float = 0.0


@dataclass(frozen=True, slots=True)
class Claims:
    """What accepted phases explain of each feature: (n_features,) each.

    intensity: expected from them, 0 = not claimed
    position: density of finding the feature where it is, if it is theirs
    """

    intensity: Float64
    position: Float64

    @classmethod
    def none(cls, n_features: int) -> Claims:
        """Return claims on nothing."""
        return cls(np.zeros(n_features), np.zeros(n_features))

    def where(self, explained: Bool) -> Claims:
        """Return the claims on some features only, (n_features,)."""
        return Claims(self.intensity * explained, self.position * explained)

    def __add__(self, other: Claims) -> Claims:
        """Return what two phases explain together."""
        return Claims(self.intensity + other.intensity, np.maximum(self.position, other.position))


@dataclass(frozen=True, slots=True)
class LogFactors:
    """Natural logs of the Bayes factors, present against absent, given some claims.

    log_factor: (n_structures,); scale, amount: (n_structures,) indices of the likeliest trial
    """

    log_factor: Float64
    scale: Int64
    amount: Int64


@dataclass(frozen=True, slots=True)
class Trials:
    """Structures tried at (s) lattice scales and (k) amounts.

    owners: (c,) indices of the structures tried; slot: (n,) of each line's structure among them
    line, feature: (p,) pairs near enough at some scale, sorted by line
    sigma: (p,) 1/angstrom, standard error of the pair's dq
    position: (s, p) density of finding the line where the feature is, 0 where it is another's
    near: (s, p) whether they are within one FWHM of each other
    off: (p, k) log of the feature's intensity over the line's
    likely: (p, k) density of `off`; other: (p,) density of the feature's intensity if not the line
    found: (n, k) chance that the detector finds the line
    missing: (c, k) summed log of 1 - found over the lines without pairs
    """

    lines: ExpectedLines
    features: Features
    limits: MatchLimits
    owners: Int64
    slot: Int64
    scales: Float64
    log_amount: Float64
    line: Int64
    feature: Int64
    sigma: Float64
    position: Float32
    near: Bool
    off: Float32
    likely: Float32
    other: Float32
    found: Float32
    missing: Float64

    def weigh(self, claims: Claims) -> LogFactors:
        """Weigh each structure's presence, given what accepted phases explain.

        A line multiplies the factor by 1 - d + d g, d being the chance to find it. For a feature
        of unknown origin g is the density of its position and intensity as this line's over that
        as any other's. For a claimed feature g compares the claims with this line on top to the
        claims alone, so that intensity is shared out once. A line within one FWHM of a stronger
        feature cannot be missed: its factor is at least 1. Scale (a Gaussian prior around the
        CIF's) and amount (uniform in log) are integrated over, so that freedom is paid for.
        """
        logs = np.repeat(self.missing[None].astype(np.float64), len(self.scales), axis=0)
        if len(self.line):
            starts = np.flatnonzero(np.diff(self.line, prepend=-1))
            which = self.line[starts]
            gain = np.add.reduceat(self._gain(claims), starts, axis=1)
            chance = self.found[which]
            factor = 1 - chance + chance * gain
            factor = np.where(self._hidden(starts), np.maximum(factor, 1), factor)
            slot = self.slot[which]
            first = np.flatnonzero(np.diff(slot, prepend=-1))
            logs[:, slot[first]] += np.add.reduceat(np.log(factor), first, axis=1)
        prior = -0.5 * ((self.scales - 1) / STRAIN_SIGMA) ** 2
        logs += (prior - np.log(np.exp(prior).sum()))[:, None, None]
        trials_each = len(self.scales) * AMOUNTS
        flat = logs.transpose(1, 0, 2).reshape(len(self.owners), trials_each)
        best = flat.argmax(axis=1) if flat.size else np.zeros(0, np.int64)
        top = flat.max(axis=1, initial=-np.inf)
        total = top + np.log(np.exp(flat - top[:, None]).sum(axis=1)) - np.log(AMOUNTS)
        return LogFactors(total, best // AMOUNTS, best % AMOUNTS)

    def _gain(self, claims: Claims) -> Float32:
        """Return the likelihood ratio of every pair, (s, p, k)."""
        unknown = self.features.density * self.other
        ratio = self.position[:, :, None] * (self.likely / unknown[:, None])
        taken = np.flatnonzero(claims.intensity[self.feature] > 0)
        if len(taken):
            feature = self.feature[taken]
            log_claim = np.log(claims.intensity[feature]).astype(np.float32)[:, None]
            log_seen = np.log(self.features.intensity[feature]).astype(np.float32)[:, None]
            log_line = log_seen - self.off[taken]
            log_both = np.logaddexp(log_claim, log_line)
            share = np.exp(log_line - log_both)
            # a place that is explained is not explained better by a second phase
            best = 1 / (self.sigma[taken] * np.sqrt(2 * np.pi))
            held = np.maximum(claims.position[feature], best).astype(np.float32)[:, None]
            alone = held * _likely(log_seen - log_claim) + unknown[taken, None]
            together = _likely(log_seen - log_both)
            mixed = share * self.position[:, taken, None] + (1 - share) * held
            ratio[:, taken] = mixed * (together / alone) * self.near[:, taken, None]
        return np.asarray(ratio, np.float32)

    def _hidden(self, starts: Int64) -> Bool:
        """Return where a line lies within the width of a stronger feature, (s, lines, k)."""
        hidden = self.near[:, :, None] & (self.off > 0)[None]
        return np.asarray(np.logical_or.reduceat(hidden, starts, axis=1))

    def pairs(self, slot: int, scale: int, amount: int) -> Int64:
        """Return one pair for each line of a structure that has one, the likeliest."""
        own = np.flatnonzero(self.slot[self.line] == slot)
        likelihood = self.position[scale, own] * self.likely[own, amount]
        order = np.lexsort((-likelihood, self.line[own]))
        first = order[np.diff(self.line[own][order], prepend=-1) > 0]
        return own[first[likelihood[first] > 0]]

    def most_matched(self, slot: int, scale: int, likeliest: int) -> int:
        """Return the amount at which most lines of a structure are matched, else the likeliest."""
        counts = [len(self.pairs(slot, scale, amount)) for amount in range(AMOUNTS)]
        return likeliest if counts[likeliest] == max(counts) else int(np.argmax(counts))

    def claims(self, slot: int, scale: int, amount: int) -> Claims:
        """Return what a structure explains at one trial."""
        pairs = self.pairs(slot, scale, amount)
        found = Claims.none(len(self.features))
        feature = self.feature[pairs]
        strength = np.exp(self.log_amount[amount]) * self.lines.intensity[self.line[pairs]]
        np.add.at(found.intensity, feature, strength)
        np.maximum.at(found.position, feature, self.position[scale, pairs])
        return found

    def expected(self, slot: int, amount: int) -> Int64:
        """Return the lines of a structure that a detector finds rather than not."""
        return np.flatnonzero((self.slot == slot) & (self.found[:, amount] > 0.5 * FOUND_AT_BEST))


def trials(
    lines: ExpectedLines, features: Features, limits: MatchLimits, step: float = SCALE_STEP
) -> Trials:
    """Try structures at every lattice scale within the largest strain and at every amount."""
    steps = int(np.ceil(limits.max_strain / step))
    scales = 1 + np.linspace(-limits.max_strain, limits.max_strain, 2 * steps + 1)
    owners, slot = np.unique(lines.owner, return_inverse=True)
    line, feature = _near(lines, features, limits)
    shifted = features.q - limits.zero
    sigma = np.sqrt(
        features.error[feature] ** 2 + (POSITION_ERROR * lines.q[line]) ** 2 + limits.zero_sigma**2
    )
    dq = (shifted[feature] - lines.q[line] / scales[:, None]).astype(np.float32)
    reach = np.minimum(limits.max_dq, GATE_SIGMAS * sigma).astype(np.float32)
    inside = abs(dq) <= reach
    width = sigma.astype(np.float32)
    density = np.exp(-0.5 * (dq / width) ** 2) / (width * np.float32(np.sqrt(2 * np.pi)))
    density = np.where(inside, density, np.float32(0))
    log_amount, off = _amounts(lines, features, line, feature)
    signal = log_amount + np.log(lines.intensity / lines.noise / SNR_HALF_FOUND)[:, None]
    found = (FOUND_AT_BEST * ndtr(signal / SNR_SPREAD)).astype(np.float32)
    paired = np.zeros(len(lines), bool)
    paired[line] = True
    missing = np.zeros((len(owners), AMOUNTS))
    np.add.at(missing, slot[~paired], np.log1p(-found[~paired]).astype(np.float64))
    key = slot[line] * max(len(features), 1) + feature
    return Trials(
        lines=lines,
        features=features,
        limits=limits,
        owners=owners,
        slot=slot,
        scales=scales,
        log_amount=log_amount,
        line=line,
        feature=feature,
        sigma=sigma,
        position=_exclusive(density, density * lines.intensity[line].astype(np.float32), key),
        near=abs(dq) <= np.maximum(features.fwhm[feature], reach).astype(np.float32),
        off=off,
        likely=_likely(off),
        other=_others(features)[feature],
        found=found,
        missing=missing,
    )


def _near(lines: ExpectedLines, features: Features, limits: MatchLimits) -> tuple[Int64, Int64]:
    """Return (line, feature) of all pairs that come within reach at some scale."""
    widest = float(features.fwhm.max(initial=0))
    reach = max(limits.max_dq, widest) + limits.max_strain / (1 - limits.max_strain) * lines.q
    shifted = features.q - limits.zero
    first = np.searchsorted(shifted, lines.q - reach)
    count = np.searchsorted(shifted, lines.q + reach) - first
    line = np.repeat(np.arange(len(lines)), count)
    within = np.arange(len(line)) - np.repeat(np.cumsum(count) - count, count)
    return line, first[line] + within


def _amounts(
    lines: ExpectedLines, features: Features, line: Int64, feature: Int64
) -> tuple[Float64, Float32]:
    """Return the trial amounts (k,) in log, and log of seen over expected intensity (p, k)."""
    faintest = np.log(SNR_HALF_FOUND * np.median(lines.noise)) if len(lines) else 0.0
    log_seen = np.log(features.intensity) if len(features) else np.array([faintest])
    log_amount = np.linspace(min(log_seen.min() - 1, faintest), log_seen.max() + 2, AMOUNTS)
    expected = log_amount + np.log(lines.intensity[line])[:, None]
    if not len(features):
        return log_amount, np.zeros((0, AMOUNTS), np.float32)
    return log_amount, (log_seen[feature][:, None] - expected).astype(np.float32)


def _likely(off: Float32) -> Float32:
    """Return the density of a log intensity that is `off`, 0 beyond the gate."""
    density = np.exp(-0.5 * (off / INTENSITY_SPREAD) ** 2) / INTENSITY_SPREAD
    gate = abs(off) <= GATE_SIGMAS * INTENSITY_SPREAD
    return np.where(gate, density, 0).astype(np.float32)


def _others(features: Features) -> Float32:
    """Return the density of each feature's log intensity among all of the frame."""
    if not len(features):
        return np.zeros(0, np.float32)
    log_seen = np.log(features.intensity)
    spread = max(float(log_seen.std()), INTENSITY_SPREAD)
    return (np.exp(-0.5 * ((log_seen - log_seen.mean()) / spread) ** 2) / spread).astype(np.float32)


def _exclusive(density: Float32, claim: Float32, key: Int64) -> Float32:
    """Keep, at each scale, a feature for its structure's line with the largest claim to it.

    key: (p,) equal for pairs of one structure and one feature
    """
    if not len(key):
        return density
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    counts = np.diff(np.append(starts, len(order)))
    if (counts == 1).all():
        return density
    largest = np.maximum.reduceat(claim[:, order], starts, axis=1)
    limit = np.empty_like(claim)
    limit[:, order] = np.repeat(largest, counts, axis=1)
    return np.where(claim >= limit, density, np.float32(0))
