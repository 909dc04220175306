"""Which analysis of a raw run is made when there are complete ones."""

from __future__ import annotations

import pytest

from gixi_bluesky.callbacks.derived.attempts import Attempts
from gixi_bluesky.callbacks.documents.document_types import RunStart
from gixi_bluesky.callbacks.runs.raw_run import RawRun
from gixi_bluesky.provenance import derived_uid

HASH = "0" * 64
UIDS = [derived_uid("raw", "primary", "image", HASH, number) for number in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("complete", "again", "chosen"),
    [(0, False, 1), (0, True, 1), (1, False, 1), (1, True, 2), (3, False, 1), (3, True, 4)],
)
def test_the_first_attempt_that_is_not_complete_is_made_again(
    complete: int, again: bool, chosen: int
) -> None:
    attempts = Attempts(set(UIDS[:complete]).__contains__, again=again)
    raw = RawRun(RunStart("raw", 0.0, None, {}), "primary", "image")
    assert attempts.choose(raw, HASH) == chosen
    assert attempts.chosen == {"raw": UIDS[chosen - 1]}
    assert attempts.stored == ({"raw": UIDS[complete - 1]} if complete else {})


def test_a_run_of_other_settings_is_not_the_stored_one() -> None:
    attempts = Attempts(set(UIDS).__contains__, again=True)
    raw = RawRun(RunStart("raw", 0.0, None, {}), "primary", "image")
    assert attempts.choose(raw, "1" * 64) == 1
    assert not attempts.stored
