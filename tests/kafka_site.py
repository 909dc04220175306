"""A site to test the consumer at: broker, Tiled server and consumers, each in its own process."""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from consumer_process import ConsumerProcess
from fakes import GEOMETRY
from kafka_broker import FAST_PRODUCER, committed, create_topic, messages
from published_runs import Published, finished, start_publishing
from served import KEY, Server

from gixi_bluesky.tiled_adapters import queries
from gixi_bluesky.tiled_adapters.schema import STREAMS

SESSION_S = 6.0
# What differs between two analyses of the same frame.
_OWN = {
    "latency",
    "raw_time",
    "seq_num",
    "source",
    "time",
}  # an inline image is called after its run


class Site:
    """Topics, published runs and consumers of one test; the servers may be shared."""

    _numbers = itertools.count(1)

    def __init__(self, bootstrap: str, server: Server, folder: Path) -> None:
        number = next(self._numbers)
        self.bootstrap = bootstrap
        self.server = server
        self.folder = folder
        self.topic = f"raw-{number}"
        self.group = f"group-{number}"
        self.partitions = 0
        self.arrays = "none"
        self.sections: dict[str, Any] = {}
        self.ends: dict[int, int] = {}
        self.uids: list[str] = []
        self.consumers: list[ConsumerProcess] = []

    def create(self, partitions: int) -> None:
        self.partitions = partitions
        create_topic(self.bootstrap, self.topic, partitions)

    def derived(self) -> list[Any]:
        """Return the messages of the topic of derived documents."""
        return messages(self.bootstrap, f"{self.topic}.gixi", self.partitions)

    def letters(self) -> list[Any]:
        """Return the dead letters."""
        return messages(self.bootstrap, f"{self.topic}.dead-letters")

    def config(self, name: str, **kafka: Any) -> Path:
        tree = {
            "geometry": GEOMETRY,
            "grid": {"shape": [64, 64], "q_max_inv_angstrom": 3.0 + len(self.topic) / 1000},
            # Where the server lies, so that it can read what is written.
            "output": {
                "directory": str(self.server.directory / "results"),
                "flush_s": 0.1,
                "arrays": self.arrays,
            },
            "input": {"roots": [str(self.server.directory)], "data_key": "img"},
            "tiled": {"uri": self.server.uri},
            "kafka": {
                "bootstrap": self.bootstrap,
                "topics": [self.topic],
                "group": self.group,
                "session_s": SESSION_S,
                "options": {"heartbeat.interval.ms": 300, "reconnect.backoff.max.ms": 500},
                **kafka,
            },
            **self.sections,
        }
        path = self.folder / f"{self.topic}-{name}.yaml"
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")
        return path

    def consumer(
        self, name: str, kafka: Mapping[str, Any] | None = None, **environment: str
    ) -> ConsumerProcess:
        config = self.config(name, **(kafka or {}))
        consumer = ConsumerProcess(config, f"{self.topic}-{name}", KEY, **environment)
        self.consumers.append(consumer)
        return consumer

    def published(self, **what: Any) -> Published:
        return Published(self.bootstrap, self.topic, **what)

    @contextlib.contextmanager
    def publishing(self, programs: int = 1, **what: Any) -> Iterator[list[subprocess.Popen[str]]]:
        """Publish runs while the block runs, by several engines at once; wait for their end.

        Yields the processes.
        """
        began = [start_publishing(self.published(**what)) for _ in range(programs)]
        try:
            yield began
            for one in began:
                self.took(finished(one))
        finally:
            for one in began:
                one.kill()
                one.communicate()

    def publish(self, **what: Any) -> list[str]:
        with self.publishing(**what):
            pass
        return self.uids

    def send(self, *messages: bytes | None, partition: int = 0, key: str = "") -> list[int]:
        """Send messages of any kind and return their offsets."""
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.bootstrap, **FAST_PRODUCER})
        offsets: list[int] = []
        for message in messages:
            producer.produce(
                self.topic,
                message,
                key,
                partition=partition,
                on_delivery=lambda _, sent: offsets.append(sent.offset()),
            )
        assert producer.flush(60) == 0
        self.ends[partition] = max([self.ends.get(partition, 0), *(n + 1 for n in offsets)])
        return offsets

    def took(self, reported: dict[str, Any]) -> None:
        self.uids += reported["uids"]
        for number, end in reported["ends"].items():
            self.ends[number] = max(self.ends.get(number, 0), end)

    def catalogue(self) -> Any:
        return self.server.catalog("gixi")

    def await_committed(self, seconds: float = 300) -> None:
        """Wait until the group has committed all that the producers were acknowledged."""
        wait_for(
            lambda: self.committed() == self.ends, seconds, lambda: self.reported(), pause_s=0.5
        )

    def committed(self) -> dict[int, int]:
        found = committed(self.bootstrap, self.group, self.topic, self.partitions)
        return {number: found[number] for number in self.ends}

    def metrics(self, port: int | None) -> dict[str, float]:
        """Return what Prometheus would see, by name and labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def reported(self) -> str:
        logs = "\n".join(one.log.read_text()[-3000:] for one in self.consumers)
        return f"committed {self.committed()}, acknowledged {self.ends}\n{logs}"

    def close(self) -> None:
        for consumer in self.consumers:
            with contextlib.suppress(ProcessLookupError):
                consumer.send(signal.SIGCONT)  # one that is stopped cannot end
            consumer.kill()


def tables(run: Any) -> dict[str, pd.DataFrame]:
    """Return the tables of a derived run, sorted, without what every analysis has of its own."""
    found = {}
    for stream in STREAMS:
        rows = run[stream].base["internal"].read()
        own = [name for name in rows if name in _OWN or name.startswith("ts_")]
        rows = rows.drop(columns=own)
        by = [name for name in ("frame", "peak", "phase", "h") if name in rows]
        found[stream] = rows.sort_values(by).reset_index(drop=True)
    return found


def assert_whole(catalogue: Any, raw_uid: str, frames: int) -> Any:
    """Check that a raw run has one derived run, complete, each frame once; return it."""
    (run,) = queries.runs_for(catalogue, raw_uid)
    stored = run["frames"].base["internal"].read()
    assert sorted(stored["frame"]) == list(range(frames))
    assert set(stored["status"]) == {"ok"}
    assert run.metadata["stop"]["exit_status"] == "success"
    assert run.metadata["stop"]["gixi"]["completeness"] == "complete"
    return run


def wait_for(
    condition: Callable[[], bool],
    seconds: float = 180,
    reported: Callable[[], str] = lambda: "it did not come true in time",
    pause_s: float = 0.1,
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, reported()
        time.sleep(pause_s)
