"""A group that begins in the midst of runs: what it saw is stored, whoever is killed meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from bluesky_tiled_plugins import TiledWriter
from consumer_process import START_AT
from kafka_broker import end_of
from kafka_site import Site, assert_whole, wait_for
from raw_runs import Documents, feed, hdf5_run, images, inline_run

from gixi_bluesky.callbacks.kafka.wire import encode
from gixi_bluesky.tiled_adapters import queries

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

FRAMES = 6


@pytest.fixture
def site(kafka_site: Site) -> Site:
    return kafka_site


def send(site: Site, documents: Documents) -> None:
    for document in documents:
        site.send(encode(*document))


def end_is_reported(site: Site, again: tuple[str, Any]) -> bool:
    """Say whether the broker knows its end; Tansu may need another message for that."""
    if end_of(site.bootstrap, site.topic) == site.ends[0]:
        return True
    send(site, [again])
    return False


def read(site: Site, beat: Any) -> float:
    return site.metrics(beat.metrics_port)["gixi_messages_read_total"]


def test_runs_joined_midway_are_stored_from_there_on(site: Site) -> None:
    """One has its images in its events, which Tiled did not get; the other in a file."""
    site.create(partitions=1)
    inside = inline_run(images(FRAMES))
    in_file = hdf5_run(site.server.directory / f"{site.topic}.h5", images(FRAMES))
    before = [*inside[:4], *in_file[:7]]  # two frames each
    send(site, before)
    wait_for(lambda: end_is_reported(site, in_file[6]), pause_s=0.5)
    joined = dict(site.ends)
    first = site.consumer("first", **{START_AT: "latest"})
    first.wait_until(lambda beat: len(beat.partitions) == 1)
    wait_for(lambda: site.committed() == joined)
    send(site, [inside[4], *in_file[7:9]])
    beat = first.wait_until(lambda beat: read(site, beat) >= 3)
    # Nobody knows the beginnings yet: nothing that was read is safe.
    first.wait_until(lambda later: later.time > beat.time + 3)
    assert site.committed() == joined
    first.kill()

    raw = TiledWriter(site.server.catalog("raw"), batch_size=1)
    feed(raw, inside[:2])
    another = TiledWriter(site.server.catalog("raw"), batch_size=1)
    feed(another, in_file[:7])
    second = site.consumer("second", **{START_AT: "latest"})
    second.wait_until(lambda beat: beat.frames >= 4)
    send(site, [*inside[5:], *in_file[9:]])
    site.await_committed()

    catalogue = site.catalogue()
    assert_whole(catalogue, in_file[0][1]["uid"], FRAMES)
    (run,) = queries.runs_for(catalogue, inside[0][1]["uid"])
    rows = run["frames"].base["internal"].read()
    assert sorted(rows["frame"]) == list(range(2, FRAMES))
    assert set(rows["status"]) == {"ok"}
    stop = run.metadata["stop"]
    assert stop["gixi"]["completeness"] == "incomplete"
    assert stop["gixi"]["missing_frames"] == [0, 1]
    assert second.end() == 0
