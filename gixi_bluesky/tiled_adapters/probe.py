"""A trial of the way results take: a small run is written, read back and removed."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np

from gixi_bluesky.errors import StoreError
from gixi_bluesky.log import get_logger
from gixi_bluesky.tiled_adapters.files.parts import PartWriter
from gixi_bluesky.tiled_adapters.schema import IMAGE_KEY, IMAGES, data_keys, image_data_keys
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings
from gixi_bluesky.tiled_adapters.store.claims import store_errors
from gixi_bluesky.tiled_adapters.store.writer import DerivedRunStore

__all__ = ["probe_store"]

_SHAPE = (2, 3)
_log = get_logger()


def probe_store(catalogue: Any, output: OutputSettings, tiled: TiledSettings) -> None:
    """Write a table and an image as a derived run does, read the image back, remove all of it.

    The image goes where `output.arrays` says. Where the key may not delete, the small run stays
    and a warning names it. Raises StoreError saying what the server refused, or that it does not
    serve the image.
    """
    uid = str(uuid4())
    start = {"uid": uid, "time": time.time(), "purpose": "gixi_check"}
    image = np.arange(np.prod(_SHAPE), dtype=np.float32).reshape(_SHAPE)
    store = DerivedRunStore(catalogue, output, tiled)
    store.open(start)
    try:
        store("descriptor", _descriptor(uid, "frames", data_keys("frames")))
        if output.arrays == "external":
            _probe_file(catalogue, store, start, image, output.directory)
        elif output.arrays == "tiled":
            _probe_upload(catalogue, store, uid, image)
    finally:
        _remove(catalogue, uid)
        store.close()


def _probe_file(
    catalogue: Any, store: DerivedRunStore, start: dict[str, Any], image: Any, directory: Path
) -> None:
    uid = start["uid"]
    axes = (np.linspace(0, 1, _SHAPE[1]), np.linspace(0, 90, _SHAPE[0]))
    try:
        store("descriptor", _descriptor(uid, IMAGES, image_data_keys(*_SHAPE)))
        with contextlib.closing(PartWriter(directory, uid, start, *axes)) as part:
            part.append_images({0: image})
            for name, doc in _image_documents(uid, part):
                store(name, doc)
            answer = _read_back(catalogue, uid)
    finally:
        shutil.rmtree(directory / uid, ignore_errors=True)
    if answer.status_code != httpx.codes.OK:
        message = (
            f"Tiled registers files below {directory} but does not serve them (it answers "
            f"{answer.status_code}); add that folder to readable_storage of its catalogue, under "
            "the same path on the server, or set output.arrays: tiled"
        )
        raise StoreError(message)
    if answer.content != image.tobytes():
        message = f"Tiled served another image than was written below {directory}"
        raise StoreError(message)


def _probe_upload(catalogue: Any, store: DerivedRunStore, uid: str, image: Any) -> None:
    keys = image_data_keys(*_SHAPE, external=False)
    store("descriptor", _descriptor(uid, IMAGES, keys))
    page = {"descriptor": f"{uid}/{IMAGES}", "seq_num": [1], "data": {IMAGE_KEY: [image]}}
    store("event_page", page)
    answer = _read_back(catalogue, uid)
    if answer.content != image.tobytes():
        message = (
            f"Tiled did not give back the image that was uploaded (it answers "
            f"{answer.status_code}); its catalogue needs a folder in writable_storage"
        )
        raise StoreError(message)


def _remove(catalogue: Any, uid: str) -> None:
    try:
        catalogue.delete_contents([uid], recursive=True, external_only=False)
    except KeyError:
        return
    except httpx.HTTPError as error:
        _log.warning("probe_not_removed", run=uid, error=str(error))


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


def _read_back(catalogue: Any, uid: str) -> httpx.Response:
    """Ask for the image once; the client would repeat a refusal for most of a minute."""
    node = catalogue[uid][IMAGES].base[IMAGE_KEY]
    with store_errors("reading the image back"):
        return node.context.http_client.get(
            node.item["links"]["full"], headers={"Accept": "application/octet-stream"}
        )
