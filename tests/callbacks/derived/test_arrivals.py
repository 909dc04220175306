"""Frames are handed on in the order of their numbers, whatever order they are answered in."""

from __future__ import annotations

from typing import Any

import pytest
from derived_publisher import analysed, frame
from hypothesis import given
from hypothesis import strategies as st
from manual_clock import ManualClock

from gixi_bluesky.callbacks.derived.arrivals import Answered, OrderedArrivals
from gixi_bluesky.callbacks.worker.jobs import Outcome


class Answers:
    """A OrderedArrivals with its clock."""

    def __init__(self, step: int = 1) -> None:
        self.time = ManualClock()
        self.order = OrderedArrivals(self.time.clock, step)

    def add(self, number: int, result: Any = None) -> None:
        outcome = Outcome("ok" if result else "failed", result=result)
        self.order.add(Answered(frame(number), outcome, self.time.now))

    def taken(self, at_most: int = 100, **options: Any) -> list[int]:
        return [one.frame.number for one in self.order.take(at_most, **options)]


@given(st.permutations(range(8)), st.sets(st.integers(0, 7)), st.integers(1, 3))
def test_whatever_the_answers_the_order_is_that_of_the_numbers(
    answers: list[int], skipped: set[int], step: int
) -> None:
    one = Answers(step)
    for number in range(8):
        one.order.expect(number * step)
    taken: list[int] = []
    for number in answers:
        if number in skipped:
            one.order.skip(number * step)
        else:
            one.add(number * step)
        taken += one.taken()
    one.time.advance(60)  # a skipped number is a gap where it is not known to be stored
    taken += one.taken()
    assert taken == [number * step for number in range(8) if number not in skipped]
    assert one.order.answered == 8


def test_a_frame_waits_for_received_ones_as_long_as_they_take() -> None:
    one = Answers()
    one.order.expect(0)
    one.order.expect(1)
    one.add(1)
    one.time.advance(1000)
    assert one.taken() == []
    assert one.taken(ended=True) == []
    one.add(0)
    assert one.taken(at_most=1) == [0]
    assert one.taken() == [1]


def test_numbers_that_were_never_received_are_awaited_for_a_while() -> None:
    one = Answers()
    one.add(0)
    one.add(5)
    assert one.taken() == [0]
    one.time.advance(1.9)
    assert one.taken() == []
    one.time.advance(0.2)
    assert one.taken() == [5]
    one.add(6)
    assert one.taken() == [6], "the gap is not awaited again"
    one.add(9)
    assert one.taken(ended=True) == [9], "nothing more will be received"
    one.add(3)
    (late,) = one.order.take(1)
    assert late.late


def test_stored_frames_are_neither_awaited_nor_handed_on() -> None:
    one = Answers()
    one.add(1)
    one.add(3)
    one.order.resume(frozenset({0, 1, 2}))
    one.add(2)
    assert one.taken() == [3]
    assert len(one.order) == 0


def test_too_many_bytes_are_handed_on_without_those_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = analysed(1.0)
    assert result.image is not None
    monkeypatch.setattr(
        "gixi_bluesky.callbacks.derived.arrivals._BACKLOG_BYTES", int(1.5 * result.image.nbytes)
    )
    one = Answers()
    one.order.expect(0)
    one.add(1, result)
    assert not one.order.full
    assert one.taken() == []
    one.add(2, result)
    assert one.order.full
    assert one.taken() == [1], "until there is room again"
    assert not one.order.full
    one.add(0)
    assert one.taken() == [0, 2]
