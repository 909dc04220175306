"""The NeXus layout of result files, shared by growing parts, finished runs and single files.

/entry (NXentry) holds `polar` (NXdata: intensity over frame, phi and q), `process` (NXprocess with
configuration and provenance as JSON) and one NXdata a table. Strings have fixed length, references
to other runs and files are URI strings, never links.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pandas as pd

from gixi_bluesky.processing.hdf5_files import require_own
from gixi_bluesky.processing.types import Column, FrameResult
from gixi_bluesky.provenance import require_regular
from gixi_bluesky.tiled_adapters.schema import (
    IMAGE_DATASET,
    STREAMS,
    TABLES,
    StreamTable,
    complete_columns,
)

__all__ = [
    "create_entry",
    "create_images",
    "create_table",
    "open_result",
    "read_configuration",
    "read_table",
    "result_metadata",
    "storage_dtype",
    "table_values",
    "write_result_file",
    "write_table",
]

_ROWS_PER_CHUNK = 4096

# Columns that the mlgid programs know by another name; q_xy, q_z, h, k, l and probability coincide.
_MLGID_NAMES = {
    "peaks": {"q": "radius", "phi": "angle"},
    "matches": {"phase": "CIF"},
    "match_peaks": {"phase": "CIF"},
}

# DataCite's relationType of what the results belong to, seen from the results.
_RELATIONS = {
    "raw": "IsDerivedFrom",
    "processed": "IsVariantFormOf",
    "software": "IsCompiledBy",
    "article": "IsSupplementTo",
}


def create_entry(
    file: h5py.File,
    start: Mapping[str, Any],
    q: np.ndarray[Any, Any],
    phi: np.ndarray[Any, Any],
    stop: Mapping[str, Any] | None = None,
) -> h5py.Group:
    """Lay down everything but images and tables.

    `start` is the derived run's start document; what is missing in it is left out. `stop` is its
    stop document, None while the run goes on.
    """
    file.attrs["default"] = "entry"
    file.attrs["NX_class"] = _text("NXroot")
    entry = _group(file, "entry", "NXentry", default="polar")
    told = start.get("gixi", {})
    provenance = told.get("provenance", {})
    _string(entry, "title", start.get("sample_name") or start.get("uid", "GIXD"))
    if "uid" in start:
        _string(entry, "entry_identifier", start["uid"])
    if "time" in start:
        _string(entry, "start_time", datetime.fromtimestamp(start["time"], UTC).isoformat())
    if "raw_uid" in told:
        _string(entry, "raw_run", f"urn:uuid:{told['raw_uid']}")
    process = _group(entry, "process", "NXprocess")
    _string(process, "program", "gixi_bluesky")
    _string(process, "version", provenance.get("version", ""))
    _string(process, "date", datetime.now(UTC).isoformat(timespec="seconds"))
    _json(process, "configuration", provenance.get("config", {}))
    _json(process, "provenance", provenance)
    _json(process, "start_document", start)
    if stop is not None:
        _json(process, "stop_document", stop)
    for kind, doi in provenance.get("config", {}).get("output", {}).get("dois", {}).items():
        _cite(entry, kind, doi)
    polar = _group(entry, "polar", "NXdata", signal="intensity")
    polar.attrs["axes"] = np.array([b"frame", b"phi", b"q"])
    _axis(polar, "q", q, "1/angstrom", "|q|")
    _axis(polar, "phi", phi, "deg", "polar angle, 0 along q_xy")
    return entry


def create_images(file: h5py.File, shape: tuple[int, int], rows: int | None = None) -> h5py.Dataset:
    """Create the images (frame, phi, q), resizable when `rows` is None, filled with NaN."""
    images = file.create_dataset(
        IMAGE_DATASET,
        shape=(rows or 0, *shape),
        maxshape=(None if rows is None else rows, *shape),
        dtype="<f4",
        chunks=(1, *shape),
        fillvalue=np.nan,
        **hdf5plugin.Bitshuffle(cname="lz4"),
    )
    images.attrs["units"] = _text("counts")
    images.attrs["long_name"] = _text("mean counts per detector pixel; NaN = no data")
    frames = file.create_dataset(
        "/entry/polar/frame",
        shape=(rows or 0,),
        maxshape=(None if rows is None else rows,),
        dtype="<i8",
        chunks=(_ROWS_PER_CHUNK,) if rows is None else None,
    )
    frames.attrs["long_name"] = _text("frame")
    return images


def create_table(entry: h5py.Group, table: StreamTable) -> h5py.Group:
    """Create the growing columns of a table."""
    group = _table_group(entry, table)
    for column in table.columns:
        dataset = group.create_dataset(
            column.name,
            shape=(0,),
            maxshape=(None,),
            dtype=storage_dtype(column),
            chunks=(_ROWS_PER_CHUNK,),
        )
        _describe(dataset, column)
    return group


def write_table(entry: h5py.Group, table: StreamTable, rows: Mapping[str, Any]) -> h5py.Group:
    """Write the finished columns of a table; those of known tables that are missing are filled."""
    group = _table_group(entry, table)
    given = pd.DataFrame(dict(rows))
    complete = complete_columns(given, table.name) if table.name in TABLES else given
    for column in table.columns:
        values = table_values(column, complete[column.name])
        _describe(group.create_dataset(column.name, data=values), column)
    for name, alias in _MLGID_NAMES.get(table.name, {}).items():
        group[alias] = group[name]
    return group


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


def read_configuration(path: str | Path) -> dict[str, Any]:
    """Return the configuration by which a result file was made.

    Raises OSError when it is no HDF5 file, KeyError when it is no result file.
    """
    with open_result(path) as file:
        return dict(json.loads(file["/entry/process/configuration"].asstr()[()]))


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


def result_metadata(file: h5py.File) -> dict[str, Any]:
    """Return how a result file was made: its configuration, provenance and start document.

    Raises KeyError when it is no result file.
    """
    process = file["/entry/process"]
    return {
        name: json.loads(process[name].asstr()[()])
        for name in ("configuration", "provenance", "start_document")
    }


def storage_dtype(column: Column) -> Any:
    """Return the HDF5 type of a column; strings are UTF-8 of fixed length."""
    if column.dtype.startswith("<U"):
        return h5py.string_dtype("utf-8", int(column.dtype[2:]))
    return np.dtype(column.dtype)


def table_values(column: Column, values: Any) -> np.ndarray[Any, Any]:
    """Return `values` as they are stored; text is cut at a character, never inside one."""
    dtype = storage_dtype(column)
    if not column.dtype.startswith("<U"):
        return np.asarray(values, dtype=dtype)
    cut = [_cut(str(value), dtype.itemsize) for value in values]
    return np.array(cut, dtype=dtype)


def write_result_file(
    path: str | Path,
    results: Sequence[FrameResult],
    provenance: Mapping[str, Any],
    frames: Mapping[str, Any] | None = None,
    start: Mapping[str, Any] | None = None,
) -> Path:
    """Write analysed frames into one NeXus file, replacing it only when it is complete.

    provenance: as in the derived run; frames: the columns of `frames`, if they are known.
    """
    if not results:
        message = "got no results to write; expected at least one analysed frame"
        raise ValueError(message)
    path = Path(path)
    first = results[0]
    document = {**(start or {}), "gixi": {"provenance": dict(provenance)}}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with h5py.File(temporary, "w", libver=("earliest", "v110")) as file:
            entry = create_entry(file, document, first.q, first.phi)
            images = create_images(file, first.polar_image.shape, len(results))
            file["/entry/polar/frame"][:] = [result.index for result in results]
            for row, result in enumerate(results):
                images[row] = result.polar_image
            for stream in STREAMS[:3]:
                tables = [getattr(result, stream) for result in results]
                write_table(entry, TABLES[stream], pd.concat(tables, ignore_index=True))
            if frames is not None:
                write_table(entry, TABLES["frames"], frames)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _cite(entry: h5py.Group, kind: str, doi: str) -> None:
    """Write a related identifier as DataCite has it, in the group that NeXus has for it."""
    cite = _group(entry, f"related_{kind}", "NXcite")
    _string(cite, "doi", doi)
    _string(cite, "url", f"https://doi.org/{doi}")
    _string(cite, "related_identifier", doi)
    _string(cite, "related_identifier_type", "DOI")
    _string(cite, "relation_type", _RELATIONS[kind])


def _table_group(entry: h5py.Group, table: StreamTable) -> h5py.Group:
    group = _group(entry, table.name, "NXdata", signal=table.signal)
    group.attrs["axes"] = np.array([b"frame"])
    return group


def _describe(dataset: h5py.Dataset, column: Column) -> None:
    if column.unit:
        dataset.attrs["units"] = _text(column.unit)
    dataset.attrs["long_name"] = _text(column.description)


def _axis(group: h5py.Group, name: str, values: Any, unit: str, description: str) -> None:
    dataset = group.create_dataset(name, data=np.asarray(values, dtype="<f8"))
    dataset.attrs["units"] = _text(unit)
    dataset.attrs["long_name"] = _text(f"{description} ({unit})")


def _group(parent: Any, name: str, nx_class: str, **attributes: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = _text(nx_class)
    for key, value in attributes.items():
        group.attrs[key] = _text(value)
    return group


def _json(group: h5py.Group, name: str, value: Any) -> None:
    _string(group, name, json.dumps(value, default=str, indent=1))


def _string(group: h5py.Group, name: str, value: str) -> None:
    group.create_dataset(name, data=_text(str(value)))


def _text(value: str) -> Any:
    """Return a UTF-8 string of fixed length, which SWMR files and old readers accept."""
    encoded = value.encode() or b"\0"
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", len(encoded)))


def _cut(value: str, size: int) -> bytes:
    return value.encode()[:size].decode(errors="ignore").encode()
