"""Reading of result files, finished or not: their tables, documents and configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import pandas as pd

from gixi_bluesky.processing.hdf5_files import require_own
from gixi_bluesky.processing.tables import Column
from gixi_bluesky.provenance import require_regular
from gixi_bluesky.tiled_adapters.schema import (
    TABLES,
    StreamTable,
    commit_order,
    complete_columns,
    is_table,
    step_table,
)

__all__ = ["open_result", "read_table", "result_metadata", "run_documents", "stored_tables"]


def stored_tables(entry: h5py.Group) -> list[StreamTable]:
    """Return the tables of a file in the order of the commit; those of steps by their columns."""
    streams = commit_order(name for name in entry if is_table(name))
    return [TABLES[name] if name in TABLES else _step_table(entry, name) for name in streams]


def _step_table(entry: h5py.Group, stream: str) -> StreamTable:
    group = entry[stream]
    columns = [_stored_column(group[name]) for name in group if name not in {"frame", "row"}]
    return step_table(stream.removeprefix("step_"), columns)


def _stored_column(dataset: h5py.Dataset) -> Column:
    attributes = {name: _decoded(dataset.attrs.get(name, b"")) for name in ("units", "long_name")}
    text = dataset.dtype.kind == "S"
    dtype = f"<U{dataset.dtype.itemsize}" if text else dataset.dtype.str
    name = dataset.name.rsplit("/", 1)[-1]
    return Column(name, dtype, attributes["units"], attributes["long_name"])


def _decoded(text: Any) -> str:
    return text.decode() if isinstance(text, bytes) else str(text)


def read_table(entry: h5py.Group, stream: str) -> pd.DataFrame:
    """Return the columns of a stored table, cut to the shortest; strings are str.

    Columns that the version of the file does not have are NaN, empty or -1.
    """
    group = entry[stream]
    known = [column.name for column in TABLES[stream].columns] if stream in TABLES else list(group)
    names = [name for name in known if name in group]
    rows = min(len(group[name]) for name in names)
    stored = {
        name: (group[name].asstr() if group[name].dtype.kind == "S" else group[name])[:rows]
        for name in names
    }
    table = pd.DataFrame(stored)
    return complete_columns(table, stream) if stream in TABLES else table


def open_result(path: str | Path) -> h5py.File:
    """Open a result file, finished or not, to read it.

    Raises OSError when it is no HDF5 file, or leads to files that are not in its folder.
    """
    require_regular(path)
    # A part that its writer did not close opens with SWMR only, a finished file without only.
    try:
        file = h5py.File(path, "r")
    except OSError:
        file = h5py.File(path, "r", swmr=True, libver="latest")
    try:
        require_own(file, Path(path).parent)
    except Exception:
        file.close()
        raise
    return file


def run_documents(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the start and stop documents of a run's result file; an older file has no stop.

    Raises OSError when it is no HDF5 file, KeyError when it holds no run.
    """
    with open_result(path) as file:
        process = file["/entry/process"]
        start = dict(json.loads(process["start_document"].asstr()[()]))
        stop = (
            json.loads(process["stop_document"].asstr()[()]) if "stop_document" in process else {}
        )
        if "uid" not in start:
            message = "it holds no run"
            raise KeyError(message)
        return start, dict(stop)


def result_metadata(file: h5py.File) -> dict[str, Any]:
    """Return the configuration, provenance and start document of a result file.

    Raises KeyError when it is no result file.
    """
    process = file["/entry/process"]
    return {
        name: json.loads(process[name].asstr()[()])
        for name in ("configuration", "provenance", "start_document")
    }
