"""Requests to the process that writes HDF5 files, and its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.tiled_adapters.frame_arrays import FrameArray, StoredRows
from gixi_bluesky.tiled_adapters.schema import StreamTable

__all__ = [
    "Append",
    "Appended",
    "Begin",
    "Close",
    "Finish",
    "Finished",
    "ReadImage",
    "ReadTables",
    "RemoveParts",
    "Request",
    "Sample",
]


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin a part; the answer is Appended.

    q: (n_q,) 1/angstrom; phi: (n_phi,) deg
    tables: those beside the tables of every run
    committed: frames whose rows and images are taken over from the part before; None = all
    arrays: those beside the polar images
    """

    directory: Path
    uid: str
    start: Mapping[str, Any]
    q: NDArray[np.float64]
    phi: NDArray[np.float64]
    step: int
    tables: tuple[StreamTable, ...]
    committed: frozenset[int] | None
    arrays: tuple[FrameArray, ...] = ()


@dataclass(frozen=True, slots=True)
class Append:
    """Append images, by row, and columns of tables, by name; the answer is Appended.

    arrays: rows of other arrays, by dataset and row
    """

    part: Path
    images: Mapping[int, NDArray[np.float32]]
    tables: Sequence[tuple[str, Mapping[str, Sequence[Any]]]]
    arrays: Mapping[str, Mapping[int, NDArray[np.float32]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Appended:
    """Answer: the data are flushed; the part holds `rows` image rows of shape (n_phi, n_q).

    arrays: what it holds of other arrays
    """

    part: Path
    rows: int
    shape: tuple[int, int]
    arrays: tuple[StoredRows, ...] = ()


@dataclass(frozen=True, slots=True)
class Close:
    """Close a part; the answer is None."""

    part: Path


@dataclass(frozen=True, slots=True)
class Finish:
    """Write `<uid>.nxs` from the newest part of a run; the answer is Finished, None without one.

    tables: all tables of the run
    repack: with the images inside; otherwise they stay in the part
    stop: the stop document of the run
    """

    directory: Path
    uid: str
    tables: tuple[StreamTable, ...]
    repack: bool
    stop: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Sample:
    """A row of an array, by which a served file is recognised.

    stream, key: of the array in Tiled
    checksum: CRC-32 of the row as little-endian float32
    """

    stream: str
    key: str
    row: int
    checksum: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished file: its image rows, and one row of an array (None = it holds none).

    whole: the file needs no other one
    gaps: description of what is missing in it, "" = nothing
    arrays: what it holds of other arrays
    """

    path: Path
    rows: int
    shape: tuple[int, int]
    whole: bool
    sample: Sample | None
    gaps: str
    arrays: tuple[StoredRows, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoveParts:
    """Remove the parts of a run, except those that its finished file needs; the answer is None."""

    directory: Path
    uid: str


@dataclass(frozen=True, slots=True)
class ReadTables:
    """Return the tables of a run's newest part as {stream: DataFrame}; {} without a part."""

    directory: Path
    uid: str


@dataclass(frozen=True, slots=True)
class ReadImage:
    """Return the image of a row that the run's files hold, (n_phi, n_q), None without one."""

    directory: Path
    uid: str
    row: int


Request = Begin | Append | Close | Finish | RemoveParts | ReadTables | ReadImage
