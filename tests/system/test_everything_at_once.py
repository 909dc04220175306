"""A beamtime in a minute: whatever is killed on the way, each frame is stored exactly once."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pandas as pd
import pytest
from confluent_kafka import Producer
from fakes import Stores
from kafka_broker import FAST_PRODUCER, Broker, messages
from prometheus_client.parser import text_string_to_metric_families
from scan_publisher import read_documents
from served import Server
from slurm_cluster import SlurmCluster, wait_for
from slurm_site import PARTITIONS, Job, Scan, SlurmSite, comparable, tables

from gixi_bluesky.callbacks import Analysis
from gixi_bluesky.config import load_config
from gixi_bluesky.tiled_adapters.schema import STREAMS
from gixi_bluesky.tiled_adapters.store.spool_folder import spool_files

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

TOPIC = "beamtime"
RUNS = 12
FRAMES = 6


class Evil:
    """What must never be unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch unpickled",)


POISON = [
    b"this is not msgpack \xc1",
    b"",
    msgpack.packb(42),
    msgpack.packb(["nonsense", {"uid": "1"}]),
    msgpack.packb(
        ["start", {"uid": "2", "time": {b"nd": True, b"kind": b"O", b"data": pickle.dumps(Evil())}}]
    ),
]


class Acknowledged:
    """What the broker took of the poison: the offset after the last message of each partition."""

    def __init__(self, bootstrap: str) -> None:
        self.ends: dict[int, int] = {}
        self._producer = Producer({"bootstrap.servers": bootstrap, "log_level": 2, **FAST_PRODUCER})

    def send(self, message: bytes) -> None:
        self._producer.produce(TOPIC, message, on_delivery=self._delivered)
        assert self._producer.flush(120) == 0

    def _delivered(self, error: Any, message: Any) -> None:
        assert error is None, error
        place = message.partition()
        self.ends[place] = max(self.ends.get(place, 0), message.offset() + 1)


class Counting:
    """How many frames each consumer says it has analysed, as long as it lived."""

    def __init__(self, job: Job, tasks: int) -> None:
        self.frames: Counter[int] = Counter()
        self._job = job
        self._tasks = tasks
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ending.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ending.wait(0.25):
            for task in range(self._tasks):
                beat = self._job.beat(task)
                if beat is not None and beat.metrics_port:
                    with contextlib.suppress(OSError):
                        self.frames[beat.pid] = frames_reported(beat.metrics_port)


def frames_reported(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=1) as answer:
        text = answer.read().decode()
    return sum(
        int(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "gixi_frames_finished_total"
    )


@pytest.fixture
def site(slurm: SlurmCluster, tmp_path: Path) -> Iterator[SlurmSite]:
    """With a broker and a server of its own, since they are killed."""
    (tmp_path / "tiled").mkdir()
    server = Server(tmp_path / "tiled")
    with Broker(tmp_path) as broker:
        try:
            server.start()
            yield SlurmSite(broker, server, slurm)
        finally:
            slurm.clear()
            server.close()


@pytest.fixture
def job(site: SlurmSite) -> Job:
    return site.submit(TOPIC, "--nodes", "2", "--gpus-per-node", "1", "--time", "60")


def test_a_beamtime_in_which_everything_is_killed_once(
    site: SlurmSite, job: Job, record_property: Any
) -> None:
    times: dict[str, float] = {}
    counting = Counting(job, 2)
    poison = Acknowledged(site.broker.bootstrap)
    scan = site.publish(TOPIC, RUNS, FRAMES, 0.6)
    try:
        times["submission to first frame"] = first_frame(job)
        disturb(site, job, scan, poison, times)
        scan.finish()
        site.await_stored(scan.runs, FRAMES, 400)
    finally:
        scan.kill()
        counting.end()

    assert_equal_to_undisturbed(site, scan)
    ends = {
        place: max(scan.acknowledged.get(place, 0), poison.ends.get(place, 0))
        for place in {*scan.acknowledged, *poison.ends}
    }
    # An offset passes a dead letter only when the broker has that.
    wait_for(lambda: site.committed(TOPIC) == ends, "everything is committed", 300, 1.0)
    letters = messages(site.broker.bootstrap, f"{TOPIC}.dead-letters")
    assert sorted(letter.value() or b"" for letter in letters) == sorted(POISON)
    assert all(row["lag"] == 0 for row in job.status())
    times["drain"] = job.cancel()
    assert site.committed(TOPIC) == ends
    assert not list(site.folder.rglob("unpickled"))
    times["frames done twice"] = sum(counting.frames.values()) - RUNS * FRAMES
    for what, value in times.items():
        record_property(what, value)
        print(f"{what}: {value:.1f}")


def first_frame(job: Job) -> float:
    def stored() -> bool:
        return any((beat := job.beat(task)) and beat.frames for task in range(2))

    wait_for(stored, "the first frame", 300)
    return time.monotonic() - job.submitted


def held_by_others(job: Job, pid: int) -> set[str]:
    beats = [beat for task in range(2) if (beat := job.beat(task)) and beat.pid != pid]
    return {partition for beat in beats for partition in beat.partitions}


def is_missed(site: SlurmSite, scan: Scan) -> bool:
    """Return whether rows wait for Tiled in a spool, or none is left that could."""
    if spool_files(site.folder / "results"):
        return True
    committed = site.committed(TOPIC)
    ends = scan.acknowledged.items()
    return bool(ends) and all(committed.get(place, 0) >= end for place, end in ends)


def disturb(
    site: SlurmSite,
    job: Job,
    scan: Scan,
    poison: Acknowledged,
    times: dict[str, float],
) -> None:
    """Kill one thing after the other while runs come in."""
    job.await_running(2)
    scan.await_run(1)
    wait_for(lambda: (beat := job.beat(0)) and beat.partitions, "partitions for the first", 300)
    first = job.beat(0)
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    killed = time.time()
    # By the other consumer, or by the killed one's next start where Slurm is the quicker one.
    wait_for(lambda: held_by_others(job, first.pid) >= set(first.partitions), "a take-over", 300)
    times["take-over after SIGKILL"] = time.time() - killed
    times["SIGKILL to the next start"] = job.await_start(0, 2) - killed

    scan.await_run(3)
    poison.send(POISON[0])
    site.broker.kill()
    wait_for(lambda: (beat := job.beat(1)) and beat.last_error, "the broker is missed", 300)
    site.broker.start()
    poison.send(POISON[1])

    scan.await_run(5)
    site.server.kill()
    wait_for(lambda: is_missed(site, scan), "a run waits for Tiled", 300, pause_s=0.5)
    poison.send(POISON[2])
    site.server.start()

    job.await_running(2, since=time.time())
    asleep = job.beat(1)
    assert asleep is not None
    os.kill(asleep.pid, signal.SIGSTOP)
    wait_for(lambda: len(held_by_others(job, asleep.pid)) == PARTITIONS, "it is missed", 300)
    poison.send(POISON[3])
    before = job.log(1).count('"event": "assigned"')
    os.kill(asleep.pid, signal.SIGCONT)
    # It believes in its old partitions for a moment, and Tansu's group stalls when a member leaves
    # while others join.
    wait_for(lambda: job.log(1).count('"event": "assigned"') > before, "the woken one is back", 300)
    job.await_running(2, since=time.time())
    preempted, starts = time.time(), job.starts(0)
    site.preempt(job.status()[0]["node"])
    poison.send(POISON[4])
    times["preemption to the next start"] = job.await_start(0, starts + 1) - preempted


def assert_equal_to_undisturbed(site: SlurmSite, scan: Scan) -> None:
    """Each raw run has one derived run with the rows that a run without a fault gives."""
    undisturbed = Stores()
    config = load_config(site.config)
    elsewhere = config.output.model_copy(update={"directory": scan.folder / "undisturbed"})
    config = config.model_copy(update={"output": elsewhere})
    with Analysis(config, store=undisturbed) as analysis:
        for name, doc in read_documents(scan.folder):
            analysis(name, doc)
        analysis.drain(120)
    assert len(undisturbed.made) == RUNS
    for store in undisturbed.made:
        (run,) = site.derived(store.start["gixi"]["raw_uid"])
        assert run.start["uid"] == store.start["uid"]
        assert run.stop["gixi"]["n_frames"] == FRAMES
        found = tables(run)
        assert all(len(rows) >= FRAMES for rows in found.values())
        for stream in STREAMS:
            expected = comparable(store.table(stream))
            pd.testing.assert_frame_equal(found[stream], expected, check_dtype=False)
        assert found["frames"]["frame"].tolist() == list(range(FRAMES))
        assert set(found["frames"]["status"]) == {"ok"}
        for frame in range(FRAMES):
            assert run.polar_image(frame).shape == (64, 128)
