"""The HDF5 parts of a derived run: one a writer session, readable while they grow (SWMR)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import StoreError
from gixi_bluesky.log import get_logger
from gixi_bluesky.tiled_adapters.files.array_groups import (
    create_arrays,
    stored_arrays,
    stored_rows,
    write_rows,
)
from gixi_bluesky.tiled_adapters.files.nexus import append_rows, create_entry, create_table
from gixi_bluesky.tiled_adapters.files.part_files import (
    disk_errors,
    new_part_path,
    require_room,
    run_parts,
)
from gixi_bluesky.tiled_adapters.files.polar_images import (
    copy_image,
    create_images,
    is_stored,
    write_image,
)
from gixi_bluesky.tiled_adapters.files.repacking import finish_run
from gixi_bluesky.tiled_adapters.files.result_reading import read_table
from gixi_bluesky.tiled_adapters.frame_arrays import FrameArray, StoredRows
from gixi_bluesky.tiled_adapters.schema import IMAGE_DATASET, STREAMS, TABLES, StreamTable

__all__ = ["PartWriter"]

_log = get_logger()


class PartWriter:
    """Appends images and tables to this session's own part `<directory>/<uid>/part-0001.h5`.

    A part begins with what the part before it holds (a killed writer's file can be read but never
    written again), so that the newest part alone holds all images. Row k of the images is frame
    k * step. Raises StoreError when the directory or the disk refuses.

    q: (n_q,) 1/angstrom; phi: (n_phi,) deg
    tables: those beside the tables of every run
    committed: on resume, the frames whose rows and images are taken over; None = all
    arrays: those beside the polar images; those of the part before are added
    """

    def __init__(
        self,
        directory: str | Path,
        run_uid: str,
        start_doc: Mapping[str, Any],
        q: NDArray[np.float64],
        phi: NDArray[np.float64],
        *,
        step: int = 1,
        tables: Iterable[StreamTable] = (),
        committed: Collection[int] | None = None,
        arrays: Iterable[FrameArray] = (),
    ) -> None:
        self._directory = Path(directory).absolute()
        self._uid = run_uid
        self._start = start_doc
        self._step = step
        given = {table.name: table for table in tables}
        self._tables = {name: TABLES[name] for name in STREAMS} | given
        self._axes = (np.asarray(q), np.asarray(phi))
        self.dataset = IMAGE_DATASET
        with disk_errors(self._directory):
            earlier = run_parts(self._directory, run_uid)
            self.path = new_part_path(self._directory, run_uid)
            taken_over = earlier[-1].stat().st_size if earlier else 0
            require_room(self.path.parent, taken_over)
            before = _arrays_of(earlier[-1]) if earlier else []
            self._arrays = {one.dataset: one for one in (*arrays, *before)}
            self._file = h5py.File(self.path, "x", libver="latest")
            entry = create_entry(self._file, start_doc, *self._axes)
            self._images = create_images(self._file, (len(phi), len(q)))
            create_arrays(self._file, self._arrays.values())
            for table in self._tables.values():
                create_table(entry, table)
            self._file.swmr_mode = True
            if earlier:
                self._take_over(earlier[-1], committed)
            self._file.flush()

    @property
    def uri(self) -> str:
        """The file URI of this session's part, for the stream_resource."""
        return f"file://localhost{self.path}"

    @property
    def rows(self) -> int:
        """Number of image rows in the part."""
        return int(self._images.shape[0])

    @property
    def arrays(self) -> tuple[StoredRows, ...]:
        """The arrays of the part beside the polar images."""
        return tuple(
            StoredRows(array, len(self._file[dataset])) for dataset, array in self._arrays.items()
        )

    @property
    def chunk_shape(self) -> tuple[int, int, int]:
        """Shape of a chunk: one image."""
        return (1, *self._images.shape[1:])

    def append_images(self, rows: Mapping[int, NDArray[np.float32]]) -> None:
        """Write images by row and make them visible to readers; rows left out stay NaN."""
        if not rows:
            return
        with disk_errors(self.path):
            require_room(self.path.parent, sum(image.nbytes for image in rows.values()))
            self._grow(max(rows) + 1)
            for row, image in sorted(rows.items()):
                write_image(self._images, row, np.asarray(image, dtype="<f4"))
            self._file["/entry/polar/frame"].flush()
            self._images.flush()

    def append_rows(self, arrays: Mapping[str, Mapping[int, NDArray[np.float32]]]) -> None:
        """Write rows of other arrays, by dataset and row, and make them visible to readers."""
        with disk_errors(self.path):
            nbytes = sum(row.nbytes for rows in arrays.values() for row in rows.values())
            require_room(self.path.parent, nbytes)
            for dataset, rows in arrays.items():
                array = self._arrays[dataset]
                write_rows(self._file, array, rows)
                self._file[array.group]["frame"].flush()
                self._file[dataset].flush()

    def append_table(self, stream: str, columns: Mapping[str, Any]) -> None:
        """Append rows, given by column, to the part's own copy of a table."""
        with disk_errors(self.path):
            group = self._file["entry"][stream]
            append_rows(group, self._tables[stream], columns)
            for column in self._tables[stream].columns:
                group[column.name].flush()

    def close(self) -> None:
        """Close the part; the next session goes on in a part of its own."""
        self._file.close()

    def finish(self, stop: Mapping[str, Any] | None = None, *, repack: bool = True) -> Path:
        """Close the part and write `<uid>.nxs`, with the images inside or not; return its path.

        stop: the stop document of the run, which the file keeps for a later registration
        """
        self.close()
        made = finish_run(
            self._directory, self._uid, self._tables.values(), repack=repack, stop=stop
        )
        if made is None:
            message = f"{self.path} cannot be read; there is nothing to finish"
            raise StoreError(message)
        return made.path

    def _grow(self, rows: int) -> None:
        before = self.rows
        if rows <= before:
            return
        self._images.resize(rows, axis=0)
        frames = self._file["/entry/polar/frame"]
        frames.resize(rows, axis=0)
        frames[before:] = np.arange(before, rows) * self._step

    def _take_over(self, earlier: Path, committed: Collection[int] | None) -> None:
        try:
            with h5py.File(earlier, "r", swmr=True, libver="latest") as part:
                self._take_images(part[IMAGE_DATASET], committed)
                for stream in self._tables:
                    if stream not in part["entry"]:
                        continue
                    rows = read_table(part["entry"], stream)
                    if committed is not None:
                        rows = rows[rows["frame"].isin(list(committed))]
                    self.append_table(stream, {str(name): rows[name] for name in rows})
                for array in stored_arrays(part):
                    kept = stored_rows(part[array.dataset], array, committed)
                    self.append_rows({array.dataset: kept})
        except (OSError, KeyError) as error:
            _log.error("part_unreadable", part=str(earlier), error=repr(error))

    def _take_images(self, images: h5py.Dataset, committed: Collection[int] | None) -> None:
        """Copy images with their compressed chunks; one that cannot be read stays NaN."""
        wanted = [
            row
            for row in range(images.shape[0])
            if committed is None or row * self._step in committed
        ]
        self._grow(max(wanted, default=-1) + 1)
        for row in wanted:
            if not is_stored(images, row):
                continue
            try:
                copy_image(images, row, self._images)
            except OSError as error:
                _log.error("image_unreadable", part=images.file.filename, row=row, error=str(error))


def _arrays_of(part: Path) -> list[FrameArray]:
    """Return the arrays of the part before, none when it cannot be read."""
    try:
        with h5py.File(part, "r", swmr=True, libver="latest") as file:
            return stored_arrays(file)
    except (OSError, KeyError) as error:
        _log.error("part_unreadable", part=str(part), error=repr(error))
        return []
