"""The consumer with a real broker and a real Tiled server: each frame once, nothing lost."""

from __future__ import annotations

import signal
from typing import Any

import msgpack
import pytest
from consumer_process import REFUSED_SAMPLE
from kafka_broker import messages as published
from kafka_site import Site, assert_whole, tables, wait_for
from raw_runs import Documents, images, inline_run
from served import stored_frames

from gixi_bluesky.callbacks.kafka.wire import decode, encode
from gixi_bluesky.tiled_adapters import queries
from gixi_bluesky.tiled_adapters.store.spool_folder import spool_files

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

FRAMES = 8


@pytest.fixture
def site(kafka_site: Site) -> Site:
    return kafka_site


def test_runs_of_several_partitions_are_shared_and_stored(site: Site) -> None:
    site.create(partitions=4)
    site.arrays = "external"
    consumers = [site.consumer("a"), site.consumer("b")]
    with site.publishing(programs=2, runs=2, frames=FRAMES):
        for consumer in consumers:
            consumer.wait_until(lambda beat: len(beat.partitions) == 2)
    site.await_committed()
    catalogue = site.catalogue()
    for uid in site.uids:
        run = assert_whole(catalogue, uid, FRAMES)
        assert run["peaks"].read()["q"].values.tolist() == [(n + 1) / 100 for n in range(FRAMES)]
        assert run["images"].read()["polar_image"].values.shape[0] == FRAMES
    assert [consumer.end() for consumer in consumers] == [0, 0]
    assert site.letters() == []
    assert_reported(site, catalogue)


def assert_reported(site: Site, catalogue: Any) -> None:
    """Check that the derived topic tells of every stored row, keyed by run, in order."""
    reported: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for message in site.derived():
        reported.setdefault(message.key().decode(), []).append(decode(message.value()))
    for uid in site.uids:
        (run,) = queries.runs_for(catalogue, uid)
        documents = reported.pop(uid)
        assert [documents[0][0], documents[-1][0]] == ["start", "stop"]
        assert documents[0][1]["uid"] == run.metadata["start"]["uid"]
        tables = {doc["uid"]: doc["name"] for name, doc in documents if name == "descriptor"}
        rows: dict[str, int] = {}
        uids: set[str] = set()
        for name, doc in documents:
            if name == "event_page":
                stream = tables[doc["descriptor"]]
                rows[stream] = rows.get(stream, 0) + len(doc["seq_num"])
                uids.update(doc["uid"])
        announced = documents[-1][1]["num_events"]
        assert rows == {stream: n for stream, n in announced.items() if n}  # courses may be none
        assert len(uids) == sum(rows.values())
    assert reported == {}


def test_a_killed_consumer_is_followed_after_its_last_stored_frame(site: Site) -> None:
    site.create(partitions=1)
    first = site.consumer("first", GIXI_FAKE_SECONDS="0.2")
    first.running()
    with site.publishing(frames=4 * FRAMES):
        first.wait_until(lambda beat: beat.frames >= FRAMES)
        catalogue, uid = site.catalogue(), first_run(site)
        wait_for(lambda: stored_frames(catalogue, uid) >= FRAMES)
        first.kill()
        kept = stored_frames(catalogue, uid)
        second = site.consumer("second")
        second.wait_until(lambda beat: beat.frames > 0)
    site.await_committed()
    assert site.uids == [uid]
    run = assert_whole(site.catalogue(), uid, 4 * FRAMES)
    # The frames that the first one had stored were not done again.
    assert second.beat().frames <= 4 * FRAMES - kept
    assert second.end(signal.SIGUSR1) == 0
    undisturbed = site.publish(frames=4 * FRAMES)[-1]
    third = site.consumer("third")
    site.await_committed()
    again = assert_whole(site.catalogue(), undisturbed, 4 * FRAMES)
    for stream, rows in tables(run).items():
        assert rows.equals(tables(again)[stream]), stream
    assert third.end() == 0


def first_run(site: Site) -> str:
    """Return the uid of the raw run in the topic, while it is published."""
    start, *_ = published(site.bootstrap, site.topic)
    return str(decode(start.value())[1]["uid"])


def messages(documents: Documents) -> list[bytes]:
    return [encode(name, doc) for name, doc in documents]


POISON = {
    "not msgpack": (b"\xc1 no msgpack", "no msgpack"),
    "a pickle": (msgpack.packb(["start", {"x": {b"nd": True, b"kind": b"O"}}]), "msgpack|refused"),
    "an empty one": (None, "empty"),
    "another name": (msgpack.packb(["banana", {}]), "banana"),
    "no event": (msgpack.packb(["event", {"descriptor": 1}]), "event"),
}


def test_poison_is_kept_apart_with_the_reason(site: Site) -> None:
    site.create(partitions=1)
    documents = inline_run(images(FRAMES))
    whole = messages(documents)
    poison: list[int] = []
    for part, (message, _) in zip(whole, POISON.values(), strict=False):
        site.send(part)
        poison += site.send(message)
    site.send(*whole[len(POISON) :])
    broken = messages(inline_run(images(FRAMES)))
    lost = msgpack.packb(["event", {"seq_num": "three"}])
    poison += site.send(*broken[:4], lost, *broken[5:])[4:5]
    first = site.consumer("first")
    site.await_committed()
    first.kill()
    catalogue = site.catalogue()
    assert_whole(catalogue, documents[0][1]["uid"], FRAMES)
    (run,) = queries.runs_for(catalogue, decode(broken[0])[1]["uid"])
    stop = run.metadata["stop"]
    assert stop["gixi"]["completeness"] == "incomplete"
    assert stop["gixi"]["missing_frames"] == [2]
    assert "1 of 8 frames never came" in stop["reason"]
    letters = site.letters()
    reported = [{key: value.decode() for key, value in letter.headers()} for letter in letters]
    assert [int(one["offset"]) for one in reported] == poison
    assert {(one["topic"], one["partition"]) for one in reported} == {(site.topic, "0")}
    for letter, one, (message, reason) in zip(letters, reported, POISON.values(), strict=False):
        assert letter.value() == message
        assert any(part in one["reason"] for part in reason.split("|")), one


def test_letters_are_not_sent_twice_by_the_next_owner(site: Site) -> None:
    site.create(partitions=1)
    whole = messages(inline_run(images(FRAMES)))
    site.send(whole[0], b"poison")
    first = site.consumer("first")
    first.wait_until(lambda _: len(site.letters()) == 1)
    first.kill()
    assert site.committed()[0] == 0
    second = site.consumer("second")
    site.send(*whole[1:], b"more poison")
    site.await_committed()
    letters = site.letters()
    assert [letter.value() for letter in letters] == [b"poison", b"more poison"]
    assert second.end() == 0


def test_a_run_without_a_stop_is_closed_and_holds_the_mark_no_longer(site: Site) -> None:
    site.create(partitions=1)
    documents = inline_run(images(FRAMES))
    site.send(*messages(documents)[:-1])
    unwanted = inline_run(images(1))
    site.send(encode(*unwanted[0]))
    consumer = site.consumer("only", kafka={"abandoned_s": 3})
    site.await_committed()
    (run,) = queries.runs_for(site.catalogue(), documents[0][1]["uid"])
    stop = run.metadata["stop"]
    assert stop["exit_status"] == "abort"
    assert stop["reason"].startswith("abandoned: nothing came for 3 s")
    assert stop["gixi"]["completeness"] == "abandoned"
    assert stop["gixi"]["n_frames"] == FRAMES
    # A stop that comes after all changes nothing.
    site.send(encode(*documents[-1]))
    site.await_committed()
    assert consumer.end() == 0
    (run,) = queries.runs_for(site.catalogue(), documents[0][1]["uid"])
    assert run.metadata["stop"] == stop


def test_a_run_that_cannot_be_stored_becomes_a_dead_letter(site: Site) -> None:
    site.create(partitions=1)
    refused = inline_run(images(FRAMES), sample_name=REFUSED_SAMPLE)
    fine = inline_run(images(FRAMES))
    site.send(*messages(refused), *messages(fine))
    consumer = site.consumer("only")
    site.await_committed()
    assert_whole(site.catalogue(), fine[0][1]["uid"], FRAMES)
    (letter,) = site.letters()
    assert decode(letter.value())[1]["uid"] == refused[0][1]["uid"]
    assert b"cannot be stored" in dict(letter.headers())["reason"]
    assert consumer.end() == 0


def test_a_run_in_the_shared_spool_is_safe_and_anybody_sends_it(site: Site) -> None:
    site.create(partitions=1)
    spool = site.folder / "spool"
    documents = inline_run(images(FRAMES))
    site.send(*messages(documents)[:4])
    first = site.consumer("first", kafka={"shared_spool": str(spool)})
    first.wait_until(lambda beat: beat.frames == 2)
    site.server.kill()
    try:
        site.send(*messages(documents)[4:])
        site.await_committed()
        first.kill()
        assert len(spool_files(spool)) == 1
    finally:
        site.server.start()
    second = site.consumer("second", kafka={"shared_spool": str(spool)})
    second.running()
    wait_for(lambda: not spool_files(spool))
    assert_whole(site.catalogue(), documents[0][1]["uid"], FRAMES)
    assert second.beat().frames == 0
    assert second.end() == 0
