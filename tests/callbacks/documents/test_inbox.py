"""The inbox is bounded by bytes: images are left out before documents are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gixi_bluesky.callbacks.documents.inbox import Inbox, LeftOutImage

MIB = 1 << 20


def event(nbytes: int, seq_num: int = 1) -> dict[str, Any]:
    image = np.zeros(nbytes, np.uint8)
    return {"seq_num": seq_num, "data": {"img": image, "angle": 0.2, "name": "a.tif"}}


def taken(inbox: Inbox) -> list[tuple[str, Any]]:
    documents = []
    while (document := inbox.take(0.0)) is not None:
        inbox.done()
        documents.append(document)
    return documents


def test_images_beyond_the_bound_are_left_out_and_their_events_kept() -> None:
    inbox = Inbox(3 * MIB)
    for seq_num in range(1, 6):
        inbox.put("event", event(MIB, seq_num))
    assert len(inbox) == 5
    documents = taken(inbox)
    assert [doc["seq_num"] for _, doc in documents] == [1, 2, 3, 4, 5]
    left_out = [isinstance(doc["data"]["img"], LeftOutImage) for _, doc in documents]
    assert left_out == [False, False, True, True, True]
    assert documents[-1][1]["data"]["angle"] == 0.2
    assert len(inbox) == inbox.refused == 0
    inbox.put("event", event(MIB))
    ((_, doc),) = taken(inbox)
    assert isinstance(doc["data"]["img"], np.ndarray)


def test_each_row_of_a_page_is_left_out() -> None:
    inbox = Inbox(2 * MIB)
    inbox.put("event", event(MIB))
    page = {"seq_num": [2, 3], "data": {"img": np.zeros((2, MIB), np.uint8), "angle": [0.1, 0.2]}}
    inbox.put("event_page", page)
    (_, (_, doc)) = taken(inbox)
    assert [type(row) for row in doc["data"]["img"]] == [LeftOutImage, LeftOutImage]
    assert doc["data"]["angle"] == [0.1, 0.2]
    assert isinstance(page["data"]["img"], np.ndarray)


def test_a_small_bound_leaves_room_for_events_without_images() -> None:
    inbox = Inbox(64 << 10, MIB)
    for seq_num in range(100):
        inbox.put("event", event(32 << 10, seq_num))
    assert inbox.refused == 0
    documents = taken(inbox)
    assert [doc["seq_num"] for _, doc in documents] == list(range(100))
    assert sum(isinstance(doc["data"]["img"], np.ndarray) for _, doc in documents) == 1


def test_one_document_larger_than_the_bound_is_taken() -> None:
    inbox = Inbox(MIB)
    inbox.put("event", event(5 * MIB))
    ((_, doc),) = taken(inbox)
    assert doc["data"]["img"].nbytes == 5 * MIB


@given(st.lists(st.sampled_from(["start", "event", "datum", "stop"]), max_size=60))
def test_what_is_held_stays_below_twice_the_bound_and_stops_are_kept(names: list[str]) -> None:
    inbox = Inbox(64 << 10)
    for name in names:
        inbox.put(name, event(8 << 10) if name == "event" else {"uid": "u", "list": [0] * 1000})
    documents = taken(inbox)
    assert len(documents) + inbox.refused == len(names)
    held = [doc for name, doc in documents if name != "stop"]
    arrays = sum(
        doc["data"]["img"].nbytes
        for doc in held
        if isinstance(doc.get("data", {}).get("img"), np.ndarray)
    )
    assert arrays <= 64 << 10
    assert len(held) * 4096 <= 128 << 10
    assert sum(name == "stop" for name, _ in documents) == names.count("stop")


class Hostile(dict[str, Any]):
    def values(self) -> Any:
        raise ValueError("no")


def test_documents_that_cannot_be_looked_at_are_taken_nevertheless() -> None:
    inbox = Inbox(MIB)
    for doc in (None, 7, Hostile(data=1), {"data": Hostile(a=1)}):
        inbox.put("event", doc)
    assert len(taken(inbox)) == 4
