"""A set of frame numbers stored as spans."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from gixi_bluesky.callbacks.derived.frame_spans import FrameSpans


@given(st.lists(st.integers(0, 30)))
def test_it_holds_what_a_set_holds(numbers: list[int]) -> None:
    spans = FrameSpans()
    spans.add(numbers)
    assert sorted(spans) == sorted(set(numbers))
    assert len(spans) == len(set(numbers))
    assert all((number in spans) == (number in numbers) for number in range(-1, 32))


def test_frames_in_order_take_constant_memory() -> None:
    for step in (1, 7):
        spans = FrameSpans()
        spans.add(range(0, 10 * step, step))
        few = sys.getsizeof(spans._spans), len(spans._spans)
        spans.add(range(10 * step, 5000 * step, step))
        assert (sys.getsizeof(spans._spans), len(spans._spans)) == few
        assert len(spans) == 5000
