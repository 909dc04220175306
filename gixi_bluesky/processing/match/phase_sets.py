"""The set of phases that explains a frame best, and the probability of each phase."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from gixi_bluesky.processing.match.bayes_factors import Claims, LogFactors, Trials

__all__ = ["PhaseSet", "Standing", "best_set", "standings"]

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

MOST_PHASES = 8
ACCEPTED_LOG_ODDS = 0.0  # a phase more probable than not explains its peaks away for others
LIKE_LOG_ODDS = 3.0  # a rival within e³ of a phase that it would replace is equivalent
SUPERSEDED = 2.0  # in log odds; a rival that loses as much beside a phase explains what it does


@dataclass(frozen=True, slots=True)
class Standing:
    """A structure beside the accepted phases.

    log_odds: present against absent, given the accepted phases (but itself)
    probability: over the sets that differ from the best one by one phase added, taken or replaced
    scale, amount: indices of its likeliest trial
    like: slots of the structures that would explain the same as well
    """

    log_odds: float
    probability: float
    scale: int
    amount: int
    accepted: bool
    like: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PhaseSet:
    """The accepted phases, surest first, and how every structure weighs.

    phases: slots; given: every structure beside all of them
    without: for each phase, every structure beside the others
    """

    phases: tuple[int, ...]
    given: Float64
    without: tuple[Float64, ...]
    trial: tuple[Int64, Int64]


def best_set(tried: Trials, prior: Float64) -> PhaseSet:
    """Accept the surest phase, weigh the others beside it, and so on; drop what is superseded.

    prior: (c,) log odds of each structure before its lines are compared with the frame
    """
    phases: list[int] = []
    claims: list[Claims] = []
    weights = tried.weigh(Claims.none(len(tried.features)))
    scale, amount = weights.scale.copy(), weights.amount.copy()
    while len(phases) < MOST_PHASES:
        odds = weights.log_factor + prior
        odds[phases] = -np.inf
        best = int(odds.argmax()) if len(odds) else -1
        if best < 0 or odds[best] <= ACCEPTED_LOG_ODDS:
            break
        scale[best], amount[best] = weights.scale[best], weights.amount[best]
        phases.append(best)
        claims.append(tried.claims(best, int(scale[best]), int(amount[best])))
        weights = tried.weigh(_sum(claims, len(tried.features)))
    given = weights.log_factor + prior
    while True:
        without = [_beside(tried, claims, left_out) for left_out in range(len(phases))]
        own = [float(w.log_factor[p] + prior[p]) for w, p in zip(without, phases, strict=True)]
        weakest = int(np.argmin(own)) if own else -1
        if weakest < 0 or own[weakest] > ACCEPTED_LOG_ODDS:
            break
        given = without[weakest].log_factor + prior
        del phases[weakest], claims[weakest]
    for phase, beside in zip(phases, without, strict=True):
        scale[phase], amount[phase] = beside.scale[phase], beside.amount[phase]
    return PhaseSet(
        tuple(phases), given, tuple(w.log_factor + prior for w in without), (scale, amount)
    )


def standings(found: PhaseSet) -> tuple[Standing, ...]:
    """Return where every structure stands.

    A phase's absence is weighed with every structure that gains by it in its place; a structure
    that is not accepted is weighed beside the phases, and in the place of each.
    """
    absent = []  # of each phase: its probability of absence, and the odds of its replacements
    for phase, without in zip(found.phases, found.without, strict=True):
        gains = np.maximum(
            np.exp(np.minimum(without, 500)) - np.exp(np.minimum(found.given, 500)), 0
        )
        gains[list(found.phases)] = 0
        replaced = 1 + gains.sum()
        absent.append((float(expit(np.log(replaced) - without[phase])), gains / replaced))
    result = []
    for slot, odds in enumerate(found.given):
        if slot in found.phases:
            at = found.phases.index(slot)
            log_odds, probability = float(found.without[at][slot]), 1 - absent[at][0]
            like = _alike(found, at)
        else:
            log_odds, beside = float(odds), float(expit(odds))
            replacing = sum(share * gains[slot] for share, gains in absent)
            probability, like = beside + (1 - beside) * min(replacing, 1.0), ()
        scale, amount = int(found.trial[0][slot]), int(found.trial[1][slot])
        result.append(Standing(log_odds, probability, scale, amount, slot in found.phases, like))
    return tuple(result)


def _alike(found: PhaseSet, at: int) -> tuple[int, ...]:
    phase, without = found.phases[at], found.without[at]
    as_good = without > without[phase] - LIKE_LOG_ODDS
    superseded = found.given < without - SUPERSEDED
    return tuple(int(s) for s in np.flatnonzero(as_good & superseded) if int(s) not in found.phases)


def _beside(tried: Trials, claims: list[Claims], left_out: int) -> LogFactors:
    others = [c for i, c in enumerate(claims) if i != left_out]
    return tried.weigh(_sum(others, len(tried.features)))


def _sum(claims: list[Claims], n_features: int) -> Claims:
    total = Claims.none(n_features)
    for one in claims:
        total = total + one
    return total
