"""Frames a second of one and of two consumers, the time to take over after a kill, what is redone.

    python benchmarks/kafka_consumers.py [--runs 8] [--frames 40] [--fake]

Starts a broker, a Tiled server and consumers as processes of their own, all on this machine. Raw
runs hold their images inside their events. Frames go through the real pipeline with the detector
that needs no weights, or with --fake, small ones, through one that costs nothing, which shows what
reading, storing and committing cost.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "system")]

from consumer_process import REAL_PIPELINE, ConsumerProcess  # noqa: E402 - the tests' site
from kafka_broker import Broker  # noqa: E402
from kafka_site import SESSION_S, Site, assert_whole, wait_for  # noqa: E402
from raw_runs import inline_run  # noqa: E402
from served import Server  # noqa: E402

from gixi_bluesky.callbacks.kafka.wire import encode  # noqa: E402
from gixi_bluesky.processing.structures.cif_files import shipped_cifs  # noqa: E402

PARTITIONS = 4
SHAPE, SMALL = (195, 487), (39, 50)
SECTIONS = {
    "geometry": {
        "wavelength_angstrom": 0.6888,
        "distance_mm": 300.0,
        "pixel_size_mm": [0.5, 0.5],
        "beam_center_px": [20.0, 40.0],
        "incidence_angle_deg": 0.3,
    },
    "grid": {"q_max_inv_angstrom": 3.0, "shape": [256, 512]},
    "detector": {"weights": "classical"},
    "matching": {"cif": [str(shipped_cifs()["MAPbBr3"])]},
}
DONE = 'gixi_frames_finished_total{status="ok"}'


@contextmanager
def site(broker: Broker, server: Server, folder: Path, *, fake: bool) -> Iterator[Site]:
    one = Site(broker.bootstrap, server, folder)
    one.sections = {} if fake else SECTIONS
    one.create(PARTITIONS)
    try:
        yield one
    finally:
        one.close()


def publish(one: Site, runs: int, frames: int, *, fake: bool) -> list[str]:
    """Send whole runs, spread over the partitions, and return their uids."""
    images = (
        np.random.default_rng(1).poisson(20, (frames, *(SMALL if fake else SHAPE))).astype("<u2")
    )
    uids = []
    for number in range(runs):
        documents = inline_run(images)
        uids.append(documents[0][1]["uid"])
        one.send(*(encode(*document) for document in documents), partition=number % PARTITIONS)
    return uids


def start(one: Site, consumers: int, *, fake: bool) -> list[ConsumerProcess]:
    """Start consumers and wait until they share the partitions."""
    environment = {REAL_PIPELINE: "" if fake else "1"}
    started = [one.consumer(f"c{n}", **environment) for n in range(consumers)]
    for consumer in started:
        consumer.wait_until(lambda beat: len(beat.partitions) == PARTITIONS // consumers, 300)
    return started


def done(one: Site, consumer: ConsumerProcess) -> int:
    """Return how many frames a consumer has analysed by now."""
    beat = consumer.beat()
    assert beat is not None
    return int(one.metrics(beat.metrics_port)[DONE])


def throughput(one: Site, consumers: int, runs: int, frames: int, *, fake: bool) -> float:
    """Return frames a second until the last one is stored and committed."""
    started = start(one, consumers, fake=fake)
    began = time.monotonic()
    uids = publish(one, runs, frames, fake=fake)
    one.await_committed(1800)
    seconds = time.monotonic() - began
    for uid in uids:
        assert_whole(one.catalogue(), uid, frames)
    for consumer in started:
        consumer.end()
    return runs * frames / seconds


def takeover(one: Site, runs: int, frames: int, *, fake: bool) -> dict[str, Any]:
    """Kill one of two consumers in the middle; return the times of the takeover."""
    a, b = start(one, 2, fake=fake)
    uids = publish(one, runs, frames, fake=fake)
    wait_for(lambda: done(one, a) >= runs * frames // 8, 600)
    by_a, by_b = done(one, a), done(one, b)
    a.kill()
    killed = time.monotonic()
    b.wait_until(lambda beat: len(beat.partitions) == PARTITIONS, 300)
    assigned = time.monotonic() - killed
    one.await_committed(1800)
    for uid in uids:
        assert_whole(one.catalogue(), uid, frames)
    twice = by_a + done(one, b) - runs * frames
    b.end()
    return {
        "frames_before_the_kill": by_a + by_b,
        "seconds_until_the_other_has_the_partitions": round(assigned, 1),
        "frames_done_twice": twice,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--fake", action="store_true", help="a pipeline that costs nothing")
    options = parser.parse_args()
    report: dict[str, Any] = {"cpus": os.cpu_count(), "machine": platform.machine()}
    report |= vars(options) | {"shape": SMALL if options.fake else SHAPE, "session_s": SESSION_S}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(Broker(folder))
        server = Server(folder)
        stack.callback(server.close)
        server.start()
        for consumers in (1, 2):
            with site(broker, server, folder, fake=options.fake) as one:
                rate = throughput(one, consumers, options.runs, options.frames, fake=options.fake)
            report[f"frames_per_second_{consumers}"] = round(rate, 2)
        with site(broker, server, folder, fake=options.fake) as one:
            report |= takeover(one, options.runs, options.frames, fake=options.fake)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
