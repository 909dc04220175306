"""Lines that repeat are let through once in a while, with the number of those left out."""

from __future__ import annotations

from gixi_bluesky.log import SeldomLog


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_similar_lines_are_counted_until_one_is_due_again() -> None:
    clock = Clock()
    seldom = SeldomLog(60.0, clock)
    assert seldom.due("image 1 of a.tif is not there") == 0
    assert seldom.due("image 2 of a.tif is not there") is None
    assert seldom.due("image 17 of a.tif is not there") is None
    assert seldom.due("the mask does not fit") == 0
    clock.now = 61.0
    assert seldom.due("image 18 of a.tif is not there") == 2
    assert seldom.due("image 19 of a.tif is not there") is None


def test_many_kinds_of_lines_take_bounded_memory() -> None:
    seldom = SeldomLog(60.0, Clock())
    for i in range(5000):
        assert seldom.due("x" * (i % 150) + "y" * (i // 150)) is not None
    assert len(seldom._kinds) <= 200
