"""The process that writes HDF5 files, and reads them for the process of the scan.

After a failed write, closing the file crashes HDF5: the process then answers and exits without
closing anything, and its parent starts another one.
"""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gixi_bluesky.errors import StoreError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.child import portable_error
from gixi_bluesky.tiled_adapters.files.part_files import run_parts
from gixi_bluesky.tiled_adapters.files.parts import PartWriter
from gixi_bluesky.tiled_adapters.files.repacking import finish_run, remove_parts
from gixi_bluesky.tiled_adapters.files.requests import (
    Append,
    Appended,
    Begin,
    Close,
    Finish,
    ReadImage,
    ReadTables,
    RemoveParts,
    Request,
)
from gixi_bluesky.tiled_adapters.files.result_reading import open_result, read_table
from gixi_bluesky.tiled_adapters.schema import IMAGE_DATASET, is_table

__all__ = ["serve"]

_log = get_logger()


def serve(parent: Connection) -> None:
    """Answer requests, each with its result or its error, until the parent ends."""
    parent.send("ready")
    files = _Files()
    while True:
        try:
            request = parent.recv()
        except (EOFError, ConnectionError):
            return
        try:
            answer = files.answer(request)
        except Exception as error:  # the parent decides what an error means
            parent.send(portable_error(error, "the HDF5 process failed"))
            if isinstance(request, Begin | Append | Close) and _may_be_corrupt(error):
                os._exit(1)
        else:
            parent.send(answer)


class _Files:
    """The parts that are open, by their paths."""

    def __init__(self) -> None:
        self._parts: dict[Path, PartWriter] = {}

    def answer(self, request: Request) -> Any:
        """Execute a request and return the answer."""
        match request:
            case Begin():
                return self._begin(request)
            case Append():
                return self._append(request)
            case Close():
                return self._close(request.part)
            case Finish():
                self._close_parts_of(request.directory / request.uid)
                return finish_run(
                    request.directory,
                    request.uid,
                    request.tables,
                    repack=request.repack,
                    stop=request.stop,
                )
            case RemoveParts():
                return remove_parts(request.directory, request.uid)
            case ReadTables():
                return _newest_tables(request)
            case ReadImage():
                return _image(request)

    def _begin(self, request: Begin) -> Appended:
        part = PartWriter(
            request.directory,
            request.uid,
            request.start,
            request.q,
            request.phi,
            step=request.step,
            tables=request.tables,
            committed=request.committed,
            arrays=request.arrays,
        )
        self._parts[part.path] = part
        return _appended(part)

    def _append(self, request: Append) -> Appended:
        part = self._parts.get(request.part)
        if part is None:
            message = f"{request.part} is not open in this process; a new part must be begun"
            raise StoreError(message)
        part.append_images(request.images)
        part.append_rows(request.arrays)
        for stream, columns in request.tables:
            part.append_table(stream, columns)
        return _appended(part)

    def _close(self, path: Path) -> None:
        part = self._parts.pop(path, None)
        if part is not None:
            part.close()

    def _close_parts_of(self, folder: Path) -> None:
        for path in [path for path in self._parts if path.parent == folder]:
            self._close(path)


def _may_be_corrupt(error: Exception) -> bool:
    """Return False for a request that was refused before HDF5 began to write."""
    return not isinstance(error, StoreError) or error.__cause__ is not None


def _appended(part: PartWriter) -> Appended:
    _, n_phi, n_q = part.chunk_shape
    return Appended(part.path, part.rows, (n_phi, n_q), part.arrays)


def _newest_tables(request: ReadTables) -> dict[str, pd.DataFrame]:
    """Return the tables of the newest part that can be read."""
    for path in reversed(run_parts(request.directory, request.uid)):
        try:
            with open_result(path) as part:
                entry = part["entry"]
                return {stream: read_table(entry, stream) for stream in entry if is_table(stream)}
        except (OSError, KeyError) as error:
            _log.error("part_unreadable", part=str(path), error=repr(error))
    return {}


def _image(request: ReadImage) -> np.ndarray[Any, Any] | None:
    """Return an image of the finished file, or else of the newest part that can be read."""
    finished = request.directory / f"{request.uid}.nxs"
    files = [*run_parts(request.directory, request.uid), *([finished] if finished.exists() else ())]
    for path in reversed(files):
        try:
            with open_result(path) as file:
                images = file[IMAGE_DATASET]
                return np.asarray(images[request.row]) if request.row < len(images) else None
        except (OSError, KeyError) as error:
            _log.error("image_unreadable", file=str(path), row=request.row, error=repr(error))
    return None
