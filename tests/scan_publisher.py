"""A beamline in a process of its own: a RunEngine whose documents bluesky-kafka publishes.

python scan_publisher.py BOOTSTRAP TOPIC FOLDER RUNS FRAMES SECONDS_A_FRAME

Every other run holds its images in its events, the others in a file. Lines of JSON on stdout tell
of each run that begins, and at the end of the last message that each partition took. All documents
are also written to FOLDER/documents.jsonl.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from bluesky import RunEngine
from bluesky.plans import count
from ophyd import Component, Device, DeviceStatus, Signal

from gixi_bluesky.demo.beamline import SimulatedDetector
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.settings import GeometrySettings
from gixi_bluesky.processing.structures.cif_files import read_structure, shipped_cifs

SHAPE = (150, 160)
GEOMETRY = {
    "wavelength_angstrom": 0.6888,
    "distance_mm": 300.0,
    "pixel_size_mm": [1.0, 1.0],
    "beam_center_px": [10.0, 20.0],
    "incidence_angle_deg": 0.3,
}


def expected_counts() -> np.ndarray:
    """Return what a powder of MAPbBr3 gives, (rows, columns)."""
    geometry = Geometry.from_settings(GeometrySettings.model_validate(GEOMETRY), SHAPE)
    q = np.hypot(*geometry.q_at(*np.indices(SHAPE)))
    lines = read_structure(shipped_cifs()["MAPbBr3"], q_max=3.0).reflections
    rings = zip(lines.q, lines.intensity, strict=True)
    return 20.0 + sum(1000 * height * np.exp(-(((q - at) / 0.02) ** 2) / 2) for at, height in rings)


class Film:
    """Counts of a film; no two frames are alike."""

    def __init__(self) -> None:
        self._expected = expected_counts()
        self._random = np.random.default_rng(20261126)

    def __call__(self, time_s: float = 0.0) -> np.ndarray:
        return self._random.poisson(self._expected).astype(np.int32)


class InlineDetector(Device):
    """A detector whose images are in the events."""

    image = Component(Signal, value=np.zeros(SHAPE, np.int32))

    def __init__(self, *, name: str, film: Film, exposure_s: float) -> None:
        super().__init__(name=name)
        self.image.name = f"{name}_image"
        self._film = film
        self._exposure_s = exposure_s

    def trigger(self) -> DeviceStatus:
        status = DeviceStatus(self)

        def expose() -> None:
            time.sleep(self._exposure_s)
            self.image.put(self._film())
            status.set_finished()

        threading.Thread(target=expose, daemon=True).start()
        return status

    def describe(self) -> dict[str, Any]:
        description = dict(super().describe())
        description[self.image.name] |= {"dtype_numpy": "<i4", "shape": list(SHAPE)}
        return description


def tell(**reported: Any) -> None:
    print(json.dumps(reported), flush=True)


def as_json(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": value.dtype.str}
    return value.item()


def read_documents(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the documents that were published from a folder, in order."""

    def arrays(tree: dict[str, Any]) -> Any:
        return np.array(tree["array"], tree["dtype"]) if set(tree) == {"array", "dtype"} else tree

    with (folder / "documents.jsonl").open() as file:
        return [tuple(json.loads(line, object_hook=arrays)) for line in file]


def main(
    bootstrap: str, topic: str, folder: Path, runs: int, frames: int, seconds_a_frame: float
) -> None:
    # Importing it patches msgpack for the whole process: one more reason for one of its own.
    from bluesky_kafka import Publisher
    from event_model import RunRouter

    acknowledged: dict[int, int] = defaultdict(int)

    def delivered(error: Any, message: Any) -> None:
        if error is not None:
            tell(error=str(error))
        else:
            place = message.partition()
            acknowledged[place] = max(acknowledged[place], message.offset() + 1)

    def publisher(name: str, doc: dict[str, Any]) -> tuple[list[Any], list[Any]]:
        # The key keeps the documents of a run in order, in one partition.
        # Not idempotent: Tansu, killed in mid-request, ends such a producer for good. So messages
        # may come twice, in order.
        config = {
            "acks": "all",
            "max.in.flight.requests.per.connection": 1,
            "message.timeout.ms": 120000,
            "reconnect.backoff.max.ms": 500,
            "log_level": 2,
        }
        uid = doc["uid"]
        return [Publisher(topic, bootstrap, uid, config, delivered, flush_on_stop_doc=True)], []

    film = Film()
    in_file = SimulatedDetector(
        name="file",
        expose=film,
        shape=SHAPE,
        directory=folder / "raw",
        period_s=1.0,
        exposure_s=seconds_a_frame,
    )
    in_event = InlineDetector(name="inline", film=film, exposure_s=seconds_a_frame)
    folder.mkdir(parents=True, exist_ok=True)
    engine = RunEngine()
    engine.subscribe(RunRouter([publisher]))
    with (folder / "documents.jsonl").open("w") as record:
        engine.subscribe(
            lambda name, doc: record.write(json.dumps((name, doc), default=as_json) + "\n")
        )
        engine.subscribe(lambda _, doc: tell(run=doc["uid"], number=doc["number"]), "start")
        for number in range(runs):
            engine(count([(in_file, in_event)[number % 2]], num=frames), number=number)
    tell(acknowledged=acknowledged)


if __name__ == "__main__":
    bootstrap, topic, folder, runs, frames, seconds = sys.argv[1:]
    main(bootstrap, topic, Path(folder), int(runs), int(frames), float(seconds))
