"""The Bayes factors of all candidates at once, against sums over one line after the other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from peak_lists import BY_SLUG, FRAME, powder
from scipy.special import ndtr

from gixi_bluesky.processing.match.bayes_factors import (
    AMOUNTS,
    CALCULATED_SPREAD,
    FOUND_AT_BEST,
    INTENSITY_SPREAD,
    SNR_HALF_FOUND,
    SNR_SPREAD,
    STRAIN_SIGMA,
    Claims,
    MatchLimits,
    Trials,
    trials,
)
from gixi_bluesky.processing.match.line_library import LineLibrary
from gixi_bluesky.processing.match.line_pairs import GATE_SIGMAS
from gixi_bluesky.processing.match.lines import (
    ExpectedLines,
    Features,
    features_of,
    visibility_of,
)

LIMITS = MatchLimits(0.03, 0.004, zero=0.001, zero_sigma=0.002, position_error=0.0015)
CANDIDATES = ("MAPbBr3", "PbI2", "CsPbBr3", "FAPbI3", "LaB6")


def frame() -> tuple[ExpectedLines, Features]:
    peaks = powder({"MAPbBr3": 1.0, "PbI2": 0.4}, 4, false=2)
    visibility = visibility_of(FRAME, peaks)
    lines = LineLibrary([BY_SLUG[slug] for slug in CANDIDATES]).expected(visibility)
    return lines, features_of(peaks, visibility)


def likely(off: float, calculated: float) -> float:
    if abs(off) > GATE_SIGMAS * INTENSITY_SPREAD:
        return 0.0
    parts = ((1 - calculated, INTENSITY_SPREAD), (calculated, CALCULATED_SPREAD))
    return sum(part * math.exp(-0.5 * (off / s) ** 2) / s for part, s in parts)


def positions(
    lines: ExpectedLines, own: np.ndarray, features: Features, scale: float
) -> dict[tuple[int, int], tuple[float, float]]:
    """Return the density and the error of each line of one structure and feature in reach."""
    found: dict[tuple[int, int], tuple[float, float]] = {}
    for line in own:
        for feature in range(len(features)):
            q = lines.q[line]
            relative = math.hypot(LIMITS.position_error, lines.strain[line])
            variance = (relative * q) ** 2 + LIMITS.zero_sigma**2
            sigma = math.sqrt(features.error[feature] ** 2 + variance)
            apart = features.q[feature] - LIMITS.zero - q / scale
            reach = min(LIMITS.max_dq, GATE_SIGMAS * sigma)
            if abs(apart) <= max(features.fwhm[feature], reach):
                density = math.exp(-0.5 * (apart / sigma) ** 2) / sigma / math.sqrt(2 * math.pi)
                found[line, feature] = (density if abs(apart) <= reach else 0.0, sigma)
    for feature in range(len(features)):
        rivals = [pair for pair in found if pair[1] == feature]
        claim = {pair: found[pair][0] * lines.intensity[pair[0]] for pair in rivals}
        for pair in rivals:
            if claim[pair] < max(claim.values()):
                found[pair] = (0.0, found[pair][1])
    return found


def log_factor(tried: Trials, slot: int, scale: int, amount: int, claims: Claims) -> float:
    """Return the log Bayes factor of one trial, one line and one feature after the other."""
    lines, features = tried.lines, tried.features
    log_seen = np.log(features.intensity)
    spread = max(log_seen.std(), INTENSITY_SPREAD)
    own = np.flatnonzero(lines.owner == tried.owners[slot])
    near = positions(lines, own, features, float(tried.scales[scale]))
    total = 0.0
    for line in own:
        expected = math.exp(tried.log_amount[amount]) * lines.intensity[line]
        signal = math.log(expected / lines.noise[line] / SNR_HALF_FOUND)
        chance = FOUND_AT_BEST * float(ndtr(signal / SNR_SPREAD))
        ratio, hidden, usual = 0.0, False, float(lines.calculated[line])
        for feature in range(len(features)):
            if (line, feature) not in near:
                continue
            position, sigma = near[line, feature]
            seen = float(log_seen[feature])
            z = (seen - log_seen.mean()) / spread
            unknown = features.density * math.exp(-0.5 * z * z) / spread
            hidden |= seen > math.log(expected)
            claim = claims.intensity[feature]
            if claim == 0:
                ratio += position * likely(seen - math.log(expected), usual) / unknown
                continue
            held = max(claims.position[feature], 1 / (sigma * math.sqrt(2 * math.pi)))
            share = expected / (expected + claim)
            place = share * min(position, held) + (1 - share) * held
            alone = held * likely(seen - math.log(claim), usual) + unknown
            ratio += place * likely(seen - math.log(expected + claim), usual) / alone
        factor = 1 - chance + chance * ratio
        total += math.log(max(factor, 1.0) if hidden else factor)
    return total


def integrated(tried: Trials, slot: int, claims: Claims) -> float:
    prior = -0.5 * ((tried.scales - 1) / STRAIN_SIGMA) ** 2
    prior -= np.log(np.exp(prior).sum())
    logs = [
        log_factor(tried, slot, scale, amount, claims) + prior[scale]
        for scale in range(len(tried.scales))
        for amount in range(AMOUNTS)
    ]
    return float(np.logaddexp.reduce(logs) - np.log(AMOUNTS))


def test_every_candidate_weighs_what_its_lines_weigh_one_by_one() -> None:
    lines, features = frame()
    tried = trials(lines, features, LIMITS)
    nothing = Claims.none(len(features))
    weights = tried.weigh(nothing)
    expected = [integrated(tried, slot, nothing) for slot in range(len(tried.owners))]
    assert weights.log_factor == pytest.approx(expected, abs=1e-4)
    assert weights.log_factor.max() > 10


def test_beside_an_accepted_phase_intensity_is_shared_out_once() -> None:
    lines, features = frame()
    tried = trials(lines, features, LIMITS)
    weights = tried.weigh(Claims.none(len(features)))
    surest = int(weights.log_factor.argmax())
    claims = tried.claims(surest, int(weights.scale[surest]), int(weights.amount[surest]))
    assert (claims.intensity > 0).any()
    expected = [integrated(tried, slot, claims) for slot in range(len(tried.owners))]
    assert tried.weigh(claims).log_factor == pytest.approx(expected, abs=1e-4)
    some = np.array([0, 2, 3])
    assert tried.of(some).weigh(claims).log_factor == pytest.approx(
        tried.weigh(claims).log_factor[some], abs=1e-9
    )
