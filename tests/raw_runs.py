"""Raw runs: written by hand, as detectors that put their images into files, and recorded ones."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import h5py
import msgpack
import numpy as np
import tifffile

Documents = list[tuple[str, dict[str, Any]]]

SHAPE = (9, 12)
KEY = "img"
HDF5 = "application/x-hdf5"


def images(n: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Frames that differ: frame i is full of i + 1."""
    return np.ones((n, *shape), "<u2") * np.arange(1, n + 1, dtype="<u2")[:, None, None]


class RawRun:
    """Makes the documents of one raw run."""

    def __init__(self, shape: tuple[int, ...] = SHAPE, key: str = KEY, **start: Any) -> None:
        self.uid = str(uuid4())
        self.key = key
        self.shape = shape
        self.extra = start
        self.descriptor_uid = str(uuid4())

    def start(self) -> tuple[str, dict[str, Any]]:
        return "start", {"uid": self.uid, "time": 100.0, "scan_id": 3, "plan_name": "count"} | (
            self.extra
        )

    def descriptor(
        self, stream: str = "primary", external: str = "STREAM:", **data_keys: Any
    ) -> tuple[str, dict[str, Any]]:
        image = {"source": "file", "dtype": "array", "shape": list(self.shape)}
        if external:
            image["external"] = external
        keys = {self.key: image, **data_keys}
        return "descriptor", {
            "uid": self.descriptor_uid,
            "run_start": self.uid,
            "name": stream,
            "time": 100.0,
            "data_keys": keys,
            "configuration": {},
            "hints": {},
            "object_keys": {},
        }

    def event(self, seq_num: int, time: float = 0.0, **data: Any) -> tuple[str, dict[str, Any]]:
        return "event", {
            "uid": str(uuid4()),
            "descriptor": self.descriptor_uid,
            "seq_num": seq_num,
            "time": time or 100.0 + seq_num,
            "data": data,
            "timestamps": dict.fromkeys(data, 0.0),
            "filled": {},
        }

    def stream_resource(
        self,
        file: Path | str,
        mimetype: str = HDF5,
        uid: str = "",
        /,
        **parameters: Any,
    ) -> tuple[str, dict[str, Any]]:
        return "stream_resource", {
            "uid": uid or f"{self.uid}-resource",
            "run_start": self.uid,
            "data_key": self.key,
            "uri": f"file://localhost{file}",
            "mimetype": mimetype,
            "parameters": parameters or {"dataset": "/entry/data/data"},
        }

    def stream_datum(
        self, start: int, stop: int, resource: str = "", first_seq_num: int | None = None
    ) -> tuple[str, dict[str, Any]]:
        resource = resource or f"{self.uid}-resource"
        seq = start + 1 if first_seq_num is None else first_seq_num
        return "stream_datum", {
            "uid": f"{resource}/{start}",
            "stream_resource": resource,
            "descriptor": self.descriptor_uid,
            "indices": {"start": start, "stop": stop},
            "seq_nums": {"start": seq, "stop": seq + stop - start},
        }

    def stop(self, n: int | None = None, **more: Any) -> tuple[str, dict[str, Any]]:
        counts = {} if n is None else {"num_events": {"primary": n}}
        return "stop", {
            "uid": str(uuid4()),
            "run_start": self.uid,
            "time": 200.0,
            "exit_status": "success",
            "reason": "",
            **counts,
            **more,
        }


def inline_run(frames: np.ndarray, **start: Any) -> Documents:
    """A run whose events hold their images."""
    run = RawRun(frames.shape[1:], **start)
    events = [run.event(i + 1, **{KEY: frame}) for i, frame in enumerate(frames)]
    return [run.start(), run.descriptor(external=""), *events, run.stop(len(frames))]


def hdf5_run(path: Path, frames: np.ndarray, *, per_event: bool = False) -> Documents:
    """A run whose images lie in one HDF5 file, (events, rows, columns) or (events, n, …)."""
    write_hdf5(path, frames)
    shape = frames.shape[1:] if per_event else (1, *frames.shape[1:])
    run = RawRun(shape)
    documents = [run.start(), run.descriptor(), run.stream_resource(path)]
    for i in range(len(frames)):
        documents += [run.stream_datum(i, i + 1), run.event(i + 1)]
    return [*documents, run.stop(len(frames))]


def write_hdf5(path: Path, frames: np.ndarray, dataset: str = "/entry/data/data") -> Path:
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset(dataset, data=frames, chunks=(1, *frames.shape[1:]))
    return path


def write_tiffs(folder: Path, frames: np.ndarray, template: str = "img_{:05d}.tif") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames):
        tifffile.imwrite(folder / template.format(i), frame)


def feed(target: Any, documents: Documents) -> None:
    for name, doc in documents:
        target(name, doc)


def routed(router: Any, documents: Documents) -> Iterator[Any]:
    for name, doc in documents:
        yield from router.feed(name, doc)


def recorded_streams(folder: Path) -> Iterator[tuple[Path, list[Documents]]]:
    """The documents that were recorded at beamlines and from tutorials, file by file."""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".jsonl":
            yield path, [[tuple(json.loads(line)) for line in path.read_text().splitlines()]]
        elif path.suffix == ".json" or path.name.endswith(".json.gz"):
            content = path.read_bytes()
            text = gzip.decompress(content) if path.suffix == ".gz" else content
            yield path, [list(_pairs(json.loads(text)))]
        elif path.suffix == ".msgpack":
            with path.open("rb") as stream:
                unpacked = list(msgpack.Unpacker(stream, raw=False, strict_map_key=False))
            yield path, [[(name, doc) for name, doc in unpacked]]


def _pairs(tree: Any) -> Iterator[tuple[str, Any]]:
    for item in tree:
        if isinstance(item, dict):
            yield item["name"], item["doc"]
        elif len(item) == 2 and isinstance(item[0], str):
            yield item[0], item[1]
        else:
            yield from _pairs(item)
