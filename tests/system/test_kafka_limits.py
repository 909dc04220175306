"""A broker with limits: what it refuses is reported, what it will not keep gets a warning."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from random import randbytes
from typing import Any

import numpy as np
import pytest
import yaml
from kafka_broker import create_topic, strict_broker
from kafka_site import Site, assert_whole
from raw_runs import images, inline_run
from served import Server
from typer.testing import CliRunner

from gixi_bluesky.callbacks.kafka.clients import new_consumer
from gixi_bluesky.callbacks.kafka.offsets import StartAt, start_offsets
from gixi_bluesky.callbacks.kafka.settings import KafkaSettings
from gixi_bluesky.callbacks.kafka.wire import encode
from gixi_bluesky.cli import app

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

FRAMES = 4


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with strict_broker(tmp_path_factory.mktemp("noida")) as address:
        yield address


@pytest.fixture
def strict_site(bootstrap: str, tiled_server: Server, tmp_path: Path) -> Iterator[Site]:
    one = Site(bootstrap, tiled_server, tmp_path)
    yield one
    one.close()


def test_a_message_too_large_is_reported_and_costs_no_frame(strict_site: Site) -> None:
    site = strict_site
    site.create(partitions=1)
    create_topic(site.bootstrap, f"{site.topic}.gixi", 1, **{"max.message.bytes": "1000"})
    create_topic(site.bootstrap, f"{site.topic}.dead-letters", 1, **{"max.message.bytes": "2000"})
    documents = inline_run(images(FRAMES))
    (poison, *_) = site.send(b"\xc1" + randbytes(4999), *(encode(*one) for one in documents))
    consumer = site.consumer("only")
    site.await_committed()
    assert_whole(site.catalogue(), documents[0][1]["uid"], FRAMES)
    beat = consumer.wait_until(lambda beat: "cannot be delivered" in beat.last_error)
    assert "too large" in beat.last_error.lower()
    metrics = site.metrics(beat.metrics_port)
    assert metrics["gixi_messages_undelivered_total"] >= 2
    assert metrics["gixi_messages_refused_total"] == 1
    assert metrics[f'gixi_partition_unread_messages{{partition="0",topic="{site.topic}"}}'] == 0
    # The letter is there without its content, which says how much that was.
    (letter,) = site.letters()
    headers = dict(letter.headers())
    assert letter.value() is None
    assert headers["offset"] == str(poison).encode()
    assert headers["left-out"].startswith(b"5000 bytes")
    assert "message_undelivered" in consumer.log.read_text()
    assert consumer.end() == 0


def check(path: Path, *more: Any) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["check", "-c", str(path), *map(str, more), "--json"])
    findings = [json.loads(line) for line in result.stdout.splitlines()]
    (found,) = [finding for finding in findings if finding["part"] == "Kafka"]
    return found


def test_check_warns_of_what_will_not_last(bootstrap: str, tmp_path: Path) -> None:
    limits = {"max.message.bytes": "10000", "retention.ms": str(3_600_000)}
    topic = create_topic(bootstrap, "short", 2, **limits)
    image = tmp_path / "image.npy"
    np.save(image, np.ones((100, 120), "<u2"))
    tree: dict[str, Any] = {
        "geometry": {
            "wavelength_angstrom": 1.0,
            "distance_mm": 100.0,
            "pixel_size_mm": [0.1, 0.1],
            "beam_center_px": [0.0, 0.0],
        },
        "detector": {"weights": "classical"},
        "kafka": {"bootstrap": bootstrap, "topics": [topic], "longest_run_h": 2},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tree))
    found = check(path, image, "--consumers", 3)
    assert found["ok"]
    roots, consumers, retention, size = found["warnings"]
    assert "input.roots is empty" in roots
    assert "3 consumers share 2 partitions" in consumers
    assert "keeps messages for 1 h, and a run may take 2 h" in retention
    assert "messages of 10000 bytes and an image has 24000" in size
    tree["input"] = {"roots": [str(tmp_path)]}
    tree["kafka"]["longest_run_h"] = 1
    path.write_text(yaml.safe_dump(tree))
    assert check(path, "--consumers", 2)["warnings"] == []
    absent = check(path, "--topic", "absent")
    assert not absent["ok"]
    assert "no topic absent" in absent["detail"]


def test_a_new_group_begins_where_asked(bootstrap: str) -> None:
    from confluent_kafka import Producer, TopicPartition

    topic = create_topic(bootstrap, "timed", 1)
    producer = Producer({"bootstrap.servers": bootstrap})
    now = int(time.time() * 1000)
    for k in range(5):
        producer.produce(topic, b"x", partition=0, timestamp=now + k * 1000)
    assert producer.flush(30) == 0
    settings = KafkaSettings(bootstrap=bootstrap, topics=(topic,), group="timed")
    client = new_consumer(settings)
    try:
        for text, offset in (("earliest", 0), ("latest", 5)):
            (found,) = start_offsets(client, [TopicPartition(topic, 0)], StartAt.parse(text))
            assert found.offset == offset
        for seconds, offset in ((-1, 0), (1.5, 2), (100, 5)):
            at = StartAt(now / 1000 + seconds)
            (found,) = start_offsets(client, [TopicPartition(topic, 0)], at)
            assert found.offset == offset
        client.commit(offsets=[TopicPartition(topic, 0, 3)], asynchronous=False)
        (found,) = start_offsets(client, [TopicPartition(topic, 0)], StartAt("earliest"))
        assert found.offset == 3
    finally:
        client.close()
