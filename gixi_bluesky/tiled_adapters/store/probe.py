"""A test of the storage: a small run is written, read back and removed."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np

from gixi_bluesky.errors import StoreError
from gixi_bluesky.log import get_logger
from gixi_bluesky.tiled_adapters.files.file_process import file_process
from gixi_bluesky.tiled_adapters.files.requests import Append, Begin, Close
from gixi_bluesky.tiled_adapters.schema import IMAGE_DATASET, IMAGE_KEY, IMAGES, TABLES
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings
from gixi_bluesky.tiled_adapters.store.claims import store_errors
from gixi_bluesky.tiled_adapters.store.composer import RunComposer
from gixi_bluesky.tiled_adapters.store.writer import DerivedRunStore

__all__ = ["probe_store"]

_SHAPE = (2, 3)
_TIMEOUT_S = 30.0
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
    store, composer = DerivedRunStore(catalogue, output, tiled), RunComposer(start)
    store.open(start)
    try:
        store("descriptor", composer.descriptor(TABLES["frames"]))
        if output.arrays == "external":
            _probe_file(catalogue, store, composer, image, output.directory)
        elif output.arrays == "tiled":
            _probe_upload(catalogue, store, composer, image)
    finally:
        _remove(catalogue, uid)
        store.close()


def _probe_file(
    catalogue: Any, store: DerivedRunStore, composer: RunComposer, image: Any, directory: Path
) -> None:
    uid = composer.uid
    axes = (np.linspace(0, 1, _SHAPE[1]), np.linspace(0, 90, _SHAPE[0]))
    try:
        store("descriptor", composer.image_descriptor(*_SHAPE))
        # As in a run: HDF5 stays out of the process of the scan.
        process = file_process()
        process.start()
        begin = Begin(directory.absolute(), uid, composer.start, *axes, 1, (), None)
        part = process.ask(begin, _TIMEOUT_S).part
        process.ask(Append(part, {0: image}, ()), _TIMEOUT_S)
        uri = f"file://localhost{part}"
        resource = composer.image_resource(uri, IMAGE_DATASET, (1, *_SHAPE))
        store("stream_resource", resource)
        store("stream_datum", composer.image_datum(resource["uid"], 0, 1))
        answer = _read_back(catalogue, uid)
        process.ask(Close(part), _TIMEOUT_S)
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


def _probe_upload(
    catalogue: Any, store: DerivedRunStore, composer: RunComposer, image: Any
) -> None:
    store("descriptor", composer.image_descriptor(*_SHAPE, external=False))
    store("event_page", composer.image_page(0, [image], time.time()))
    answer = _read_back(catalogue, composer.uid)
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


def _read_back(catalogue: Any, uid: str) -> httpx.Response:
    """Request the image once; the client would retry a refusal for most of a minute."""
    node = catalogue[uid][IMAGES].base[IMAGE_KEY]
    with store_errors("reading the image back"):
        return node.context.http_client.get(
            node.item["links"]["full"], headers={"Accept": "application/octet-stream"}
        )
