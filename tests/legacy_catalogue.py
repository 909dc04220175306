"""A databroker catalogue of the old kind: MongoDB in memory, with handlers for its resources."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from databroker.mongo_normalized import MongoAdapter
from raw_runs import RawRun, images

FRAMES = 3
SHAPE = (60, 80)
FOLDER = "GIXI_LEGACY_FOLDER"  # environment: where the images are
SPECS = ("NPY_SEQ", "OURS_ALONE")


class Handler:
    """Reads what only this beamline's handler can: a stack in one file, by row."""

    specs = frozenset({"OURS_ALONE"})

    def __init__(self, path: str, **_: Any) -> None:
        self._stack = np.load(f"{path}_stack.npy", allow_pickle=False)

    def __call__(self, index: int) -> Any:
        return self._stack[index]


class SequenceHandler:
    """Reads ophyd's sequences of npy files."""

    def __init__(self, path: str, **_: Any) -> None:
        self._path = path

    def __call__(self, index: int) -> Any:
        return np.load(f"{self._path}_{index}.npy", allow_pickle=False)


def write_images(folder: Path) -> None:
    frames = images(FRAMES, SHAPE)
    np.save(folder / "film_stack.npy", frames)
    for index, frame in enumerate(frames):
        np.save(folder / f"film_{index}.npy", frame)


def documents(spec: str, folder: str) -> list[tuple[str, dict[str, Any]]]:
    """A run of FRAMES events whose images lie in one resource of this kind."""
    run = RawRun(SHAPE, plan_name=f"count-{spec}")
    run.uid = spec
    run.descriptor_uid = f"descriptor-{spec}"
    resource = {
        "uid": f"resource-{spec}",
        "run_start": run.uid,
        "spec": spec,
        "root": folder,
        "resource_path": "film",
        "resource_kwargs": {},
        "path_semantics": "posix",
    }
    documents = [run.start(), run.descriptor(external="FILESTORE:"), ("resource", resource)]
    for index in range(FRAMES):
        datum_id = f"{resource['uid']}/{index}"
        datum = {"datum_id": datum_id, "resource": resource["uid"]}
        name, event = run.event(index + 1, **{run.key: datum_id})
        event["filled"] = {run.key: False}
        documents += [("datum", {**datum, "datum_kwargs": {"index": index}}), (name, event)]
    return [*documents, run.stop(FRAMES)]


def tree() -> MongoAdapter:
    """Return the catalogue that the profile of the test names, with a run of each kind."""
    handlers = {"OURS_ALONE": Handler, "NPY_SEQ": SequenceHandler}
    adapter = MongoAdapter.from_mongomock(handler_registry=handlers)
    serializer = adapter.get_serializer()
    for spec in SPECS:
        for name, doc in documents(spec, os.environ[FOLDER]):
            serializer(name, doc)
    return adapter
