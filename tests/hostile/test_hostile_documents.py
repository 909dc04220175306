"""Documents that multiply, or that no store takes: refused or repaired, each within its budget."""

from __future__ import annotations

import json
import time
from typing import Any

import msgpack
import numpy as np
import pytest
from raw_runs import KEY, RawRun

from gixi_bluesky.callbacks.documents.document_types import RunStart, RunStop
from gixi_bluesky.callbacks.documents.parsing import parse
from gixi_bluesky.callbacks.images.locations import Unreadable
from gixi_bluesky.callbacks.kafka.wire import decode, encode
from gixi_bluesky.callbacks.runs.raw_run import Frame, RunClosed
from gixi_bluesky.callbacks.runs.router import Router
from gixi_bluesky.callbacks.settings import InputSettings
from gixi_bluesky.errors import DocumentError

START = {"uid": "u", "time": 1.7e9}
DESCRIPTOR = {"uid": "d", "run_start": "u", "name": "primary", "time": 1.7e9}


def data_key(**more: Any) -> dict[str, Any]:
    return {"source": "s", "dtype": "array", "shape": [], **more}


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"x": value}
    return value


TOO_MUCH = {
    "keys of a descriptor": (
        "descriptor",
        {**DESCRIPTOR, "data_keys": {str(i): data_key() for i in range(50_000)}},
    ),
    "a long shape": (
        "descriptor",
        {**DESCRIPTOR, "data_keys": {"a": data_key(shape=[1] * 200_000)}},
    ),
    "keys of a start": ("start", {**START, "x": {str(i): i for i in range(50_000)}}),
    "levels": ("start", {**START, "x": nested(1000)}),
    "keys of an event": (
        "event",
        {
            "uid": "e",
            "descriptor": "d",
            "seq_num": 1,
            "time": 1.0,
            "data": {str(i): 0 for i in range(50_000)},
            "timestamps": {},
        },
    ),
    "rows and columns": (
        "event_page",
        {
            "uid": ["e"] * 5000,
            "descriptor": "d",
            "seq_num": list(range(1, 5001)),
            "time": [1.0] * 5000,
            "data": {str(i): [0] * 5000 for i in range(300)},
            "timestamps": {},
        },
    ),
}


@pytest.mark.parametrize(("name", "doc"), TOO_MUCH.values(), ids=TOO_MUCH.keys())
def test_more_than_a_document_may_hold_is_refused(name: str, doc: dict[str, Any]) -> None:
    with pytest.raises(DocumentError):
        parse(name, doc)
    with pytest.raises(DocumentError):
        parse(*decode(msgpack.packb([name, doc])))


@pytest.mark.slow
@pytest.mark.parametrize(
    "value",
    [[{}] * 300_000, [[]] * 1_500_000, {str(i): {} for i in range(300_000)}],
    ids=["mappings", "lists", "keys"],
)
def test_a_message_of_very_many_parts_is_refused_while_it_is_unpacked(value: Any) -> None:
    with pytest.raises(DocumentError, match=r"got more than|exceeds"):
        decode(msgpack.packb(["start", {**START, "x": value}]))


@pytest.mark.parametrize("wrong", [1.7e12, 1e308, -1.0, float("nan"), float("inf"), "now", None])
def test_a_start_that_is_at_no_time_is_refused(wrong: Any) -> None:
    with pytest.raises(DocumentError, match="seconds since 1970"):
        parse("start", {**START, "time": wrong})


@pytest.mark.parametrize("wrong", [1.7e12, 1e308, float("nan"), None])
def test_a_stop_that_is_at_no_time_ends_its_run(wrong: Any) -> None:
    (stop,) = parse("stop", {"uid": "s", "run_start": "u", "time": wrong, "num_events": 3})
    assert isinstance(stop, RunStop)
    assert abs(stop.time - time.time()) < 60


def test_a_stop_counts_only_what_a_run_can_hold() -> None:
    counts = {"primary": 2**100, "baseline": 2, "odd": -1}
    (stop,) = parse("stop", {"run_start": "u", "time": 1.0, "num_events": counts})
    assert isinstance(stop, RunStop)
    assert stop.num_events == {"baseline": 2}


def test_metadata_that_no_store_takes_is_repaired() -> None:
    metadata = {
        "sample_name": "PbI\udcb52",
        "huge": 2**70,
        "most": 10**6000,
        "inside": {"list": ["\ud800", {"deep": -(2**64)}]},
        "image": np.zeros((2048, 2048), "u2"),
        "empty": np.zeros((10**7, 0)),
        "long": [[0.0] * 1000] * 100,
        "fine": {"a": [1, 2.5, "β", None]},
        "\udcff": 1,
    }
    began = time.process_time()
    (start,) = parse("start", {**START, **metadata, "scan_id": 2**70})
    assert time.process_time() - began < 5
    assert isinstance(start, RunStart)
    assert start.scan_id is None
    text = json.dumps(dict(start.metadata))
    assert len(text) < 5000
    msgpack.packb(dict(start.metadata))
    assert start.metadata["sample_name"] == "PbI?2"
    assert start.metadata["fine"] is metadata["fine"]
    assert "left out" in start.metadata["image"]


def test_metadata_that_is_fine_is_not_copied() -> None:
    doc = {**START, "sample_name": "CsPbI3", "positions": [0.1] * 1000}
    (start,) = parse("start", doc)
    assert isinstance(start, RunStart)
    assert start.metadata is doc


@pytest.mark.parametrize("key", ["uid", "run_start", "name"])
def test_a_name_that_utf8_cannot_write_is_refused(key: str) -> None:
    with pytest.raises(DocumentError, match="UTF-8") as refused:
        parse("descriptor", {**DESCRIPTOR, "data_keys": {}, key: "\udcff"})
    str(refused.value).encode()


def test_a_number_of_a_million_digits_gives_a_short_message() -> None:
    with pytest.raises(DocumentError, match="bits") as refused:
        parse("event", {"descriptor": "d", "seq_num": 10**100_000, "time": 1.0, "data": {}})
    assert len(str(refused.value)) < 200


def follow(router: Router, documents: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    return [action for name, doc in documents for action in router.feed(name, doc)]


def stream_run(**parameters: Any) -> tuple[RawRun, Router]:
    """Return a run and a router that knows its start, descriptor and stream resource."""
    run, router = RawRun(), Router(InputSettings(data_key=KEY))
    resource = run.stream_resource("/data/a.h5", **parameters)
    follow(router, [run.start(), run.descriptor(), resource])
    return run, router


@pytest.mark.parametrize(
    ("multiplier", "count"), [(2**31 - 1, 1), (2**64, 1), (10_000, 100), (3, 100_000)]
)
def test_images_beyond_the_budget_of_a_document_are_refused(multiplier: int, count: int) -> None:
    run, router = stream_run(dataset="/d", multiplier=multiplier)
    began = time.process_time()
    with pytest.raises(DocumentError, match="expected at most"):
        follow(router, [run.stream_datum(0, count)])
    assert time.process_time() - began < 5
    # The run goes on: what fits is analysed, and its end comes.
    frames = 0
    if multiplier <= 10_000:
        actions = follow(router, [run.stream_datum(0, 1)])
        frames = sum(isinstance(action, Frame) for action in actions)
        assert frames == multiplier
    closed = [a for a in follow(router, [run.stop()]) if isinstance(a, RunClosed)]
    assert [a.n_frames for a in closed] == ([frames] if frames else [])
    assert router.open_runs == ()


@pytest.mark.slow
def test_very_many_open_runs_slow_nothing_and_are_bounded() -> None:
    router = Router(InputSettings())
    n = 12_000
    for number in range(n):
        follow(router, [("start", {"uid": f"u{number}", "time": 1.7e9})])
    assert len(router.open_runs) == 10_000
    began = time.process_time()
    for _ in range(1000):
        list(router.tick())
    assert time.process_time() - began < 1.0


def test_a_name_that_cannot_be_written_fails_its_frame_only() -> None:
    run, router = stream_run(template="\udcff{:d}.h5", dataset="/d")
    (frame,) = (a for a in follow(router, [run.stream_datum(0, 1)]) if isinstance(a, Frame))
    assert isinstance(frame.image, Unreadable)
    assert frame.image.status == "failed"
    frame.image.reason.encode()


def test_an_event_that_names_no_descriptor_is_refused() -> None:
    run, router = stream_run(dataset="/d")
    name, event = run.event(1)
    for known in (run.uid, f"{run.uid}-resource"):
        with pytest.raises(DocumentError, match="no descriptor"):
            follow(router, [(name, {**event, "descriptor": known})])


def test_what_is_encoded_is_decoded_whatever_it_holds() -> None:
    image = np.arange(12, dtype="u2").reshape(3, 4)
    doc = {
        "uid": "e",
        "descriptor": "d",
        "seq_num": 1,
        "time": 1.0,
        "data": {"image": image, "list": [[1] * 2048] * 512},
        "timestamps": {"image": 1.0, "list": 1.0},
        "filled": {},
    }
    _, found = decode(encode("event", doc))
    np.testing.assert_array_equal(found["data"]["image"], image)
