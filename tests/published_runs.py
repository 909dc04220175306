"""Runs of a RunEngine published as a beamline does, by bluesky-kafka's Publisher, keyed by run.

A program of its own, since importing bluesky-kafka changes msgpack for the whole process:
python published_runs.py '{"bootstrap": …, "topic": …, "runs": 2, "frames": 5, …}' runs and prints,
as JSON, {"uids": […], "ends": {partition: offset after the last acknowledged message}}.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

KEY = "img"


@dataclass(frozen=True)
class Published:
    """What to publish; frame i of a run is noise around i + `first`, or full of it without seed."""

    bootstrap: str
    topic: str
    runs: int = 1
    frames: int = 5
    shape: tuple[int, int] = (12, 16)
    period_s: float = 0.0
    seed: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def start_publishing(what: Published) -> subprocess.Popen[str]:
    """Start the program; `finished` waits for it."""
    command = [sys.executable, __file__, json.dumps(asdict(what))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finished(publishing: subprocess.Popen[str], timeout: float = 300) -> dict[str, Any]:
    out, _ = publishing.communicate(timeout=timeout)
    assert publishing.returncode == 0, f"publishing ended with {publishing.returncode}"
    reported = json.loads(out.splitlines()[-1])
    return {**reported, "ends": {int(number): end for number, end in reported["ends"].items()}}


def frame(what: Published, number: int) -> np.ndarray:
    """Return frame `number` of every run."""
    if what.seed is None:
        return np.full(what.shape, number + 1, "<u2")
    film = np.random.default_rng((what.seed, number)).poisson(20, what.shape)
    film[what.shape[0] // 3] += 500
    return film.astype("<u2")


class Camera:
    """A readable device whose image is inside its events."""

    name = KEY
    parent = None

    def __init__(self, what: Published) -> None:
        self._what = what
        self.number = 0

    def trigger(self) -> Any:
        from ophyd.status import Status

        status = Status()
        status.set_finished()
        return status

    def describe(self) -> dict[str, Any]:
        key = {"source": "sim", "dtype": "array", "shape": list(self._what.shape)}
        return {KEY: {**key, "dtype_numpy": "<u2"}}

    def read(self) -> dict[str, Any]:
        image = frame(self._what, self.number)
        self.number += 1
        return {KEY: {"value": image, "timestamp": time.time()}}

    def read_configuration(self) -> dict[str, Any]:
        return {}

    describe_configuration = read_configuration


def scan(what: Published, camera: Camera) -> Iterator[Any]:
    import bluesky.plan_stubs as bps
    import bluesky.preprocessors as bpp

    @bpp.run_decorator(md={"plan_name": "count", "sample_name": "film", **what.metadata})
    def inner() -> Iterator[Any]:
        for _ in range(what.frames):
            yield from bps.trigger_and_read([camera])
            if what.period_s:
                yield from bps.sleep(what.period_s)

    camera.number = 0
    yield from inner()


def main() -> None:
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve().name != "tests"]
    from bluesky import RunEngine
    from bluesky_kafka import Publisher

    what = Published(**json.loads(sys.argv[1]))
    ends: dict[int, int] = {}
    failed: list[str] = []

    def delivered(error: Any, message: Any) -> None:
        if error is not None:
            failed.append(str(error))
        else:
            ends[message.partition()] = max(ends.get(message.partition(), 0), message.offset() + 1)

    engine = RunEngine({})
    publisher: Any = None

    def publish(name: str, doc: Any) -> None:
        nonlocal publisher
        if name == "start":
            publisher = Publisher(
                topic=what.topic,
                bootstrap_servers=what.bootstrap,
                key=doc["uid"],
                # Not idempotent: Tansu, killed in mid-request, ends such a producer for good. So
                # messages may come twice, in order.
                producer_config={
                    "acks": "all",
                    "max.in.flight.requests.per.connection": 1,
                    "message.timeout.ms": 120000,
                    "message.max.bytes": 32 << 20,
                    "reconnect.backoff.max.ms": 500,
                },
                on_delivery=delivered,
                flush_on_stop_doc=True,
            )
        publisher(name, doc)

    engine.subscribe(publish)
    camera = Camera(what)
    uids = [engine(scan(what, camera))[0] for _ in range(what.runs)]
    if failed:
        sys.exit("\n".join(failed))
    print(json.dumps({"uids": uids, "ends": ends}), flush=True)


if __name__ == "__main__":
    main()
