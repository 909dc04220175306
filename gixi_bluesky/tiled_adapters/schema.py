"""The schema of a derived run: streams, columns, types and units."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gixi_bluesky.processing.tables import (
    Column,
    Courses,
    Matches,
    MatchPeaks,
    Peaks,
    Table,
    TextureTable,
    columns_of,
    missing_values,
)

__all__ = [
    "IMAGES",
    "IMAGE_DATASET",
    "IMAGE_KEY",
    "PURPOSE",
    "Q_BIN",
    "RESULT_FILES",
    "RESULT_MIMETYPE",
    "RESULT_SPEC",
    "RUN_SPEC",
    "SCHEMA_VERSION",
    "STREAMS",
    "TABLES",
    "TABLE_KEYS",
    "Frames",
    "StreamTable",
    "commit_order",
    "complete_columns",
    "data_keys",
    "image_data_keys",
    "is_table",
    "q_bin",
    "step_table",
    "stored_columns",
    "stored_values",
    "table_keys",
]

SCHEMA_VERSION = 2
PURPOSE = "gixi"
RUN_SPEC = "GIXIRun"

# Nodes of result files that hold no run.
RESULT_MIMETYPE = "application/x-gixi-hdf5"
RESULT_SPEC = "GIXIResult"
RESULT_FILES = "gixi_files"

# The tables of every run in the order of the commit; a row of `frames` ends it.
STREAMS = ("peaks", "matches", "match_peaks", "frames")
IMAGES = "images"
IMAGE_KEY = "polar_image"
IMAGE_DATASET = "/entry/polar/intensity"

# Width of the bins of |q| by which runs are found, 1/angstrom.
Q_BIN = 0.01


def _column(unit: str, description: str, dtype: str = "<f8") -> Any:
    return field(metadata={"unit": unit, "description": description, "dtype": dtype})


Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Text = NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class Frames(Table):
    """One row a frame; it is written last and says that the frame is done."""

    # The column hides Table.frame(), which rows that know their frame do not need.
    frame: Int64 = _column(  # type: ignore[assignment]
        "", "0-based position of the image in its stream and key", "<i8"
    )
    raw_seq_num: Int64 = _column("", "seq_num of the raw event", "<i8")
    raw_time: Float64 = _column("s", "time of the raw event, seconds since 1970 UTC")
    incidence_angle_deg: Float64 = _column("deg", "incidence angle used")
    n_peaks: Int64 = _column("", "peaks found", "<i8")
    best_phase: Text = _column("", "slug of the most probable phase, empty = none", "<U64")
    best_probability: Float64 = _column("", "probability of best_phase, NaN = none")
    total_intensity: Float64 = _column("counts", "sum of the polar image over valid bins")
    latency: Float64 = _column("s", "from the raw document's arrival to the result")
    status: Text = _column("", "ok, dropped, unavailable or failed", "<U12")
    reason: Text = _column("", "why the frame is not ok, else empty", "<U200")
    source: Text = _column("", "file and index of the image, or raw run and event", "<U300")
    gain: Float64 = _column("counts", "counts per photon of the noise model, NaN = unknown")
    readout_noise: Float64 = _column("counts", "standard deviation of the readout, NaN = unknown")


_FRAME = Column("frame", "<i8", "", "0-based position of the image in its stream and key")
_TRACK = Column("track", "<i8", "", "identity of the peak over frames, -1 = none")


_STEP_PREFIX = "step_"


@dataclass(frozen=True, slots=True)
class StreamTable:
    """A table of a derived run.

    columns: in their order, without `seq_num` and `time`
    keys: the columns that identify a row within its run
    signal: the column that is plotted by default
    in_commit: its rows are stored before the `frames` row of their frame; False = they may follow
    """

    name: str
    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    signal: str
    in_commit: bool = True


def _peak_columns() -> tuple[Column, ...]:
    peak, *rest = columns_of(Peaks)
    return (_FRAME, peak, _TRACK, *rest)


# In the order of the commit; tables of steps stand before `frames`.
TABLES: Mapping[str, StreamTable] = {
    table.name: table
    for table in (
        StreamTable("peaks", _peak_columns(), ("frame", "peak"), "q"),
        StreamTable("matches", (_FRAME, *columns_of(Matches)), ("frame", "phase"), "probability"),
        StreamTable(
            "match_peaks",
            (_FRAME, *columns_of(MatchPeaks)),
            ("frame", "peak", "phase", "h", "k", "l"),
            "dq",
        ),
        StreamTable("textures", (_FRAME, *columns_of(TextureTable)), ("frame", "name"), "hermans"),
        StreamTable("frames", columns_of(Frames), ("frame",), "n_peaks"),
        StreamTable(
            "courses", columns_of(Courses), ("frame", "track"), "intensity", in_commit=False
        ),
    )
}

# The columns that identify a row of each table within its run.
TABLE_KEYS: Mapping[str, tuple[str, ...]] = {name: table.keys for name, table in TABLES.items()}


def step_table(name: str, columns: Sequence[Column]) -> StreamTable:
    """Return the table of a user's step, `step_<name>`; `row` counts the rows of a frame.

    Raises ValueError without columns, for a name that is no identifier, and for columns that are
    there twice or are called `frame` or `row`.
    """
    names = ["frame", "row", *(column.name for column in columns)]
    if not name.isidentifier() or not columns or len(set(names)) < len(names):
        message = (
            f"got the step {name!r} with the columns {names[2:]}; expected an identifier and at "
            "least one column, each once, none of them called frame or row"
        )
        raise ValueError(message)
    row = Column("row", "<i8", "", "number of the row within its frame")
    stream = f"{_STEP_PREFIX}{name}"
    return StreamTable(stream, (_FRAME, row, *columns), ("frame", "row"), columns[0].name)


def is_table(stream: str) -> bool:
    """Return whether a stream of a derived run is a table, not images or cuts."""
    return stream in TABLES or stream.startswith(_STEP_PREFIX)


def table_keys(stream: str) -> tuple[str, ...]:
    """Return the columns that identify a row of a stored table, empty where none are known."""
    if stream.startswith(_STEP_PREFIX):
        return ("frame", "row")
    return TABLE_KEYS.get(stream, ())


def commit_order(streams: Iterable[str]) -> list[str]:
    """Return tables in the order in which a flush stores them."""
    order = {name: place for place, name in enumerate(TABLES)}
    steps = order["frames"] - 0.5
    return sorted(streams, key=lambda stream: (order.get(stream, steps), stream))


def stored_columns(stream: str) -> tuple[Column, ...]:
    """Return the columns of a stored table in their order, without `seq_num` and `time`.

    Raises KeyError for the table of a step, whose columns only its step defines.
    """
    return TABLES[stream].columns


def complete_columns(rows: pd.DataFrame, stream: str) -> pd.DataFrame:
    """Return the rows with all columns of this version in their order, without any other.

    Columns that an older version did not store are NaN, empty or -1.
    """
    columns = stored_columns(stream)
    missing = {c.name: missing_values(c, len(rows)) for c in columns if c.name not in rows}
    return rows.assign(**missing)[[column.name for column in columns]]


def stored_values(column: Column, values: Any) -> list[Any]:
    """Return `values` as the JSON-native list that an event page holds, cut to the column's type.

    Raises TypeError or ValueError when they are not of the column's kind.
    """
    if column.dtype.startswith("<U"):
        limit = int(column.dtype[2:])
        return [str(value)[:limit] for value in values]
    return list(np.asarray(values, dtype=column.dtype).tolist())


def q_bin(q: float) -> str:
    """Return the key in the summary's `q_bins` of the bin that holds |q|: 1.064 is in b0106."""
    return f"b{math.floor(round(q / Q_BIN, 6)):04d}"


def data_keys(stream: str | StreamTable) -> dict[str, dict[str, Any]]:
    """Return the event-model data_keys of a stored table, in column order."""
    table = TABLES[stream] if isinstance(stream, str) else stream
    return {column.name: _data_key(column) for column in table.columns}


def image_data_keys(n_phi: int, n_q: int, *, external: bool = True) -> dict[str, dict[str, Any]]:
    """Return the data_keys of the stream `images`: one (n_phi, n_q) float32 image a row.

    external: the images are in files; False = the event pages hold them
    """
    where = {"external": "STREAM:"} if external else {}
    return {
        IMAGE_KEY: {
            "source": "gixi_bluesky",
            "dtype": "array",
            "dtype_numpy": "<f4",
            "shape": [n_phi, n_q],
            "dims": ["phi", "q"],
            "units": "counts",
            "description": "mean counts per detector pixel; NaN = no data; row 0 is phi = 0",
            **where,
        }
    }


def _data_key(column: Column) -> dict[str, Any]:
    kind = {"i": "integer", "f": "number", "U": "string"}[column.dtype[1]]
    return {
        "source": "gixi_bluesky",
        "dtype": kind,
        "dtype_numpy": column.dtype,
        "shape": [],
        "units": column.unit,
        "description": column.description,
    }
