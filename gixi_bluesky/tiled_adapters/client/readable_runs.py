"""A derived run read in one way, whether it is on a server or in files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gixi_bluesky.errors import StoreError
from gixi_bluesky.processing.tables import Column
from gixi_bluesky.tiled_adapters.client.cut_series import CutSeries, read_rows
from gixi_bluesky.tiled_adapters.client.queries import full_uid, runs_for
from gixi_bluesky.tiled_adapters.client.run import GIXIRun
from gixi_bluesky.tiled_adapters.files.array_groups import stored_arrays
from gixi_bluesky.tiled_adapters.files.part_files import run_parts
from gixi_bluesky.tiled_adapters.files.result_reading import open_result, read_table, stored_tables
from gixi_bluesky.tiled_adapters.frame_arrays import (
    CUTS,
    Q_IMAGE,
    FrameArray,
    StoredRows,
    q_image_array,
)
from gixi_bluesky.tiled_adapters.run_names import LEAST_PREFIX, one_with_prefix
from gixi_bluesky.tiled_adapters.schema import (
    IMAGE_DATASET,
    IMAGE_KEY,
    IMAGES,
    PURPOSE,
    TABLES,
    StreamTable,
    commit_order,
    is_table,
    step_table,
)

__all__ = ["FileRun", "ReadableRun", "TiledRun", "derived_run"]

_NO_COLUMNS = {"seq_num", "time", "frame", "row"}


class ReadableRun(Protocol):
    """A derived run, wherever it is stored."""

    @property
    def start(self) -> Mapping[str, Any]:
        """The start document."""

    @property
    def stop(self) -> Mapping[str, Any] | None:
        """The stop document, None where it is not known."""

    @property
    def tables(self) -> Sequence[StreamTable]:
        """The tables in the order of the commit."""

    def table(self, stream: str) -> pd.DataFrame:
        """Return the rows of a table."""

    @property
    def n_images(self) -> int:
        """Number of rows of polar images; row k is frame k · image_step."""

    def image(self, row: int) -> NDArray[np.float32]:
        """Return a polar image, (n_phi, n_q), NaN = no data."""

    @property
    def arrays(self) -> Sequence[StoredRows]:
        """The other arrays: cuts and q images."""

    def rows(self, array: FrameArray, begin: int, end: int) -> NDArray[np.float32]:
        """Return rows begin…end-1 of another array."""

    @property
    def cuts(self) -> Sequence[str]:
        """The names of the cuts."""

    def cut(self, name: str) -> CutSeries:
        """Return a cut of all frames. Raises KeyError for one that is not there."""


class TiledRun:
    """A derived run on a Tiled server.

    run: a GIXIRun
    """

    def __init__(self, run: GIXIRun) -> None:
        self._run = run
        self._streams: dict[str, Any] = dict(run.base.items())
        images: Any = self._streams.get(IMAGES)
        keys = () if images is None else list(images.base)
        self._images: Any = images.base[IMAGE_KEY] if IMAGE_KEY in keys else None
        self._q_images: Any = images.base[Q_IMAGE] if Q_IMAGE in keys else None

    @property
    def start(self) -> Mapping[str, Any]:
        """The start document."""
        return dict(self._run.metadata["start"])

    @property
    def stop(self) -> Mapping[str, Any] | None:
        """The stop document, None while the run goes on."""
        stop = self._run.metadata.get("stop")
        return dict(stop) if stop else None

    @property
    def tables(self) -> Sequence[StreamTable]:
        """The tables in the order of the commit."""
        names = commit_order(name for name in self._streams if is_table(name))
        return [TABLES[name] if name in TABLES else self._step_table(name) for name in names]

    def table(self, stream: str) -> pd.DataFrame:
        """Return the rows of a table."""
        return self._run.table(stream)

    @property
    def n_images(self) -> int:
        """Number of rows of polar images."""
        return 0 if self._images is None else int(self._images.shape[0])

    def image(self, row: int) -> NDArray[np.float32]:
        """Return a polar image."""
        return np.asarray(self._images[row])

    @property
    def arrays(self) -> Sequence[StoredRows]:
        """The other arrays: cuts and q images."""
        arrays = [one for name in self._run.cuts for one in self._run.cut_arrays(name)]
        if self._q_images is not None:
            axes = self._streams[IMAGES].metadata["configuration"][PURPOSE]["data"]
            step = self.start["gixi"].get("image_step", 1)
            arrays.append(q_image_array(np.asarray(axes["q_xy"]), np.asarray(axes["q_z"]), step))
        return [StoredRows(array, int(self._node(array).shape[0])) for array in arrays]

    def rows(self, array: FrameArray, begin: int, end: int) -> NDArray[np.float32]:
        """Return rows begin…end-1 of another array."""
        return read_rows(self._node(array), array.shape, end, begin)

    @property
    def cuts(self) -> Sequence[str]:
        """The names of the cuts."""
        return self._run.cuts

    def cut(self, name: str) -> CutSeries:
        """Return a cut of all frames."""
        return self._run.cut(name)

    def _node(self, array: FrameArray) -> Any:
        return self._streams[array.stream].base[array.key]

    def _step_table(self, name: str) -> StreamTable:
        columns = [
            Column(
                key,
                data_key["dtype_numpy"],
                data_key.get("units") or "",
                data_key.get("description", ""),
            )
            for key, data_key in self._streams[name].metadata["data_keys"].items()
            if key not in _NO_COLUMNS
        ]
        return step_table(name.removeprefix("step_"), columns)


class FileRun:
    """A derived run in a results directory: `<uid>.nxs`, or its newest part if it never ended.

    uid: whole or its beginning
    Raises StoreError when neither is there or can be read.
    """

    def __init__(self, directory: Path, uid: str) -> None:
        uid = _whole(directory, uid)
        parts = run_parts(directory, uid)
        finished = directory / f"{uid}.nxs"
        path = finished if finished.exists() else parts[-1] if parts else None
        if path is None:
            message = f"found neither {uid}.nxs nor a folder {uid} in {directory}"
            raise StoreError(message)
        try:
            self._file = open_result(path)
            process = self._file["/entry/process"]
            self.start: Mapping[str, Any] = json.loads(process["start_document"].asstr()[()])
            self.stop: Mapping[str, Any] | None = None
            if "stop_document" in process:
                self.stop = json.loads(process["stop_document"].asstr()[()])
            self._images: h5py.Dataset = self._file[IMAGE_DATASET]
        except (OSError, KeyError, ValueError) as error:
            message = f"{path} is no readable result file: {error}"
            raise StoreError(message) from error

    @property
    def tables(self) -> Sequence[StreamTable]:
        """The tables of the run in the order of the commit."""
        return stored_tables(self._file["entry"])

    def table(self, stream: str) -> pd.DataFrame:
        """Return the rows of a table."""
        return read_table(self._file["entry"], stream)

    @property
    def n_images(self) -> int:
        """Number of rows of polar images."""
        return int(self._images.shape[0])

    @property
    def arrays(self) -> Sequence[StoredRows]:
        """The other arrays: cuts and q images."""
        arrays = stored_arrays(self._file)
        return [StoredRows(array, len(self._file[array.dataset])) for array in arrays]

    def rows(self, array: FrameArray, begin: int, end: int) -> NDArray[np.float32]:
        """Return rows begin…end-1 of another array."""
        return np.asarray(self._file[array.dataset][begin:end])

    @property
    def cuts(self) -> Sequence[str]:
        """The names of the cuts."""
        keys = [one.array.key for one in self.arrays if one.array.stream == CUTS]
        return [key for key in keys if f"{key}_error" in keys]

    def cut(self, name: str) -> CutSeries:
        """Return a cut of all frames. Raises KeyError for one that is not there."""
        stored = {one.array.key: one for one in self.arrays if one.array.stream == CUTS}
        if name not in self.cuts:
            message = f"the run has no cut {name!r}; it has {', '.join(self.cuts) or 'none'}"
            raise KeyError(message)
        values = [
            self.rows(one.array, 0, one.rows) for one in (stored[name], stored[f"{name}_error"])
        ]
        return CutSeries.of(stored[name].array, values[0], values[1], self.table("frames"))

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
        """The shape of a polar image, (n_phi, n_q)."""
        return int(self._images.shape[1]), int(self._images.shape[2])

    def image(self, row: int) -> NDArray[np.float32]:
        """Return a polar image."""
        return np.asarray(self._images[row])

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def derived_run(catalogue: Any, uid: str) -> GIXIRun:
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


def _whole(directory: Path, uid: str) -> str:
    names = [path.stem if path.suffix == ".nxs" else path.name for path in directory.glob("*-*")]
    known = len(uid) < LEAST_PREFIX or uid in names
    return uid if known else one_with_prefix(names, uid) or uid
