"""A prior in time: what was seen is likelier, what was not is no less likely."""

from __future__ import annotations

import numpy as np
import pytest
from peak_lists import FRAME, SETTINGS, STRUCTURES, powder

from gixi_bluesky.processing.match.phases import Matcher
from gixi_bluesky.processing.match.temporal_prior import PERSISTENCE, prior_odds_after
from gixi_bluesky.processing.tables import Matches

MATCHER = Matcher(STRUCTURES, SETTINGS)


def test_odds_follow_the_previous_probability():
    previous = Matches.from_rows(
        [{"phase": s, "probability": p} for s, p in (("a", 1.0), ("b", 0.5), ("c", 0.0))]
    )
    odds = prior_odds_after(previous, 0.1)
    assert odds["a"] == pytest.approx(PERSISTENCE / (1 - PERSISTENCE))
    assert odds["a"] > odds["b"] > odds["c"] == pytest.approx(0.1)


def test_a_faint_phase_is_surer_after_a_frame_that_showed_it():
    first, _ = MATCHER(powder({"PbI2": 1.0}, 0), FRAME)
    prior = prior_odds_after(first, MATCHER.base_odds)
    faint = [powder({"PbI2": 0.12}, seed) for seed in range(12)]

    def probability(peaks, prior_odds=None):
        matches, _ = MATCHER(peaks, FRAME, prior_odds)
        return dict(zip(matches.phase, matches.probability, strict=True)).get("PbI2", 0.0)

    alone = [probability(peaks) for peaks in faint]
    after = [probability(peaks, prior) for peaks in faint]
    assert np.mean(after) > np.mean(alone) + 0.02
    assert all(b >= a - 1e-9 for a, b in zip(alone, after, strict=True))


def test_a_phase_that_is_gone_is_given_up_within_frames():
    """One frame may have lost it below the noise; several say that it is not there."""
    matches, _ = MATCHER(powder({"PbI2": 1.0}, 0), FRAME)
    said = []
    for seed in range(1, 6):
        prior = prior_odds_after(matches, MATCHER.base_odds)
        matches, _ = MATCHER(powder({"MAPbBr3": 1.0}, seed), FRAME, prior)
        found = dict(zip(matches.phase, matches.probability, strict=True))
        said.append(found.get("PbI2", 0.0))
        assert found["MAPbBr3"] > 0.9
    assert said[0] < 0.9
    assert said[-1] < 0.2


def test_a_frame_by_itself_has_no_memory():
    peaks = powder({"MAPbI3": 1.0}, 2)
    one, _ = MATCHER(peaks, FRAME)
    MATCHER(powder({"PbBr2": 1.0}, 3), FRAME)
    again, _ = MATCHER(peaks, FRAME)
    np.testing.assert_array_equal(one.probability, again.probability)
