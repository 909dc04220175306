"""Messages: what bluesky-kafka writes is read, what is hostile is refused, nothing is run."""

from __future__ import annotations

import datetime
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from raw_runs import KEY, inline_run

from gixi_bluesky.callbacks.kafka.wire import decode, encode
from gixi_bluesky.errors import DocumentError

EVENT = {
    "uid": "e",
    "descriptor": "d",
    "seq_num": 1,
    "time": 1.0,
    "data": {},
    "timestamps": {},
    "filled": {},
}
START = {"uid": "u", "time": 1.0}


def start_with(value: Any) -> dict[str, Any]:
    return {**START, "value": value}


def sent(name: str, doc: Any) -> tuple[str, dict[str, Any]]:
    return decode(encode(name, doc))


# Written by the publisher's own serialiser, in a process of its own: importing it changes msgpack.
THEIRS = """
import sys
import msgpack_numpy, msgpack, numpy as np
import bluesky_kafka
name, doc = "start", {"uid": "u", "time": 1.0, "value": [
    np.arange(6, dtype="<u2").reshape(2, 3),
    np.arange(6, dtype=">f8").reshape(2, 3).T,
    np.zeros((0, 4), "<i4"),
    np.array([(1, 2.5)], [("a", "<i4"), ("b", "<f8")]),
    np.array(["one", "three"]),
    np.float32(1.5), np.int64(-7), np.bool_(True), 1 + 2j,
    "text", b"bytes", None, {"a": [1, 2]},
]}
sys.stdout.buffer.write(msgpack.dumps((name, doc)))
"""
READ_BACK = """
import sys
import msgpack_numpy, msgpack
import bluesky_kafka
name, doc = msgpack.loads(sys.stdin.buffer.read())
array = doc["value"][0]
print(name, array.dtype.str, array.shape, array.sum(), doc["value"][1].dtype.str, doc["value"][2])
"""


def run(program: str, **more: Any) -> bytes:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, **more)
    return done.stdout


def test_what_the_publisher_writes_is_read() -> None:
    name, doc = decode(run(THEIRS))
    assert name == "start"
    image, turned, empty, record, texts, f4, i8, yes, z, *plain = doc["value"]
    assert image.dtype == "<u2"
    assert image.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert turned.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert empty.shape == (0, 4)
    assert record[0].tolist() == (1, 2.5)
    assert texts.tolist() == ["one", "three"]
    assert (f4, i8, bool(yes), z) == (1.5, -7, True, 1 + 2j)
    assert plain == ["text", b"bytes", None, {"a": [1, 2]}]


def test_what_we_write_their_consumers_read() -> None:
    value = [np.full((2, 3), 7, "<u2"), np.float32(0.5), "text"]
    reported = run(READ_BACK, input=encode("start", start_with(value))).decode()
    assert reported.split() == ["start", "<u2", "(2,", "3)", "42", "<f4", "text"]


@given(
    hnp.arrays(
        st.sampled_from(["<u1", "<u2", "<i4", ">u4", "<f4", "<f8", "|b1", "<c8", "<U3"]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    )
)
def test_arrays_come_back_as_they_were(array: np.ndarray[Any, Any]) -> None:
    (_, doc) = sent("start", start_with([array]))
    found = doc["value"][0]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_times_become_texts() -> None:
    moment = datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC)
    assert sent("start", start_with([moment]))[1]["value"] == ["2026-01-02T03:00:00+00:00"]


def test_times_of_msgpack_are_read() -> None:
    moment = datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC)
    message = msgpack.packb(["start", start_with(moment)], datetime=True)
    assert decode(message)[1]["value"] == moment


def test_objects_are_not_written() -> None:
    with pytest.raises(TypeError, match="object"):
        encode("start", start_with(object()))
    with pytest.raises(DocumentError, match="type object"):
        encode("start", start_with(np.array([object()])))


class Explosive:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def nd(**fields: Any) -> dict[bytes, Any]:
    whole = {"nd": True, "type": "<u2", "kind": b"", "shape": [2], "data": b"\0" * 4}
    return {key.encode(): value for key, value in {**whole, **fields}.items()}


@pytest.mark.parametrize("kind", [b"O", "O", b""])
def test_a_pickle_is_not_opened(tmp_path: Path, kind: Any) -> None:
    mark = tmp_path / "exploded"
    payload = nd(type="|O", kind=kind, data=pickle.dumps(Explosive(mark)))
    with pytest.raises(DocumentError):
        decode(msgpack.packb(["start", start_with(payload)]))
    assert not mark.exists()


HOSTILE_VALUES = {
    "too few bytes": nd(shape=[1000]),
    "negative lengths": nd(shape=[-1, -2]),
    "a fractional length": nd(shape=[2.0]),
    "a huge shape of nothing": nd(shape=[2**40, 0, 2**40], type="<u2"),
    "items of no size": nd(type="|S0", shape=[2**60], data=b""),
    "raw memory": nd(type="|V4", shape=[1]),
    "a record of objects": nd(type=[["a", "|O"]], kind=b"V", shape=[1], data=b"\0" * 8),
    "a nested record of objects": nd(type=[["a", [["b", "O", [2]]]]], kind=b"V"),
    "a shape that is a text": nd(shape="aa"),
    "too many axes": nd(shape=[1] * 40, data=b"\0\0"),
    "an unknown type": nd(type="quantum"),
    "no type": {b"nd": True, b"data": b""},
    "no data": {b"nd": True, b"type": "<u2", b"shape": [1]},
    "a number without bytes": {b"nd": False, b"type": "<f8", b"data": b""},
    "a number of two": {b"nd": False, b"type": "<f8", b"data": b"\0" * 16},
    "a sum for a complex number": {b"complex": True, b"data": "__import__('os')"},
    "data that is a text": nd(data="abcd"),
}


@pytest.mark.parametrize("value", HOSTILE_VALUES.values(), ids=HOSTILE_VALUES.keys())
def test_hostile_arrays_are_refused(value: Any) -> None:
    with pytest.raises(DocumentError):
        decode(msgpack.packb(["start", start_with(value)]))


def test_an_array_of_nothing_is_small_or_refused() -> None:
    """As a list it would be a list of very many empty lists."""
    (_, doc) = decode(msgpack.packb(["start", start_with(nd(shape=[3, 0], data=b""))]))
    assert doc["value"].shape == (3, 0)
    for length in (10**7, 2**40):
        with pytest.raises(DocumentError, match="without elements"):
            decode(msgpack.packb(["start", start_with(nd(shape=[length, 0], data=b""))]))


HOSTILE_MESSAGES = {
    "nothing": None,
    "empty": b"",
    "text": b"hello",
    "JSON": b'["start", {"uid": "u", "time": 1.0}]',
    "noise": bytes(range(256)),
    "cut off": encode("start", START)[:-3],
    "followed by more": encode("start", START) + b"\0",
    "a number": msgpack.packb(7),
    "one item": msgpack.packb(["start"]),
    "three items": msgpack.packb(["start", START, 1]),
    "a mapping": msgpack.packb({"start": START}),
    "an unknown name": msgpack.packb(["banana", START]),
    "a name that is a number": msgpack.packb([1, START]),
    "a name that is a list": msgpack.packb([["start"], START]),
    "a document that is a text": msgpack.packb(["start", "doc"]),
    "a document that is an array": msgpack.packb(["start", nd()]),
    "a start without uid": msgpack.packb(["start", {"time": 1.0}]),
    "a time that is a text": msgpack.packb(["start", {**START, "time": "now"}]),
    "an event without data": msgpack.packb(["event", {k: EVENT[k] for k in ("uid", "time")}]),
    "a stop of nothing": msgpack.packb(["stop", {}]),
    "deeper than a stack": b"\x91" * 100_000 + b"\xc0",
    "a deep mapping": b"\x92\xa5start" + b"\x81\xa1a" * 50_000 + b"\xc0",
    "a length beyond the end": b"\xdd\xff\xff\xff\xff",
    "bytes beyond the end": b"\xc6\xff\xff\xff\xff",
    "a key that cannot be one": b"\x92\xa5start\x81\x91\x01\x02",
}


@pytest.mark.parametrize("message", HOSTILE_MESSAGES.values(), ids=HOSTILE_MESSAGES.keys())
def test_hostile_messages_are_refused(message: Any) -> None:
    with pytest.raises(DocumentError):
        decode(message)


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(DocumentError):
        decode(noise)


@given(st.data())
def test_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    """A flipped bit is an error or another document, never anything else."""
    frames = np.arange(12, dtype="<u2").reshape(1, 3, 4)
    message = bytearray(encode(*inline_run(frames)[2]))
    place = data.draw(st.integers(0, len(message) - 1))
    message[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        _, doc = decode(bytes(message))
    except DocumentError:
        return
    assert isinstance(doc, dict)


def test_the_documents_of_a_run_are_valid() -> None:
    frames = np.arange(24, dtype="<u2").reshape(2, 3, 4)
    for name, doc in inline_run(frames):
        found_name, found = sent(name, doc)
        assert (found_name, found["uid"]) == (name, doc["uid"])
        if name == "event":
            np.testing.assert_array_equal(found["data"][KEY], doc["data"][KEY])
            assert not found["data"][KEY].flags.writeable
