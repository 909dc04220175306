"""Derived runs as documents, and a Tiled server to put them into."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from gixi_bluesky.tiled_adapters.files.parts import PartWriter
from gixi_bluesky.tiled_adapters.schema import (
    IMAGE_KEY,
    IMAGES,
    STREAMS,
    data_keys,
    image_data_keys,
    stored_columns,
    stored_values,
)
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings
from gixi_bluesky.tiled_adapters.store.writer import DerivedRunStore, RunState

PEAKS_PER_FRAME = 3
IMAGE_SHAPE = (16, 32)
Q = np.linspace(0, 3.9, IMAGE_SHAPE[1])
PHI = np.linspace(0, 90, IMAGE_SHAPE[0])


def start_document(uid: str | None = None, raw_uid: str = "raw-1", **more: Any) -> dict[str, Any]:
    return {
        "uid": uid or str(uuid4()),
        "time": time.time(),
        "scan_id": 7,
        "purpose": "gixi",
        "tiled_specs": ["GIXIRun"],
        "gixi": {
            "schema_version": 2,
            "raw_uid": raw_uid,
            "grid": {"q_max_inv_angstrom": 3.9, "shape": list(IMAGE_SHAPE)},
            "provenance": {"version": "0.1", "config": {"grid": {"q_max_inv_angstrom": 3.9}}},
        },
        **more,
    }


def descriptor(uid: str, stream: str) -> dict[str, Any]:
    keys = image_data_keys(*IMAGE_SHAPE) if stream == IMAGES else data_keys(stream)
    return {
        "uid": f"{uid}-{stream}",
        "name": stream,
        "run_start": uid,
        "time": time.time(),
        "data_keys": keys,
        "object_keys": {},
        "configuration": {},
        "hints": {},
    }


def stop_document(uid: str, **gixi: Any) -> dict[str, Any]:
    return {
        "uid": str(uuid4()),
        "time": time.time(),
        "run_start": uid,
        "exit_status": "success",
        "reason": "",
        "num_events": {},
        "gixi": gixi,
    }


def columns(stream: str, frames: Sequence[int]) -> dict[str, list[Any]]:
    """Rows that tell by their values which frame and peak they belong to."""
    each = 1 if stream == "frames" else PEAKS_PER_FRAME
    found = {}
    for column in stored_columns(stream):
        values: list[Any] = []
        for frame in frames:
            for k in range(each):
                value: Any = frame + k / 100
                if column.name == "frame":
                    value = frame
                elif column.name == "peak":
                    value = k
                elif column.name == "phase":
                    value = f"phase-{k}"
                elif column.name == "status":
                    value = "ok"
                elif column.name == "n_peaks":
                    value = PEAKS_PER_FRAME
                elif column.name == "q":
                    value = 1.0 + k / 10
                elif column.dtype.startswith("<U"):
                    value = ""
                values.append(value)
        found[column.name] = stored_values(column, values)
    return found


def page(uid: str, stream: str, first_seq_num: int, data: dict[str, list[Any]]) -> dict[str, Any]:
    n = len(data["frame"])
    now = time.time()
    return {
        "uid": [str(uuid4()) for _ in range(n)],
        "descriptor": f"{uid}-{stream}",
        "seq_num": list(range(first_seq_num, first_seq_num + n)),
        "time": [now] * n,
        "data": data,
        "timestamps": {name: [now] * n for name in data},
        "filled": {},
    }


def image_of(frame: int) -> np.ndarray[Any, Any]:
    image = np.random.default_rng(frame).random(IMAGE_SHAPE, dtype=np.float32)
    image[0, :5] = np.nan
    return image


class RunWriting:
    """One writer session of a derived run: what the callback does, in a few lines."""

    def __init__(
        self,
        client: Any,
        results: Path,
        start: dict[str, Any],
        session_s: float = 15,
        patience: float = 1.0,
    ) -> None:
        self.uid = start["uid"]
        output = OutputSettings(directory=results)
        self.store = DerivedRunStore(
            client, output, TiledSettings(), session_s=session_s, patience=patience
        )
        self.state: RunState = self.store.open(start)
        self.rows = dict(self.state.rows)
        self.part = PartWriter(
            results, self.uid, start, Q, PHI, committed=self.state.committed or None
        )
        for stream in (*STREAMS, IMAGES):
            self.store("descriptor", descriptor(self.uid, stream))
        self.resource = f"{self.uid}-{self.part.path.stem}"
        self.store(
            "stream_resource",
            {
                "uid": self.resource,
                "run_start": self.uid,
                "data_key": IMAGE_KEY,
                "mimetype": "application/x-hdf5",
                "uri": self.part.uri,
                "parameters": {
                    "dataset": self.part.dataset,
                    "chunk_shape": self.part.chunk_shape,
                    "swmr": True,
                },
            },
        )

    def images(self, frames: Sequence[int]) -> None:
        self.part.append_images({frame: image_of(frame) for frame in frames})
        self.store(
            "stream_datum",
            {
                "uid": f"{self.resource}/{frames[0]}",
                "descriptor": f"{self.uid}-{IMAGES}",
                "stream_resource": self.resource,
                "indices": {"start": frames[0], "stop": frames[-1] + 1},
                "seq_nums": {"start": frames[0] + 1, "stop": frames[-1] + 2},
            },
        )

    def table(self, stream: str, frames: Sequence[int]) -> dict[str, Any]:
        data = columns(stream, frames)
        self.part.append_table(stream, data)
        sent = page(self.uid, stream, self.rows[stream] + 1, data)
        self.store("event_page", sent)
        self.rows[stream] += len(data["frame"])
        return sent

    def flush(self, frames: Sequence[int]) -> None:
        self.images(frames)
        for stream in STREAMS:
            self.table(stream, frames)

    def stop(self, **gixi: Any) -> Path:
        self.store("stop", stop_document(self.uid, **gixi))
        return self.part.finish()

    def abandon(self) -> None:
        """Leave as a crash would, except that the claim need not be waited for."""
        self.store.close()
        self.part.close()


def batches(frames: int, size: int) -> Iterator[list[int]]:
    for first in range(0, frames, size):
        yield list(range(first, min(first + size, frames)))
