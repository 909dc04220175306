"""Bayes factors of each structure, present against absent, from the peaks of a frame.

All candidates are tried at once: their pairs of line and feature lie in common arrays, so that a
hundred of them cost a few array operations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from gixi_bluesky.processing.match.line_pairs import (
    GATE_SIGMAS,
    LinePairs,
    MatchLimits,
    Place,
    line_pairs,
)
from gixi_bluesky.processing.match.lines import ExpectedLines, Features

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


@dataclass(frozen=True, slots=True)
class Claims:
    """The part of each feature that accepted phases explain: (n_features,) each.

    intensity: expected from them, 0 = not claimed
    position: density of finding the feature where it is, if it is theirs
    """

    intensity: Float64
    position: Float64

    @classmethod
    def none(cls, n_features: int) -> Claims:
        """Return claims on nothing."""
        return cls(np.zeros(n_features), np.zeros(n_features))

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

    owners: (c,) indices of the structures tried; slot: (n,) of each line's structure, -1 = not
        among them; bounds: (c + 1,) of each structure's pairs
    pairs_of: (e,) pairs; starts: (g,) where the pairs of one line at one scale start
    found: (k, n) chance that the detector finds the line; log_missed: (k, n) log of 1 - found
    other: (f,) density of each feature's log intensity if it is no line of the structure
    alone: (c, s, k) log Bayes factors of the trials without claims; gained: (k, g) the part of the
        pairs in it, over that of a line that is not found
    """

    lines: ExpectedLines
    features: Features
    limits: MatchLimits
    owners: Int64
    slot: Int64
    bounds: Int64
    scales: Float64
    log_amount: Float64
    pairs_of: LinePairs
    starts: Int64
    found: Float32
    log_missed: Float32
    other: Float32
    alone: Float64
    gained: Float32

    @property
    def line(self) -> Int64:
        """(e,) index of each pair's line."""
        return self.pairs_of.line

    @property
    def feature(self) -> Int64:
        """(e,) index of each pair's feature."""
        return self.pairs_of.feature

    @property
    def sigma(self) -> Float32:
        """(e,) standard error of each pair's distance, 1/angstrom."""
        return self.pairs_of.sigma

    def of(self, slots: Int64) -> Trials:
        """Return the trials of some structures, in rising order; their lines keep their indices."""
        place = np.full(len(self.owners) + 1, -1)
        place[slots] = np.arange(len(slots))
        own = place[self.slot[self.line]] >= 0
        group = np.zeros(len(own), bool)
        group[self.starts] = True
        kept_groups = own[self.starts]
        counts = np.diff(self.bounds)[slots]
        return replace(
            self,
            owners=self.owners[slots],
            slot=place[self.slot],
            bounds=np.concatenate([[0], np.cumsum(counts)]),
            pairs_of=self.pairs_of.kept(own),
            starts=np.flatnonzero(group[own]),
            alone=self.alone[slots],
            gained=self.gained[:, kept_groups],
        )

    def weigh(self, claims: Claims) -> LogFactors:
        """Weigh each structure's presence, given what accepted phases explain.

        A line multiplies the factor by 1 - d + d g, d being the chance to find it. For a feature
        of unknown origin g is the density of its position and intensity as this line's over that
        as any other's. For a claimed feature g compares the claims with this line on top to the
        claims alone, so that intensity is shared out once. A line within one FWHM of a stronger
        feature cannot be missed: its factor is at least 1. Scale (a Gaussian prior around the
        CIF's) and amount (uniform in log) are integrated over, so that freedom is paid for.
        """
        logs = self.alone
        claimed = claims.intensity[self.feature] > 0
        if claimed.any():
            logs = logs + self._changed(claims, claimed)
        return self._summed(logs)

    def weigh_found(self) -> LogFactors:
        """Weigh without claims as if a texture had hidden each line that reduces the odds."""
        line, scale = self.line[self.starts], self.pairs_of.scale[self.starts]
        gained = np.maximum(self.gained + self.log_missed[:, line], 0)
        prior = _strain_prior(self.scales)[:, None]
        return self._summed(_by_trial(gained, line, scale, self.slot, self.alone.shape) + prior)

    def _summed(self, logs: Float64) -> LogFactors:
        """Integrate over scale and amount; logs: (c, s, k)."""
        if not logs.size:
            nothing = np.zeros(0, np.int64)
            return LogFactors(np.zeros(0), nothing, nothing)
        flat = logs.reshape(len(self.owners), -1)
        best = flat.argmax(axis=1)
        top = flat[np.arange(len(flat)), best]
        total = top + np.log(np.exp(flat - top[:, None]).sum(axis=1)) - np.log(AMOUNTS)
        return LogFactors(total, best // AMOUNTS, best % AMOUNTS)

    def _changed(self, claims: Claims, claimed: Bool) -> Float64:
        """Return by how much claims change the factors, (c, s, k)."""
        group = np.repeat(np.arange(len(self.starts)), np.diff(self.starts, append=len(claimed)))
        touched = np.zeros(len(self.starts), bool)
        touched[group[claimed]] = True
        chosen = np.flatnonzero(touched[group])
        part = self.pairs_of.kept(chosen)
        off = _off(self.lines, self.features, self.log_amount, part)
        ratio = _ratio(part, off, self.features.density * self.other[part.feature])
        taken = np.flatnonzero(claimed[chosen])
        ratio[:, taken] = self._shared(claims, part, off, taken)
        starts = np.searchsorted(chosen, self.starts[touched])
        gained = _gained(part, starts, off, ratio, self.found, self.log_missed)
        return _by_trial(
            gained - self.gained[:, touched],
            part.line[starts],
            part.scale[starts],
            self.slot,
            self.alone.shape,
        )

    def _shared(self, claims: Claims, part: LinePairs, off: Float32, taken: Int64) -> Float32:
        """Return the likelihood ratios of pairs on claimed features, (k, t)."""
        feature = part.feature[taken]
        unknown = self.features.density * self.other[feature]
        log_claim = np.log(claims.intensity[feature]).astype(np.float32)
        log_seen = np.log(self.features.intensity[feature]).astype(np.float32)
        log_line = log_seen - off[:, taken]
        log_both = np.logaddexp(log_claim, log_line)
        share = np.exp(log_line - log_both)
        # a place that is explained is not explained better by a second phase
        best = 1 / (part.sigma[taken] * np.float32(np.sqrt(2 * np.pi)))
        held = np.maximum(claims.position[feature], best).astype(np.float32)
        alone = held * _likely(log_seen - log_claim) + unknown
        together = _likely(log_seen - log_both)
        mixed = share * np.minimum(part.position[taken], held) + (1 - share) * held
        return np.asarray(mixed * (together / alone), np.float32)

    def pairs(self, slot: int, scale: int, amount: int) -> Int64:
        """Return one pair for each line of a structure that has one, the likeliest."""
        own, likelihood = self._likelihoods(slot, scale)
        return _best_of_lines(own, self.line[own], likelihood[amount])

    def most_matched(self, slot: int, scale: int, likeliest: int) -> int:
        """Return the amount at which most lines of a structure are matched, else the likeliest."""
        own, likelihood = self._likelihoods(slot, scale)
        starts = np.flatnonzero(_first_of_runs(self.line[own]))
        if not len(starts):
            return likeliest
        counts = np.logical_or.reduceat(likelihood > 0, starts, axis=1).sum(axis=1)
        return likeliest if counts[likeliest] == counts.max() else int(counts.argmax())

    def _likelihoods(self, slot: int, scale: int) -> tuple[Int64, Float32]:
        """Return the (e,) pairs of one structure at one scale, and their likelihoods (k, e)."""
        first, last = self.bounds[slot], self.bounds[slot + 1]
        own = first + np.flatnonzero(self.pairs_of.scale[first:last] == scale)
        part = self.pairs_of.kept(own)
        off = _off(self.lines, self.features, self.log_amount, part)
        return own, part.position * _likely(off)

    def claims(self, slot: int, scale: int, amount: int) -> Claims:
        """Return what a structure explains at one trial."""
        pairs = self.pairs(slot, scale, amount)
        pairs = pairs[self.pairs_of.explains[pairs]]
        found = Claims.none(len(self.features))
        feature = self.feature[pairs]
        strength = np.exp(self.log_amount[amount]) * self.lines.intensity[self.line[pairs]]
        np.add.at(found.intensity, feature, strength)
        np.maximum.at(found.position, feature, self.pairs_of.position[pairs].astype(np.float64))
        return found

    def expected(self, slot: int, amount: int) -> Int64:
        """Return the lines of a structure that a detector finds rather than not."""
        likely = self.found[amount] > 0.5 * FOUND_AT_BEST
        return np.flatnonzero((self.slot == slot) & likely)


def trials(
    lines: ExpectedLines, features: Features, limits: MatchLimits, place: Place | None = None
) -> Trials:
    """Try structures at every lattice scale within the largest strain and at every amount.

    place: as in `line_pairs`
    """
    steps = int(np.ceil(limits.max_strain / SCALE_STEP))
    scales = 1 + np.linspace(-limits.max_strain, limits.max_strain, 2 * steps + 1)
    first = np.flatnonzero(_first_of_runs(lines.owner))
    owners = lines.owner[first]
    slot = np.repeat(np.arange(len(owners)), np.diff(first, append=len(lines)))
    pairs = line_pairs(lines, slot, features, limits, scales, place)
    log_amount = _amounts(lines, features)
    signal = log_amount[:, None] + np.log(lines.intensity / lines.noise / SNR_HALF_FOUND)
    found = (FOUND_AT_BEST * ndtr(signal / SNR_SPREAD)).astype(np.float32)
    log_missed = np.log1p(-found)
    alone = np.add.reduceat(log_missed, first, axis=1, dtype=np.float64) if len(first) else signal
    alone = alone.T[:, None, :] + _strain_prior(scales)[:, None]
    key = pairs.line * len(scales) + pairs.scale
    starts = np.flatnonzero(_first_of_runs(key))
    other = _others(features)
    off = _off(lines, features, log_amount, pairs)
    ratio = _ratio(pairs, off, features.density * other[pairs.feature])
    gained = _gained(pairs, starts, off, ratio, found, log_missed)
    alone = alone + _by_trial(gained, pairs.line[starts], pairs.scale[starts], slot, alone.shape)
    return Trials(
        lines=lines,
        features=features,
        limits=limits,
        owners=owners,
        slot=slot,
        bounds=np.searchsorted(slot[pairs.line], np.arange(len(owners) + 1)),
        scales=scales,
        log_amount=log_amount,
        pairs_of=pairs,
        starts=starts,
        found=found,
        log_missed=log_missed,
        other=other,
        alone=alone,
        gained=gained,
    )


def _strain_prior(scales: Float64) -> Float64:
    prior = -0.5 * ((scales - 1) / STRAIN_SIGMA) ** 2
    return np.asarray(prior - np.log(np.exp(prior).sum()))


def _amounts(lines: ExpectedLines, features: Features) -> Float64:
    """Return the logs of the trial amounts, (k,)."""
    faintest = np.log(SNR_HALF_FOUND * np.median(lines.noise)) if len(lines) else 0.0
    log_seen = np.log(features.intensity) if len(features) else np.array([faintest])
    return np.linspace(min(log_seen.min() - 1, faintest), log_seen.max() + 2, AMOUNTS)


def _off(
    lines: ExpectedLines, features: Features, log_amount: Float64, pairs: LinePairs
) -> Float32:
    """Return the log of seen over expected intensity of every pair, (k, e)."""
    log_seen = np.log(features.intensity)[pairs.feature] - np.log(lines.intensity)[pairs.line]
    return log_seen.astype(np.float32) - log_amount.astype(np.float32)[:, None]


def _ratio(pairs: LinePairs, off: Float32, unknown: Float32) -> Float32:
    """Return the likelihood ratio of every pair on a feature of unknown origin, (k, e)."""
    return np.asarray(_likely(off) * (pairs.position / unknown), np.float32)


def _gained(
    pairs: LinePairs, starts: Int64, off: Float32, ratio: Float32, found: Float32, missed: Float32
) -> Float32:
    """Return the log factor of each line at each scale over that of a missing line, (k, g)."""
    if not len(starts):
        return np.zeros((AMOUNTS, 0), np.float32)
    line = pairs.line[starts]
    chance = found[:, line]
    total, hidden = ratio[:, starts], off[:, starts] > 0
    count = np.diff(starts, append=ratio.shape[1])
    for number in range(1, int(count.max())):  # few lines have more than one feature in reach
        several = np.flatnonzero(count > number)
        further = starts[several] + number
        total[:, several] += ratio[:, further]
        hidden[:, several] |= off[:, further] > 0
    factor = 1 - chance + chance * total
    factor = np.where(hidden, np.maximum(factor, 1), factor)
    return np.asarray(np.log(factor) - missed[:, line], np.float32)


def _by_trial(
    gained: Float32, line: Int64, scale: Int64, slot: Int64, shape: tuple[int, ...]
) -> Float64:
    """Sum the factors of lines over structures, (c, s, k)."""
    n_slots, n_scales, _ = shape
    key = slot[line] * n_scales + scale
    sums = [np.bincount(key, row, n_slots * n_scales) for row in gained]
    return np.asarray(np.stack(sums, axis=1).reshape(shape), np.float64)


def _best_of_lines(pairs: Int64, line: Int64, likelihood: Float32) -> Int64:
    """Return the likeliest of the pairs of each line; line: not falling."""
    order = np.lexsort((-likelihood, line))
    first = order[_first_of_runs(line)]
    return pairs[first[likelihood[first] > 0]]


def _first_of_runs(values: Int64) -> Bool:
    """Return where a value differs from the one before, (n,)."""
    first = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return first


def _likely(off: Float32) -> Float32:
    """Return the density of a log intensity that is `off`, 0 beyond the gate."""
    density = np.exp(np.float32(-0.5 / INTENSITY_SPREAD**2) * off * off)
    density *= np.float32(1 / INTENSITY_SPREAD)
    density[abs(off) > GATE_SIGMAS * INTENSITY_SPREAD] = 0
    return density


def _others(features: Features) -> Float32:
    """Return the density of each feature's log intensity among all of the frame."""
    if not len(features):
        return np.zeros(0, np.float32)
    log_seen = np.log(features.intensity)
    spread = max(float(log_seen.std()), INTENSITY_SPREAD)
    return (np.exp(-0.5 * ((log_seen - log_seen.mean()) / spread) ** 2) / spread).astype(np.float32)
