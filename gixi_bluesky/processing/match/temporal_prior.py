"""Probabilities of phases that know the frame before, for the ordered stage of a run or series."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.tables import Matches

__all__ = ["PERSISTENCE", "base_odds", "likeliest_first", "probabilities_after", "remembered"]

Float64 = NDArray[np.float64]

PERSISTENCE = 0.95  # chance that a phase of one frame is in the next
PHASES_EXPECTED, HIGHEST_PRIOR_ODDS = 2.0, 0.1  # of a frame; of one candidate
ACCEPTED = 0.5  # a phase is remembered if it was more probable than not
_NEARLY_ONE = 1 - 1e-12


def base_odds(n_candidates: int) -> float:
    """Return the prior odds of one of some candidates that nothing is known of."""
    return min(HIGHEST_PRIOR_ODDS, PHASES_EXPECTED / max(n_candidates, 1))


def probabilities_after(
    previous: Mapping[str, float], matches: Matches, n_candidates: int
) -> Float64:
    """Return the probabilities of a frame given those of the frame before, (n,).

    A two-state Markov chain: a phase that was more probable than not stays with PERSISTENCE, and
    its odds grow by the ratio of that prior to `base_odds`. The others keep theirs: a rival that
    was doubtful is no likelier for having been doubtful. Members of a group share what the group
    gains, in proportion to their odds.
    """
    base = base_odds(n_candidates)
    appears = base / (1 + base)
    before = np.array([previous.get(str(slug), 0.0) for slug in matches.phase])
    stays = np.where(before > ACCEPTED, before * max(PERSISTENCE, appears), 0.0)
    prior = np.where(before > ACCEPTED, stays + (1 - before) * appears, appears)
    gain = prior / (1 - prior) / base
    probability = np.clip(np.nan_to_num(matches.probability, nan=0.0), 1 - _NEARLY_ONE, _NEARLY_ONE)
    names = [group or phase for group, phase in zip(matches.group, matches.phase, strict=True)]
    of_group = np.unique(np.array(names, object).astype(str), return_inverse=True)[1]
    together = np.minimum(np.bincount(of_group, probability), _NEARLY_ONE)
    gained = np.bincount(of_group, probability * gain)
    odds = together / (1 - together) * gained / np.bincount(of_group, probability)
    after = (odds / (1 + odds))[of_group] * probability * gain / gained[of_group]
    changed = gained[of_group] > np.bincount(of_group, probability)[of_group]
    return np.asarray(np.where(changed, after, matches.probability), np.float64)


def likeliest_first(matches: Matches) -> Matches:
    """Return the rows in order of falling probability."""
    order = np.argsort(-matches.probability, kind="stable")
    return replace(matches, **{name: values[order] for name, values in matches.items()})


def remembered(frames: Iterable[Matches], n_candidates: int) -> Iterator[Matches]:
    """Yield the matches of the frames of a series, each after the frame before."""
    previous: dict[str, float] = {}
    for matches in frames:
        after = probabilities_after(previous, matches, n_candidates)
        given = replace(matches, probability=after)
        previous = dict(zip(given.phase.tolist(), after.tolist(), strict=True))
        yield likeliest_first(given)
