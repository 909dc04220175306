"""Darks from another run: fetched once and stored beside the results."""

from __future__ import annotations

import os
import re
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
from numpy.typing import NDArray
from tiled.client.utils import ClientError

from gixi_bluesky.callbacks.documents.value_sources import DarkRun
from gixi_bluesky.callbacks.settings import AnalysisConfig
from gixi_bluesky.errors import ConfigError, StoreError
from gixi_bluesky.tiled_adapters.connection import catalogue_at, connect
from gixi_bluesky.tiled_adapters.settings import TiledSettings

__all__ = ["with_fetched_dark"]

Configuration = TypeVar("Configuration", bound=AnalysisConfig)

_MOST_BYTES = 4 << 30


def with_fetched_dark(config: Configuration) -> Configuration:
    """Return the configuration with a dark run's images as a file on this machine.

    They are fetched from the raw catalogue of the Tiled server at first, later the copy in the
    results directory does. Raises ConfigError without a server, StoreError when the run is not
    there, has not ended or holds no such images.
    """
    dark = config.corrections.dark
    if not isinstance(dark, DarkRun):
        return config
    if dark.file is not None and dark.file.is_file():  # of another machine's results it may not be
        return config
    name = re.sub(r"[^\w.-]", "_", f"{dark.run}-{dark.stream}-{dark.data_key or 'image'}")
    file = Path(config.output.directory).absolute() / ".darks" / f"{name}.npy"
    if not file.is_file():
        _keep(file, _fetched(dark, config.tiled))
    fetched = dark.model_copy(update={"file": file})
    corrections = config.corrections.model_copy(update={"dark": fetched})
    return config.model_copy(update={"corrections": corrections})


def _fetched(dark: DarkRun, tiled: TiledSettings) -> NDArray[Any]:
    """Return the images, (n, rows, columns)."""
    if tiled.uri is None:
        message = (
            f"corrections.dark names the run {dark.run}, but there is no server: give tiled.uri"
        )
        raise ConfigError(message)
    client = connect(tiled)
    with closing(client.context):
        try:
            run = catalogue_at(client, tiled.raw)[dark.run]
            return _images(run, dark)
        except KeyError as error:
            message = (
                f"the dark run {dark.run} is not in {tiled.raw!r} of {tiled.uri}, or lacks {error}"
            )
            raise StoreError(message) from error
        except (ClientError, httpx.HTTPError) as error:
            message = f"{tiled.uri} does not give the dark run {dark.run}: {error}"
            raise StoreError(message) from error


def _images(run: Any, dark: DarkRun) -> NDArray[Any]:
    if not run.metadata.get("stop"):
        message = f"the dark run {dark.run} has not ended"
        raise StoreError(message)
    stream = run[dark.stream]
    key = dark.data_key or _only_image_key(stream, dark)
    node = stream.base[key] if key in stream.base else stream.base["internal"][key]
    images = np.asarray(node.read())
    if images.dtype == object:  # rows of a table
        images = np.stack([np.asarray(image) for image in images])
    if images.ndim < 2 or images.dtype.kind not in "iuf" or images.nbytes > _MOST_BYTES:
        message = (
            f"{key!r} of the dark run {dark.run} holds {images.dtype} {images.shape}, no images"
        )
        raise StoreError(message)
    return images.reshape(-1, *images.shape[-2:])


def _only_image_key(stream: Any, dark: DarkRun) -> str:
    keys = stream.metadata["data_keys"]
    images = [key for key, one in keys.items() if len(one.get("shape", ())) >= 2]
    if len(images) != 1:
        message = (
            f"the dark run {dark.run} has {len(images)} image keys in {dark.stream!r} "
            f"({', '.join(images)}); give corrections.dark.data_key"
        )
        raise StoreError(message)
    return str(images[0])


def _keep(file: Path, images: NDArray[Any]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f"{file.name}.{os.getpid()}")
        with part.open("wb") as stream:
            np.save(stream, images, allow_pickle=False)
        part.replace(file)
    except OSError as error:
        message = f"cannot keep the dark in {file}: {error.strerror}"
        raise StoreError(message) from error
