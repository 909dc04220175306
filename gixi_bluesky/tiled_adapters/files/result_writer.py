"""One NeXus file of analysed frames that belong to no run, written as the frames come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gixi_bluesky.processing.tables import Column
from gixi_bluesky.processing.types import Cut
from gixi_bluesky.tiled_adapters.files.array_groups import create_arrays, write_rows
from gixi_bluesky.tiled_adapters.files.nexus import (
    append_rows,
    complete_entry,
    create_entry,
    create_table,
    link_mlgid_names,
    write_table,
)
from gixi_bluesky.tiled_adapters.files.polar_images import create_images, write_image
from gixi_bluesky.tiled_adapters.files.whole_file import WholeFile
from gixi_bluesky.tiled_adapters.frame_arrays import FrameArray, cut_arrays
from gixi_bluesky.tiled_adapters.schema import (
    STREAMS,
    TABLES,
    StreamTable,
    complete_columns,
    step_table,
)

__all__ = ["ResultWriter", "write_result_file"]

_FRAMES_PER_APPEND = 32
_TEXT = "<U400"  # of columns of steps


class WrittenFrame(Protocol):
    """The part of a FrameResult that is written to a file."""

    @property
    def index(self) -> int: ...
    @property
    def q(self) -> NDArray[Any]: ...
    @property
    def phi(self) -> NDArray[Any]: ...
    @property
    def polar_image(self) -> NDArray[np.float32]: ...
    @property
    def peaks(self) -> pd.DataFrame: ...
    @property
    def matches(self) -> pd.DataFrame: ...
    @property
    def match_peaks(self) -> pd.DataFrame: ...
    @property
    def textures(self) -> pd.DataFrame: ...
    @property
    def steps(self) -> Mapping[str, pd.DataFrame]: ...
    @property
    def cuts(self) -> Mapping[str, Cut]: ...


class ResultWriter:
    """Writes analysed frames, all with the same cuts, into a file that appears at `finish`.

    Images and cuts are written at once; the rows of at most 32 frames wait to be written.

    provenance: as in the derived run; start: what is known of a start document
    Raises StoreError when the disk refuses; nothing is left of the file then.
    """

    def __init__(
        self,
        path: Path,
        provenance: Mapping[str, Any],
        start: Mapping[str, Any] | None = None,
    ) -> None:
        self._path = path
        gixi = {"provenance": dict(provenance), "geometry": provenance.get("geometry", {})}
        self._document = {**(start or {}), "gixi": {**(start or {}).get("gixi", {}), **gixi}}
        self._file: WholeFile | None = None
        self._arrays: dict[str, tuple[FrameArray, FrameArray]] = {}
        self._tables: dict[str, StreamTable] = {}
        self._rows: dict[str, list[pd.DataFrame]] = {}
        self.waiting = 0
        """Number of frames whose rows are in memory."""
        self.n_images = 0
        """Number of images in the file."""

    def add(self, result: WrittenFrame) -> None:
        """Write a frame."""
        image = result.polar_image
        file = self._opened(result)
        with file.errors(image.nbytes):
            row, entry = self.n_images, file.hdf5["entry"]
            for name, value in (("intensity", None), ("frame", result.index)):
                dataset = entry["polar"][name]
                dataset.resize(row + 1, axis=0)
                if value is None:
                    write_image(dataset, row, np.asarray(image, "<f4"))
                else:
                    dataset[row] = value
            for name, (intensity, error) in self._arrays.items():
                cut = result.cuts[name]
                write_rows(file.hdf5, intensity, {row: cut.intensity.astype(np.float32)})
                write_rows(file.hdf5, error, {row: cut.error.astype(np.float32)})
        self.n_images += 1
        self._keep_rows(result)
        if self.waiting >= _FRAMES_PER_APPEND:
            self._append()

    def finish(self, frames: Mapping[str, Any] | None = None) -> Path:
        """Complete the file and return its path. Raises ValueError when it holds no frame.

        frames: the columns of `frames`, if they are known
        """
        if self._file is None:
            message = "got no results to write; expected at least one analysed frame"
            raise ValueError(message)
        self._append()
        with self._file.errors():
            entry = self._file.hdf5["entry"]
            for stream in self._tables:
                link_mlgid_names(entry[stream], stream)
            if frames is not None:
                write_table(entry, TABLES["frames"], frames)
            complete_entry(entry, self._document)
        self._file.complete()
        return self._path

    def close(self) -> None:
        """Remove what is there of a file that was not finished."""
        if self._file is not None:
            self._file.discard()

    def _opened(self, first: WrittenFrame) -> WholeFile:
        """Return the file, which is begun with the axes and cuts of the first frame."""
        if self._file is not None:
            return self._file
        self._file = WholeFile(self._path)
        with self._file.errors():
            hdf5 = self._file.hdf5
            entry = create_entry(hdf5, self._document, first.q, first.phi)
            n_phi, n_q = first.polar_image.shape
            create_images(hdf5, (n_phi, n_q))
            for name, cut in first.cuts.items():
                intensity, error = cut_arrays(name, cut, step=1)
                create_arrays(hdf5, (intensity, error))
                self._arrays[name] = intensity, error
            for stream in STREAMS[:3]:
                self._tables[stream] = TABLES[stream]
                create_table(entry, TABLES[stream])
        return self._file

    def _keep_rows(self, result: WrittenFrame) -> None:
        given = {"peaks": result.peaks, "matches": result.matches, "textures": result.textures}
        given["match_peaks"] = result.match_peaks
        for name, rows in result.steps.items():
            given[f"step_{name}"] = rows.assign(frame=result.index, row=np.arange(len(rows)))
        for stream, rows in given.items():
            if len(rows):
                self._rows.setdefault(stream, []).append(rows)
        self.waiting += 1

    def _append(self) -> None:
        """Write the rows that wait."""
        if self._file is None:
            return
        with self._file.errors():
            entry = self._file.hdf5["entry"]
            for stream, tables in self._rows.items():
                rows = pd.concat(tables, ignore_index=True)
                if stream not in self._tables:
                    self._tables[stream] = TABLES.get(stream) or _step_table(stream, rows)
                    create_table(entry, self._tables[stream])
                if stream in TABLES:
                    rows = complete_columns(rows, stream)
                append_rows(
                    entry[stream],
                    self._tables[stream],
                    {str(name): column.to_numpy() for name, column in rows.items()},
                )
        self._rows.clear()
        self.waiting = 0


def write_result_file(
    path: str | Path,
    results: Sequence[WrittenFrame],
    provenance: Mapping[str, Any],
    frames: Mapping[str, Any] | None = None,
    start: Mapping[str, Any] | None = None,
) -> Path:
    """Write analysed frames into one NeXus file, replacing it only when it is complete.

    provenance: as in the derived run; frames: the columns of `frames`, if they are known. All
    results have the same cuts.
    """
    writer = ResultWriter(Path(path), provenance, start)
    try:
        for result in results:
            writer.add(result)
        return writer.finish(frames)
    finally:
        writer.close()


def _step_table(stream: str, rows: pd.DataFrame) -> StreamTable:
    """Return the table of a step by its first rows."""
    kinds = {"b": "?", "i": "<i8", "u": "<i8", "f": "<f8"}
    columns = [
        Column(str(name), kinds.get(dtype.kind, _TEXT), "", "")
        for name, dtype in rows.dtypes.items()
        if name not in {"frame", "row"}
    ]
    return step_table(stream.removeprefix("step_"), columns)
