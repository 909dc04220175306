"""The consumer with a real broker and a real Tiled server: each frame once, nothing lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka_broker import Broker
from kafka_site import Site, assert_whole, tables
from tiled_process import Server

pytestmark = pytest.mark.system

FRAMES = 8


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("tiled"))
    running.start()
    yield running
    for context in running.contexts:
        context.close()
    running.kill()


@pytest.fixture
def site(broker: Broker, server: Server, tmp_path: Path) -> Iterator[Site]:
    one = Site(broker, server, tmp_path)
    yield one
    one.close()


def test_runs_of_several_partitions_are_shared_and_stored(site: Site) -> None:
    site.create(partitions=4)
    consumers = [site.consumer("a"), site.consumer("b")]
    with site.publishing(programs=2, runs=3, frames=FRAMES):
        for consumer in consumers:
            consumer.wait_until(lambda beat: len(beat.partitions) == 2)
    site.await_committed()
    catalogue = site.catalogue()
    for uid in site.uids:
        run = assert_whole(catalogue, uid, FRAMES)
        assert run["peaks"].read()["q"].values.tolist() == [(n + 1) / 100 for n in range(FRAMES)]
    assert [consumer.end() for consumer in consumers] == [0, 0]
    assert site.broker.messages(f"{site.topic}.dead-letters") == []


def test_a_killed_consumer_is_followed_after_its_last_stored_frame(site: Site) -> None:
    site.create(partitions=1)
    first = site.consumer("first", GIXI_FAKE_SECONDS="0.2")
    first.running()
    with site.publishing(frames=4 * FRAMES):
        first.wait_until(lambda beat: beat.frames >= FRAMES)
        first.kill()
        second = site.consumer("second")
        site_done = second.wait_until(lambda beat: beat.frames > 0)
    site.await_committed()
    run = assert_whole(site.catalogue(), site.uids[0], 4 * FRAMES)
    assert site_done.frames < 4 * FRAMES
    # The first one's frames were not done again, but for those in its last flushes.
    assert second.beat().frames <= 4 * FRAMES - FRAMES + 4
    assert second.end(signal.SIGUSR1) == 0
    undisturbed = site.publish(frames=4 * FRAMES)[-1]
    third = site.consumer("third")
    site.await_committed()
    again = assert_whole(site.catalogue(), undisturbed, 4 * FRAMES)
    for stream, rows in tables(run).items():
        assert rows.equals(tables(again)[stream]), stream
    assert third.end() == 0
