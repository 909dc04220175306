"""Prior odds of phases from the frame before, for the ordered stage of a run or series."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gixi_bluesky.processing.tables import Matches

__all__ = ["PERSISTENCE", "prior_odds_after"]

PERSISTENCE = 0.95  # chance that a phase of one frame is in the next


def prior_odds_after(
    previous: Matches, base_odds: float, persistence: float = PERSISTENCE
) -> Mapping[str, float]:
    """Return the prior odds in the next frame of every phase in `previous`, by slug.

    A two-state Markov chain: a phase stays with `persistence` and appears with the probability of
    `base_odds`, the prior odds of a candidate that nothing is known of. Candidates without a row
    keep `base_odds`. The result depends on the previous frame's stored rows alone; a phase that is
    seen is never certain, and one that is not seen is no less likely than without memory.
    """
    appears = base_odds / (1 + base_odds)
    stays = max(persistence, appears)
    probability = np.clip(np.nan_to_num(previous.probability, nan=0.0), 0.0, 1.0)
    after = probability * stays + (1 - probability) * appears
    odds = after / (1 - after)
    return dict(zip(previous.phase.tolist(), odds.tolist(), strict=True))
