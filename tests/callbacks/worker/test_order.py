"""Outcomes come out in the order in which frames went in, run by run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gixi_bluesky.callbacks.images.locations import Unreadable
from gixi_bluesky.callbacks.runs.raw_run import Frame
from gixi_bluesky.callbacks.worker.jobs import Outcome
from gixi_bluesky.callbacks.worker.order import FrameOrder
from gixi_bluesky.processing.geometry.conditions import Conditions


def frame(run: str, number: int) -> Frame:
    image = Unreadable("failed", "x")
    return Frame(run, number, number + 1, 0.0, image, Conditions(), 0.0, 0.0)


@given(st.data(), st.lists(st.sampled_from("abc"), max_size=30))
def test_each_run_has_its_frames_in_order_and_all_of_them(
    data: st.DataObject, runs: list[str]
) -> None:
    order = FrameOrder()
    waiting = [order.add(frame(run, number)) for number, run in enumerate(runs)]
    delivered: list[tuple[str, int]] = []
    for one in data.draw(st.permutations(waiting)):
        order.end(one, Outcome("ok", str(one.frame.number)))
        for taken, outcome in order.ready():
            assert outcome.reason == str(taken.number)
            delivered.append((taken.run_uid, taken.number))
    for run in "abc":
        numbers = [number for uid, number in delivered if uid == run]
        assert numbers == [number for number, uid in enumerate(runs) if uid == run]
    assert len(order) == order.nbytes == 0


def test_a_frame_whose_delivery_fails_stays_first() -> None:
    order = FrameOrder()
    for number in range(2):
        order.add(frame("a", number), Outcome("ok"))
    taken = order.ready()
    next(taken)
    taken.close()  # as when delivering raised
    assert [one.number for one, _ in order.ready()] == [0, 1]
