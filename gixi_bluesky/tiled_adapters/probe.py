"""A trial of the way results take: a small run is written, read back and removed."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from gixi_bluesky.errors import StoreError
from gixi_bluesky.tiled_adapters.parts import PartWriter
from gixi_bluesky.tiled_adapters.schema import IMAGE_KEY, IMAGES, data_keys, image_data_keys
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings
from gixi_bluesky.tiled_adapters.writer import DerivedRunStore

__all__ = ["probe_store"]

_SHAPE = (2, 3)


def probe_store(catalogue: Any, output: OutputSettings, tiled: TiledSettings) -> None:
    """Write a table and an image as a derived run does, read the image back, remove all of it.

    Raises StoreError saying what the server refused, or that it does not serve the image.
    """
    uid = str(uuid4())
    start = {"uid": uid, "time": time.time(), "purpose": "gixi_check"}
    axes = (np.linspace(0, 1, _SHAPE[1]), np.linspace(0, 90, _SHAPE[0]))
    image = np.arange(np.prod(_SHAPE), dtype=np.float32).reshape(_SHAPE)
    store = DerivedRunStore(catalogue, output, tiled)
    store.open(start)
    try:
        for stream, keys in (("frames", data_keys("frames")), (IMAGES, image_data_keys(*_SHAPE))):
            store("descriptor", _descriptor(uid, stream, keys))
        part = PartWriter(output.directory, uid, start, *axes)
        with contextlib.closing(part):
            part.append_images({0: image})
            for name, doc in _image_documents(uid, part):
                store(name, doc)
            _read_back(catalogue, uid, image, output.directory)
    finally:
        with contextlib.suppress(KeyError):
            catalogue.delete_contents([uid], recursive=True, external_only=False)
        store.close()
        shutil.rmtree(output.directory / uid, ignore_errors=True)


def _descriptor(uid: str, stream: str, keys: dict[str, Any]) -> dict[str, Any]:
    return {
        "uid": f"{uid}/{stream}",
        "run_start": uid,
        "name": stream,
        "time": time.time(),
        "data_keys": keys,
        "configuration": {},
        "hints": {},
    }


def _image_documents(uid: str, part: PartWriter) -> list[tuple[str, dict[str, Any]]]:
    resource = {
        "uid": f"{uid}/part",
        "run_start": uid,
        "data_key": IMAGE_KEY,
        "mimetype": "application/x-hdf5",
        "uri": part.uri,
        "parameters": {
            "dataset": part.dataset,
            "chunk_shape": list(part.chunk_shape),
            "swmr": True,
        },
    }
    datum = {
        "uid": f"{uid}/part/0",
        "stream_resource": resource["uid"],
        "descriptor": f"{uid}/{IMAGES}",
        "indices": {"start": 0, "stop": 1},
        "seq_nums": {"start": 1, "stop": 2},
    }
    return [("stream_resource", resource), ("stream_datum", datum)]


def _read_back(catalogue: Any, uid: str, image: Any, directory: Path) -> None:
    try:
        served = np.asarray(catalogue[uid][IMAGES].base[IMAGE_KEY][0])
    except Exception as error:  # the server answers 500 for a file it may not serve
        message = (
            f"Tiled registers files below {directory} but does not serve them ({error}); add that "
            "folder to readable_storage of its catalogue, under the same path on the server"
        )
        raise StoreError(message) from error
    if not np.array_equal(served, image):
        message = f"Tiled served another image than was written below {directory}"
        raise StoreError(message)
