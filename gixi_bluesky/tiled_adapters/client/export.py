"""Export of a derived run: one CSV file a table, or one self-contained NeXus file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gixi_bluesky.errors import StoreError
from gixi_bluesky.processing.geometry.grids import PolarGrid
from gixi_bluesky.tiled_adapters.client.queries import full_uid, runs_for
from gixi_bluesky.tiled_adapters.client.run import GIXIRun
from gixi_bluesky.tiled_adapters.files.array_groups import stored_arrays
from gixi_bluesky.tiled_adapters.files.nexus import (
    complete_entry,
    create_entry,
    read_table,
    stored_tables,
    write_table,
)
from gixi_bluesky.tiled_adapters.files.polar_images import create_images, write_image
from gixi_bluesky.tiled_adapters.frame_arrays import StoredRows
from gixi_bluesky.tiled_adapters.run_names import LEAST_PREFIX, one_with_prefix
from gixi_bluesky.tiled_adapters.schema import (
    IMAGE_DATASET,
    IMAGE_KEY,
    IMAGES,
    STREAMS,
    TABLES,
    StreamTable,
)

__all__ = ["FileRun", "ReadableRun", "TiledRun", "derived_run", "write_csv", "write_nexus"]


class ReadableRun(Protocol):
    """A derived run on a server or in a results directory."""

    @property
    def start(self) -> Mapping[str, Any]:
        """The start document."""

    @property
    def stop(self) -> Mapping[str, Any] | None:
        """The stop document, None where it is not known."""

    def table(self, stream: str) -> pd.DataFrame:
        """Return the rows of a table."""

    @property
    def n_images(self) -> int:
        """Number of image rows; row k is frame k · image_step."""

    def image(self, row: int) -> NDArray[np.float32]:
        """Return an image row, (n_phi, n_q), NaN = no data."""


class TiledRun:
    """A derived run on a Tiled server.

    run: a GIXIRun
    """

    def __init__(self, run: Any) -> None:
        self._run = run
        stream = run.base.get(IMAGES)
        self._images: Any = None if stream is None else stream.base[IMAGE_KEY]

    @property
    def start(self) -> Mapping[str, Any]:
        """The start document."""
        return dict(self._run.metadata["start"])

    @property
    def stop(self) -> Mapping[str, Any] | None:
        """The stop document, None while the run goes on."""
        stop = self._run.metadata.get("stop")
        return dict(stop) if stop else None

    def table(self, stream: str) -> pd.DataFrame:
        """Return the rows of a table."""
        rows: pd.DataFrame = getattr(self._run, stream)()
        return rows

    @property
    def n_images(self) -> int:
        """Number of image rows."""
        return 0 if self._images is None else int(self._images.shape[0])

    def image(self, row: int) -> NDArray[np.float32]:
        """Return an image row."""
        return np.asarray(self._images[row])


def _whole(directory: Path, uid: str) -> str:
    names = [path.stem if path.suffix == ".nxs" else path.name for path in directory.glob("*-*")]
    known = len(uid) < LEAST_PREFIX or uid in names
    return uid if known else one_with_prefix(names, uid) or uid


class FileRun:
    """A derived run in a results directory: `<uid>.nxs`, or its newest part if it never ended.

    uid: whole or its beginning
    Raises StoreError when neither is there or can be read.
    """

    def __init__(self, directory: Path, uid: str) -> None:
        uid = _whole(directory, uid)
        parts = sorted((directory / uid).glob("part-*.h5"))
        finished = directory / f"{uid}.nxs"
        path = finished if finished.exists() else parts[-1] if parts else None
        if path is None:
            message = f"found neither {uid}.nxs nor a folder {uid} in {directory}"
            raise StoreError(message)
        try:
            self._file = h5py.File(path, "r", swmr=path != finished, libver="latest")
            process = self._file["/entry/process"]
            self.start: Mapping[str, Any] = json.loads(process["start_document"].asstr()[()])
            self.stop: Mapping[str, Any] | None = None
            if "stop_document" in process:
                self.stop = json.loads(process["stop_document"].asstr()[()])
            self._images = self._file[IMAGE_DATASET]
        except (OSError, KeyError, ValueError) as error:
            message = f"{path} is no readable result file: {error}"
            raise StoreError(message) from error

    @property
    def tables(self) -> list[StreamTable]:
        """The tables of the run in the order of the commit."""
        return stored_tables(self._file["entry"])

    def table(self, stream: str) -> pd.DataFrame:
        """Return the rows of a table."""
        return read_table(self._file["entry"], stream)

    @property
    def n_images(self) -> int:
        """Number of image rows."""
        return int(self._images.shape[0])

    @property
    def arrays(self) -> list[StoredRows]:
        """The cuts and q images of the file."""
        arrays = stored_arrays(self._file)
        return [StoredRows(array, len(self._file[array.dataset])) for array in arrays]

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self._file.filename)

    @property
    def images_path(self) -> Path:
        """The file that holds the images: the finished one, or a part."""
        sources = self._images.virtual_sources() if self._images.is_virtual else []
        return self.path.parent / sources[0].file_name if sources else self.path

    @property
    def image_shape(self) -> tuple[int, int]:
        """The shape of an image, (n_phi, n_q)."""
        return int(self._images.shape[1]), int(self._images.shape[2])

    def image(self, row: int) -> NDArray[np.float32]:
        """Return an image row."""
        return np.asarray(self._images[row])

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def derived_run(catalogue: Any, uid: str) -> Any:
    """Return the GIXIRun of that uid, or else the newest one of the raw run of that uid.

    uid: whole, or the beginning of that of a derived run
    Raises StoreError when there is neither, or when it is the beginning of several.
    """
    try:
        run = catalogue[uid]
    except KeyError:
        found = runs_for(catalogue, uid)
        run = found[0] if found else None
        if run is None and (whole := full_uid(catalogue, uid)) is not None:
            run = catalogue[whole]
    if not isinstance(run, GIXIRun):
        message = f"the catalogue has no derived run {uid}, and none of a raw run {uid}"
        raise StoreError(message)
    return run


def write_csv(run: ReadableRun, folder: Path) -> list[Path]:
    """Write each table as `<uid>_<table>.csv` and return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for stream in STREAMS:
        path = folder / f"{run.start['uid']}_{stream}.csv"
        run.table(stream).to_csv(path, index=False)
        paths.append(path)
    return paths


def write_nexus(run: ReadableRun, path: Path) -> Path:
    """Write the whole run into one NeXus file, which appears only when it is complete."""
    gixi = run.start["gixi"]
    n_phi, n_q = gixi["grid"]["shape"]
    grid = PolarGrid(gixi["grid"]["q_max_inv_angstrom"], (n_phi, n_q))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with h5py.File(temporary, "w", libver=("earliest", "v110")) as file:
            entry = create_entry(file, run.start, grid.q, grid.phi, run.stop)
            images = create_images(file, grid.shape, run.n_images or None)
            for row in range(run.n_images):
                write_image(images, row, run.image(row))
            step = max(gixi.get("image_step", 1), 1)
            file["/entry/polar/frame"][:] = np.arange(run.n_images) * step
            for stream in STREAMS:
                rows = run.table(stream)
                write_table(entry, TABLES[stream], {str(name): rows[name] for name in rows})
            complete_entry(entry, run.start)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
