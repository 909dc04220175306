"""Bayes factors of each structure, present against absent, from the peaks of a frame.

All candidates are tried at once: their pairs of line and feature lie in common arrays, so that a
hundred of them cost a few array operations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from gixi_bluesky.processing.match.line_groups import LineGroups, first_of_runs
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
CALCULATED_SPREAD = 0.3  # in log, of the intensities that they leave as calculated
AMOUNTS = 16  # trial amounts of the phase
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
        among them; own_lines: (c, 2) first line of each structure and the one after its last
    found: (n, k) chance that the detector finds the line
    groups: of pairs of one line at one scale; chance: (g, k) as `found`; least: (g, k) 1 where a
        line lies in a stronger feature, else 0
    off: (p, k) log of seen over expected intensity; unknown: (p,) density of a feature's position
        and intensity if it is of unknown origin; ratio: (p, k) density of the intensity over it
    log_factor: (g, k) without claims; alone: (s, c, k) log factors of the trials without claims
    """

    lines: ExpectedLines
    features: Features
    limits: MatchLimits
    owners: Int64
    slot: Int64
    own_lines: Int64
    scales: Float64
    log_amount: Float64
    found: Float32
    pairs_of: LinePairs
    groups: LineGroups
    chance: Float32
    least: Float32
    off: Float32
    unknown: Float32
    ratio: Float32
    log_factor: Float32
    alone: Float64

    def line_of(self, pairs: Int64) -> Int64:
        """Return the lines of some pairs."""
        return self.pairs_of.line[self.pairs_of.couple[pairs]]

    def feature_of(self, pairs: Int64) -> Int64:
        """Return the features of some pairs."""
        return self.pairs_of.feature[self.pairs_of.couple[pairs]]

    def sigma_of(self, pairs: Int64) -> Float32:
        """Return the standard errors of the distances of some pairs, 1/angstrom."""
        return self.pairs_of.sigma[self.pairs_of.couple[pairs]]

    def of(self, slots: Int64) -> Trials:
        """Return the trials of some structures, in rising order; their lines keep their indices."""
        place = np.full(len(self.owners) + 1, -1)
        place[slots] = np.arange(len(slots))
        slot = place[self.slot]
        couples = slot[self.pairs_of.line] >= 0
        pairs, own = self.pairs_of.kept(couples)
        groups = own[self.groups.starts]
        return replace(
            self,
            owners=self.owners[slots],
            slot=slot,
            own_lines=self.own_lines[slots],
            pairs_of=pairs,
            groups=LineGroups.of(pairs, slot, (len(self.scales), len(slots))),
            chance=self.chance[groups],
            least=self.least[groups],
            off=self.off[couples],
            unknown=self.unknown[couples],
            ratio=self.ratio[couples],
            log_factor=self.log_factor[groups],
            alone=self.alone[:, slots],
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
        claimed = np.flatnonzero(claims.intensity[self.pairs_of.feature] > 0)
        if not len(claimed):
            return self._summed(self.alone)
        couple, ratio = self.pairs_of.couple, self.ratio.copy()
        level = np.zeros_like(ratio)
        held = np.full(len(ratio), np.inf, np.float32)
        ratio[claimed], level[claimed], held[claimed] = self._shared(claims, claimed)
        position = np.minimum(self.pairs_of.position, held[couple])
        of_pairs = ratio.take(couple, axis=0)
        of_pairs *= position[:, None]
        of_pairs += level.take(couple, axis=0)
        changed = _log_factor(self.groups, of_pairs, self.chance, self.least) - self.log_factor
        return self._summed(self.alone + self.groups.over_lines(changed, self.alone.shape))

    def weigh_found(self) -> LogFactors:
        """Weigh without claims as if a texture had hidden each line that reduces the odds."""
        gained = self.groups.over_lines(np.maximum(self.log_factor, 0), self.alone.shape)
        return self._summed(gained + _strain_prior(self.scales)[:, None, None])

    def _summed(self, logs: Float64) -> LogFactors:
        """Integrate over scale and amount; logs: (s, c, k)."""
        if not logs.size:
            nothing = np.zeros(0, np.int64)
            return LogFactors(np.zeros(0), nothing, nothing)
        flat = logs.transpose(1, 0, 2).reshape(len(self.owners), -1)
        best = flat.argmax(axis=1)
        top = flat[np.arange(len(flat)), best]
        total = top + np.log(np.exp(flat - top[:, None]).sum(axis=1)) - np.log(AMOUNTS)
        return LogFactors(total, best // AMOUNTS, best % AMOUNTS)

    def _shared(self, claims: Claims, couples: Int64) -> tuple[Float32, Float32, Float32]:
        """Return ratio, level and held of couples of claimed features, (t, k), (t, k) and (t,).

        The likelihood ratio of a pair is ratio * min(position, held) + level: the line and the
        claims share the feature in proportion to their intensities.
        """
        pairs = self.pairs_of
        feature = pairs.feature[couples]
        claim = claims.intensity[feature].astype(np.float32)
        log_seen = np.log(self.features.intensity[feature]).astype(np.float32)
        line = np.exp(log_seen[:, None] - self.off[couples])
        both = line + claim[:, None]
        # a place that is explained is not explained better by a second phase
        best = 1 / (pairs.sigma[couples] * np.float32(np.sqrt(2 * np.pi)))
        held = np.maximum(claims.position[feature], best).astype(np.float32)
        calculated = self.lines.calculated[pairs.line[couples]]
        alone = held * _likely(log_seen - np.log(claim), calculated) + self.unknown[couples]
        whole = _likely(log_seen[:, None] - np.log(both), calculated[:, None]) / alone[:, None]
        ratio = whole * (line / both)
        return ratio, held[:, None] * (whole - ratio), held

    def pairs(self, slot: int, scale: int, amount: int) -> Int64:
        """Return one pair for each line of a structure that has one, the likeliest."""
        own, likelihood = self._likelihoods(slot, scale)
        return _best_of_lines(own, self.line_of(own), likelihood[:, amount])

    def most_matched(self, slot: int, scale: int, likeliest: int) -> int:
        """Return the amount at which most lines of a structure are matched, else the likeliest."""
        own, likelihood = self._likelihoods(slot, scale)
        starts = np.flatnonzero(first_of_runs(self.line_of(own)))
        if not len(starts):
            return likeliest
        counts = np.logical_or.reduceat(likelihood > 0, starts, axis=0).sum(axis=0)
        return likeliest if counts[likeliest] == counts.max() else int(counts.argmax())

    def _likelihoods(self, slot: int, scale: int) -> tuple[Int64, Float32]:
        """Return the (e,) pairs of one structure at one scale, and their likelihoods (e, k)."""
        cell = scale * len(self.owners) + slot
        own = np.arange(*self.groups.bounds[cell : cell + 2]) if slot >= 0 else np.arange(0)
        couple = self.pairs_of.couple[own]
        calculated = self.lines.calculated[self.pairs_of.line[couple], None]
        likely = _likely(self.off[couple], calculated)
        return own, self.pairs_of.position[own, None] * likely

    def claims(self, slot: int, scale: int, amount: int) -> Claims:
        """Return what a structure explains at one trial."""
        pairs = self.pairs(slot, scale, amount)
        pairs = pairs[self.pairs_of.explains[self.pairs_of.couple[pairs]]]
        found = Claims.none(len(self.features))
        feature = self.feature_of(pairs)
        strength = np.exp(self.log_amount[amount]) * self.lines.intensity[self.line_of(pairs)]
        np.add.at(found.intensity, feature, strength)
        np.maximum.at(found.position, feature, self.pairs_of.position[pairs].astype(np.float64))
        return found

    def expected(self, slot: int, amount: int) -> Int64:
        """Return the lines of a structure that a detector finds rather than not."""
        if slot < 0:
            return np.zeros(0, np.int64)
        first, last = self.own_lines[slot]
        return first + np.flatnonzero(self.found[first:last, amount] > 0.5 * FOUND_AT_BEST)


def trials(
    lines: ExpectedLines, features: Features, limits: MatchLimits, place: Place | None = None
) -> Trials:
    """Try structures at every lattice scale within the largest strain and at every amount.

    place: as in `line_pairs`
    """
    steps = int(np.ceil(limits.max_strain / SCALE_STEP))
    scales = 1 + np.linspace(-limits.max_strain, limits.max_strain, 2 * steps + 1)
    first = np.flatnonzero(first_of_runs(lines.owner))
    after = np.append(first[1:], len(lines)).astype(np.int64) if len(first) else first
    owners = lines.owner[first]
    slot = np.repeat(np.arange(len(owners)), after - first)
    pairs = line_pairs(lines, slot, features, limits, scales, place)
    log_amount, log_line = _amounts(lines, features), np.log(lines.intensity)
    signal = (log_line - np.log(lines.noise * SNR_HALF_FOUND))[:, None] + log_amount
    found = (FOUND_AT_BEST * ndtr(signal / SNR_SPREAD)).astype(np.float32)
    log_missed = np.log1p(-found)
    log_seen = np.log(features.intensity)[pairs.feature] - log_line[pairs.line]
    log_ratio, log_amounts = log_seen.astype(np.float32), log_amount.astype(np.float32)
    off = log_ratio[:, None] - log_amounts
    unknown = (features.density * _others(features))[pairs.feature]
    ratio = _likely(off, lines.calculated[pairs.line, None]) / unknown[:, None]
    groups = LineGroups.of(pairs, slot, (len(scales), len(owners)))
    shape = (len(scales), len(owners), AMOUNTS)
    stronger = groups.largest(log_ratio[pairs.couple])[:, None] > log_amounts
    least, chance = stronger.astype(np.float32), found.take(groups.line, axis=0)
    of_pairs = ratio.take(pairs.couple, axis=0)
    of_pairs *= pairs.position[:, None]
    log_factor = _log_factor(groups, of_pairs, chance, least)
    every = np.add.reduceat(log_missed, first, axis=0, dtype=np.float64) if len(first) else signal
    gained = log_factor - log_missed.take(groups.line, axis=0)
    alone = every + groups.over_lines(gained, shape)
    alone += _strain_prior(scales)[:, None, None]
    return Trials(
        lines=lines,
        features=features,
        limits=limits,
        owners=owners,
        slot=slot,
        own_lines=np.stack([first, after], axis=1),
        scales=scales,
        log_amount=log_amount,
        found=found,
        pairs_of=pairs,
        groups=groups,
        chance=chance,
        least=least,
        off=off,
        unknown=unknown,
        ratio=ratio,
        log_factor=log_factor,
        alone=alone,
    )


def _strain_prior(scales: Float64) -> Float64:
    prior = -0.5 * ((scales - 1) / STRAIN_SIGMA) ** 2
    return np.asarray(prior - np.log(np.exp(prior).sum()))


def _amounts(lines: ExpectedLines, features: Features) -> Float64:
    """Return the logs of the trial amounts, (k,)."""
    faintest = np.log(SNR_HALF_FOUND * np.median(lines.noise)) if len(lines) else 0.0
    log_seen = np.log(features.intensity) if len(features) else np.array([faintest])
    return np.linspace(min(log_seen.min() - 1, faintest), log_seen.max() + 2, AMOUNTS)


def _log_factor(groups: LineGroups, ratio: Float32, chance: Float32, least: Float32) -> Float32:
    """Return the log factor of each line at each scale, (g, k); ratio: (e, k) of its pairs."""
    factor = groups.over_features(ratio)
    factor -= 1
    factor *= chance
    factor += 1
    np.maximum(factor, least, out=factor)
    return np.asarray(np.log(factor, out=factor), np.float32)


def _best_of_lines(pairs: Int64, line: Int64, likelihood: Float32) -> Int64:
    """Return the likeliest of the pairs of each line; line: not falling."""
    order = np.lexsort((-likelihood, line))
    first = order[first_of_runs(line)]
    return pairs[first[likelihood[first] > 0]]


def _likely(off: Float32, calculated: Float32) -> Float32:
    """Return the density of a log intensity that is `off`, 0 beyond the gate.

    calculated: broadcast to `off`, the part whose spread is CALCULATED_SPREAD. So intensities part
    structures of one lattice, and a line that a texture changes costs little.
    """
    square = off * off
    density = np.exp(np.float32(-0.5 / INTENSITY_SPREAD**2) * square)
    density *= (1 - calculated) / np.float32(INTENSITY_SPREAD)
    narrow = np.exp(np.float32(-0.5 / CALCULATED_SPREAD**2) * square)
    narrow *= calculated / np.float32(CALCULATED_SPREAD)
    density += narrow
    density[abs(off) > GATE_SIGMAS * INTENSITY_SPREAD] = 0
    return density


def _others(features: Features) -> Float32:
    """Return the density of each feature's log intensity among all of the frame."""
    if not len(features):
        return np.zeros(0, np.float32)
    log_seen = np.log(features.intensity)
    spread = max(float(log_seen.std()), INTENSITY_SPREAD)
    return (np.exp(-0.5 * ((log_seen - log_seen.mean()) / spread) ** 2) / spread).astype(np.float32)
