"""The NeXus layout of result files, shared by growing parts, finished runs and single files.

/entry (NXentry) holds `polar` (NXdata: intensity over frame, phi and q), `process` (NXcollection:
configuration, provenance and documents as JSON) and one NXdata a table; finished files also
`instrument`, `sample`, `reduction`, the subentry `azint2d` and the entry /mlgid. Strings have
fixed length; references to other runs and files are URI strings, never links.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import h5py
import numpy as np
import pandas as pd

from gixi_bluesky.processing.tables import Column
from gixi_bluesky.tiled_adapters.files.azint_entry import create_azint1d, create_azint2d
from gixi_bluesky.tiled_adapters.files.beamline_groups import create_instrument, create_sample
from gixi_bluesky.tiled_adapters.files.hdf5_text import group_of, text, write_json, write_text
from gixi_bluesky.tiled_adapters.files.mlgid_entry import create_mlgid
from gixi_bluesky.tiled_adapters.run_names import run_title
from gixi_bluesky.tiled_adapters.schema import (
    TABLES,
    StreamTable,
    complete_columns,
)

__all__ = [
    "append_rows",
    "complete_entry",
    "create_entry",
    "create_table",
    "link_mlgid_names",
    "storage_dtype",
    "table_values",
    "write_note",
    "write_table",
]

_CHUNK_BYTES = 32 << 10
_LEAST_ROWS = 64

# Columns that the mlgid programs name differently; q_xy, q_z, h, k, l and probability coincide.
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
    """Create every group except images and tables.

    `start` is the derived run's start document; what is missing in it is left out. `stop` is its
    stop document, None while the run goes on.
    """
    file.attrs["default"] = "entry"
    file.attrs["NX_class"] = text("NXroot")
    entry = group_of(file, "entry", "NXentry", default="polar")
    gixi = start.get("gixi", {})
    provenance = gixi.get("provenance", {})
    write_text(entry, "title", run_title(start) or "GIXD")
    if "uid" in start:
        write_text(entry, "entry_identifier", start["uid"])
    if "time" in start:
        write_text(entry, "start_time", datetime.fromtimestamp(start["time"], UTC).isoformat())
    # A collection, since NXprocess has no fields for these documents; `reduction` is the NXprocess.
    process = group_of(entry, "process", "NXcollection")
    write_text(process, "program", "gixi_bluesky")
    write_text(process, "version", provenance.get("version", ""))
    write_text(process, "date", datetime.now(UTC).isoformat(timespec="seconds"))
    if "raw_uid" in gixi:
        write_text(process, "raw_run", f"urn:uuid:{gixi['raw_uid']}")
    write_json(process, "configuration", provenance.get("config", {}))
    write_json(process, "provenance", provenance)
    write_json(process, "start_document", start)
    if stop is not None:
        write_json(process, "stop_document", stop)
    for kind, doi in provenance.get("config", {}).get("output", {}).get("dois", {}).items():
        _cite(entry, kind, doi)
    polar = group_of(entry, "polar", "NXdata", signal="intensity")
    polar.attrs["axes"] = np.array([b"frame", b"phi", b"q"])
    _axis(polar, "q", q, "1/angstrom", "|q|")
    _axis(polar, "phi", phi, "deg", "polar angle, 0 along q_xy")
    return entry


def complete_entry(entry: h5py.Group, start: Mapping[str, Any]) -> None:
    """Describe instrument, sample and reduction, once all is there.

    Images are described as NXazint2d and by the names of the mlgid programs, cuts along q as
    NXazint1d.
    """
    create_instrument(entry, start)
    create_sample(entry, start)
    create_azint2d(entry, start)
    create_azint1d(entry, start)
    create_mlgid(entry, start)
    reduction = group_of(entry, "reduction", "NXprocess")
    for name in ("program", "version", "date"):
        reduction[name] = entry[f"process/{name}"]


def create_table(entry: h5py.Group, table: StreamTable) -> h5py.Group:
    """Create the growing columns of a table."""
    group = _table_group(entry, table)
    for column in table.columns:
        dataset = group.create_dataset(
            column.name,
            shape=(0,),
            maxshape=(None,),
            dtype=storage_dtype(column),
            chunks=(max(_CHUNK_BYTES // np.dtype(storage_dtype(column)).itemsize, _LEAST_ROWS),),
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
    link_mlgid_names(group, table.name)
    return group


def append_rows(group: h5py.Group, table: StreamTable, rows: Mapping[str, Any]) -> None:
    """Append rows, given by column, to a growing table."""
    for column in table.columns:
        values = table_values(column, rows[column.name])
        dataset = group[column.name]
        before = len(dataset)
        dataset.resize(before + len(values), axis=0)
        dataset[before:] = values


def link_mlgid_names(group: h5py.Group, stream: str) -> None:
    """Link the columns that the mlgid programs name differently to their names."""
    for name, alias in _MLGID_NAMES.get(stream, {}).items():
        group[alias] = group[name]


def write_note(entry: h5py.Group, name: str, text: str) -> None:
    """Write a note for readers of the file (NXnote)."""
    note = group_of(entry, name, "NXnote")
    write_text(note, "type", "text/plain")
    write_text(note, "data", text)


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


def _cite(entry: h5py.Group, kind: str, doi: str) -> None:
    """Write a related identifier as DataCite has it; NXentry allows no NXcite."""
    cite = group_of(entry, f"related_{kind}", "NXcollection")
    write_text(cite, "doi", doi)
    write_text(cite, "url", f"https://doi.org/{doi}")
    write_text(cite, "related_identifier", doi)
    write_text(cite, "related_identifier_type", "DOI")
    write_text(cite, "relation_type", _RELATIONS[kind])


def _table_group(entry: h5py.Group, table: StreamTable) -> h5py.Group:
    group = group_of(entry, table.name, "NXdata", signal=table.signal)
    group.attrs["axes"] = np.array([b"frame"])
    return group


def _describe(dataset: h5py.Dataset, column: Column) -> None:
    if column.unit:
        dataset.attrs["units"] = text(column.unit)
    dataset.attrs["long_name"] = text(column.description)


def _axis(group: h5py.Group, name: str, values: Any, unit: str, description: str) -> None:
    dataset = group.create_dataset(name, data=np.asarray(values, dtype="<f8"))
    dataset.attrs["units"] = text(unit)
    dataset.attrs["long_name"] = text(f"{description} ({unit})")


def _cut(value: str, size: int) -> bytes:
    return value.encode()[:size].decode(errors="ignore").encode()
