"""What the process that writes HDF5 files is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
]


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin a part; the answer is Appended.

    q: (n_q,) 1/angstrom; phi: (n_phi,) deg
    tables: those beside the tables of every run
    committed: frames whose rows and images are taken over from the part before; None = all
    """

    directory: Path
    uid: str
    start: Mapping[str, Any]
    q: NDArray[np.float64]
    phi: NDArray[np.float64]
    step: int
    tables: tuple[StreamTable, ...]
    committed: frozenset[int] | None


@dataclass(frozen=True, slots=True)
class Append:
    """Append images, by row, and columns of tables, by name; the answer is Appended."""

    part: Path
    images: Mapping[int, NDArray[np.float32]]
    tables: Sequence[tuple[str, Mapping[str, Sequence[Any]]]]


@dataclass(frozen=True, slots=True)
class Appended:
    """All that was asked for is flushed; the part holds `rows` image rows of shape (n_phi, n_q)."""

    part: Path
    rows: int
    shape: tuple[int, int]


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
class Finished:
    """A finished file: its image rows, and the checksum of one of them (None = no image).

    whole: the file needs no other one
    gaps: what is missing in it, in words; empty = nothing
    """

    path: Path
    rows: int
    shape: tuple[int, int]
    whole: bool
    sample: tuple[int, int] | None
    gaps: str


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
