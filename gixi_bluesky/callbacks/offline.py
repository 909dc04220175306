"""Result files made without a server, brought into Tiled as the runs they are."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pandas as pd

from gixi_bluesky.callbacks.summary import RunSummary
from gixi_bluesky.tiled_adapters.export import FileRun
from gixi_bluesky.tiled_adapters.schema import (
    IMAGE_DATASET,
    IMAGE_KEY,
    IMAGES,
    STREAMS,
    data_keys,
    image_data_keys,
)
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings
from gixi_bluesky.tiled_adapters.writer import DerivedRunStore

__all__ = ["register_result", "result_uids"]

_ROWS_PER_PAGE = 5000


def result_uids(directory: Path) -> list[str]:
    """Return the uids of the finished runs in a results directory."""
    return sorted(path.stem for path in directory.glob("*.nxs"))


def register_result(directory: Path, uid: str, catalogue: Any) -> None:
    """Store the run of `<uid>.nxs` in a catalogue; its images stay where they are.

    Raises RunCompleteError when it is there, and what reading and storing raise.
    """
    with contextlib.closing(FileRun(directory, uid)) as run:
        store = DerivedRunStore(catalogue, OutputSettings(directory=directory), TiledSettings())
        state = store.open(run.start)
        with contextlib.closing(store):
            _Registration(run, store, state.committed, dict(state.rows)).send(directory)


class _Registration:
    def __init__(
        self, run: FileRun, store: DerivedRunStore, committed: frozenset[int], rows: dict[str, int]
    ) -> None:
        self._run = run
        self._start = run.start
        self._store = store
        self._committed = committed
        self._rows = rows
        self._tables = {stream: run.table(stream) for stream in STREAMS}

    def send(self, directory: Path) -> None:
        self._send_images(directory.absolute())
        for stream in STREAMS:
            self._descriptor(stream, data_keys(stream))
        for stream, rows in self._tables.items():
            self._send_rows(stream, rows[~rows["frame"].isin(list(self._committed))])
        self._store("stop", self._stop())

    def _send_images(self, directory: Path) -> None:
        parts = sorted((directory / self._start["uid"]).glob("part-*.h5"))
        if not (parts and self._run.n_images):
            return
        n_phi, n_q = self._run.image_shape
        descriptor = self._descriptor(IMAGES, image_data_keys(n_phi, n_q))
        resource = self._uid(parts[-1].as_uri())
        self._store(
            "stream_resource",
            {
                "uid": resource,
                "run_start": self._start["uid"],
                "data_key": IMAGE_KEY,
                "mimetype": "application/x-hdf5",
                "uri": f"file://localhost{parts[-1]}",
                "parameters": {
                    "dataset": IMAGE_DATASET,
                    "chunk_shape": [1, n_phi, n_q],
                    "swmr": True,
                },
            },
        )
        self._store(
            "stream_datum",
            {
                "uid": f"{resource}/0",
                "stream_resource": resource,
                "descriptor": descriptor,
                "indices": {"start": 0, "stop": self._run.n_images},
                "seq_nums": {"start": 1, "stop": self._run.n_images + 1},
            },
        )

    def _descriptor(self, stream: str, keys: Mapping[str, Any]) -> str:
        uid = self._uid(f"descriptor/{stream}")
        self._store(
            "descriptor",
            {
                "uid": uid,
                "run_start": self._start["uid"],
                "name": stream,
                "time": self._start["time"],
                "data_keys": dict(keys),
                "configuration": {},
                "hints": {},
            },
        )
        return uid

    def _send_rows(self, stream: str, rows: pd.DataFrame) -> None:
        for begin in range(0, len(rows), _ROWS_PER_PAGE):
            page = rows.iloc[begin : begin + _ROWS_PER_PAGE]
            first = self._rows.get(stream, 0) + 1
            times = [self._start["time"]] * len(page)
            data = {str(name): page[name].tolist() for name in page}
            self._store(
                "event_page",
                {
                    "descriptor": self._uid(f"descriptor/{stream}"),
                    "seq_num": list(range(first, first + len(page))),
                    "time": times,
                    "data": data,
                    "timestamps": dict.fromkeys(data, times),
                },
            )
            self._rows[stream] = first + len(page) - 1

    def _stop(self) -> dict[str, Any]:
        phases = self._start["gixi"].get("phases_searched", ())
        summary = RunSummary({phase["slug"]: phase["name"] for phase in phases})
        for stream, rows in self._tables.items():
            summary.add(stream, {str(name): rows[name].tolist() for name in rows})
        times = self._tables["frames"]["raw_time"]
        return {
            "uid": self._uid("stop"),
            "run_start": self._start["uid"],
            "time": float(times.max()) if len(times) else self._start["time"],
            "exit_status": "success",
            "reason": "",
            "num_events": dict(self._rows),
            "gixi": summary.as_dict(),
        }

    def _uid(self, name: str) -> str:
        return str(uuid5(UUID(self._start["uid"]), name))
