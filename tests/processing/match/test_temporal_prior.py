"""A prior in time: what was seen is likelier, what was not is no less likely."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from peak_lists import FRAME, SETTINGS, STRUCTURES, powder

from gixi_bluesky.processing.match.phases import Matcher
from gixi_bluesky.processing.match.temporal_prior import (
    PERSISTENCE,
    base_odds,
    probabilities_after,
    remembered,
)
from gixi_bluesky.processing.tables import Matches

MATCHER = Matcher(STRUCTURES, SETTINGS)
N = len(STRUCTURES)


def table(rows: Sequence[tuple[str, float, str]]) -> Matches:
    found: Matches = Matches.from_rows(
        [{"phase": phase, "probability": p, "group": group} for phase, p, group in rows]
    )
    return found


def said(matches: Matches, slug: str) -> float:
    return dict(zip(matches.phase, matches.probability, strict=True)).get(slug, 0.0)


def test_odds_grow_by_the_ratio_of_the_priors():
    base = base_odds(100)
    (after,) = probabilities_after({"a": 1.0}, table([("a", 0.2, "")]), 100)
    odds = 0.2 / 0.8 * PERSISTENCE / (1 - PERSISTENCE) / base
    assert after == pytest.approx(odds / (1 + odds))


def test_what_was_doubtful_or_not_seen_keeps_its_probability():
    rows = table([("a", 0.3, ""), ("b", 0.4, ""), ("c", 0.02, "")])
    after = probabilities_after({"a": 0.4, "b": 0.0}, rows, 100)
    np.testing.assert_allclose(after, rows.probability)


def test_members_of_a_group_share_what_it_gains():
    rows = table([("a", 0.4, "a,b"), ("b", 0.4, "a,b"), ("c", 0.1, "")])
    after = probabilities_after({"a": 0.6, "b": 0.4}, rows, 100)
    assert after[0] > after[1]
    assert 0.8 < after[0] + after[1] < 1
    assert after[2] == pytest.approx(0.1)


def test_a_faint_phase_is_surer_after_a_frame_that_showed_it():
    first, _ = MATCHER(powder({"PbI2": 1.0}, 0), FRAME)
    alone, after = [], []
    for seed in range(12):
        faint, _ = MATCHER(powder({"PbI2": 0.12}, seed), FRAME)
        alone.append(said(faint, "PbI2"))
        after.append(said(list(remembered([first, faint], N))[1], "PbI2"))
    assert np.mean(after) > np.mean(alone) + 0.02
    assert all(b >= a - 1e-9 for a, b in zip(alone, after, strict=True))


def test_a_phase_that_is_gone_is_given_up_within_frames():
    """One frame may have lost it below the noise; several say that it is not there."""
    lists = [powder({"PbI2": 1.0}, 0), *(powder({"MAPbBr3": 1.0}, seed) for seed in range(1, 6))]
    found = list(remembered((MATCHER(peaks, FRAME)[0] for peaks in lists), N))
    assert said(found[0], "PbI2") > 0.9
    assert said(found[1], "PbI2") < 0.9
    assert said(found[-1], "PbI2") < 0.2
    assert all(said(one, "MAPbBr3") > 0.9 for one in found[1:])


def test_rows_come_in_order_of_the_new_probabilities():
    one = table([("a", 0.9, "")])
    two = table([("b", 0.4, ""), ("a", 0.3, "")])
    found = list(remembered([one, two], 100))[1]
    assert found.phase.tolist() == ["a", "b"]
