"""The HDF5 parts of a derived run: one a writer session, readable while they grow (SWMR)."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the filters
import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import StoreError
from gixi_bluesky.log import get_logger
from gixi_bluesky.tiled_adapters.files.nexus import (
    create_entry,
    create_images,
    create_table,
    read_table,
    table_values,
    write_table,
)
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
    ) -> None:
        self._directory = Path(directory).absolute()
        self._uid = run_uid
        self._start = start_doc
        self._step = step
        given = {table.name: table for table in tables}
        self._tables = {name: TABLES[name] for name in STREAMS} | given
        self._axes = (np.asarray(q), np.asarray(phi))
        self.dataset = IMAGE_DATASET
        with _disk_errors(self._directory):
            folder = self._directory / run_uid
            folder.mkdir(parents=True, exist_ok=True)
            self.path, earlier = _next_part(folder)
            self._file = h5py.File(self.path, "x", libver="latest")
            entry = create_entry(self._file, start_doc, *self._axes)
            self._images = create_images(self._file, (len(phi), len(q)))
            for table in self._tables.values():
                create_table(entry, table)
            self._file.swmr_mode = True
            if earlier is not None:
                self._take_over(earlier, committed)
            self._file.flush()

    @property
    def uri(self) -> str:
        """The file URI of this session's part, for the stream_resource."""
        return f"file://localhost{self.path}"

    @property
    def rows(self) -> int:
        """How many image rows the part holds."""
        return int(self._images.shape[0])

    @property
    def chunk_shape(self) -> tuple[int, int, int]:
        """One image a chunk."""
        return (1, *self._images.shape[1:])

    def append_images(self, rows: Mapping[int, NDArray[np.float32]]) -> None:
        """Write images by row and make them visible to readers; rows left out stay NaN."""
        if not rows:
            return
        with _disk_errors(self.path):
            self._grow(max(rows) + 1)
            for row, image in sorted(rows.items()):
                self._images[row] = image
            self._file["/entry/polar/frame"].flush()
            self._images.flush()

    def append_table(self, stream: str, columns: Mapping[str, Any]) -> None:
        """Append rows, given by column, to the part's own copy of a table."""
        with _disk_errors(self.path):
            group = self._file["entry"][stream]
            for column in self._tables[stream].columns:
                values = table_values(column, columns[column.name])
                dataset = group[column.name]
                start = dataset.shape[0]
                dataset.resize(start + len(values), axis=0)
                dataset[start:] = values
                dataset.flush()

    def close(self) -> None:
        """Close the part; the next session goes on in a part of its own."""
        self._file.close()

    def finish(self, stop: Mapping[str, Any] | None = None) -> Path:
        """Close the part and write `<uid>.nxs` over it, openable without SWMR; return its path.

        stop: the stop document of the run, which the file keeps for a later registration

        The tables go into that file, each row once; the images stay in the part, found relatively.
        """
        with _disk_errors(self._directory):
            self.close()
            finished = self._directory / f"{self._uid}.nxs"
            temporary = finished.with_name(f".{finished.name}.{os.getpid()}")
            try:
                with (
                    # As a server in this process has it open: HDF5 refuses two ways at once.
                    h5py.File(self.path, "r", swmr=True, libver="latest") as part,
                    h5py.File(temporary, "w", libver=("earliest", "v110")) as file,
                ):
                    self._write_finished(file, part, stop)
                temporary.replace(finished)
            finally:
                temporary.unlink(missing_ok=True)
        return finished

    def supersede(self) -> None:
        """Remove the earlier sessions' parts, once the run is complete with this one.

        Not before: what an earlier session spooled may complete the run first, with its part.
        """
        for earlier in self.path.parent.glob("part-*.h5"):
            if earlier != self.path:
                with contextlib.suppress(OSError):  # it costs room, nothing else
                    earlier.unlink()

    def _write_finished(
        self, file: h5py.File, part: h5py.File, stop: Mapping[str, Any] | None
    ) -> None:
        entry = create_entry(file, self._start, *self._axes, stop)
        images = part[IMAGE_DATASET]
        layout = h5py.VirtualLayout(images.shape, dtype="<f4")
        if len(images):
            layout[:] = h5py.VirtualSource(
                f"{self._uid}/{self.path.name}", IMAGE_DATASET, shape=images.shape
            )
        virtual = file.create_virtual_dataset(IMAGE_DATASET, layout, fillvalue=np.nan)
        for key, value in images.attrs.items():
            virtual.attrs[key] = value
        part.copy("/entry/polar/frame", entry["polar"])
        for stream, table in self._tables.items():
            rows = read_table(part["entry"], stream)
            rows = rows.drop_duplicates(list(table.keys), keep="last")
            write_table(entry, table, {str(name): rows[name] for name in rows})

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
        except (OSError, KeyError) as error:
            _log.error("part_unreadable", part=str(earlier), error=repr(error))

    def _take_images(self, images: h5py.Dataset, committed: Collection[int] | None) -> None:
        """Copy compressed images as they are, without unpacking them."""
        wanted = [
            row
            for row in range(images.shape[0])
            if committed is None or row * self._step in committed
        ]
        self._grow(max(wanted, default=-1) + 1)
        for row in wanted:
            if images.id.get_chunk_info_by_coord((row, 0, 0)).byte_offset is None:
                continue
            filters, packed = images.id.read_direct_chunk((row, 0, 0))
            self._images.id.write_direct_chunk((row, 0, 0), packed, filters)


@contextlib.contextmanager
def _disk_errors(place: Path) -> Iterator[None]:
    """Turn what HDF5 and the disk raise into StoreError, with the room that is left."""
    try:
        yield
    except StoreError:
        raise
    except (OSError, RuntimeError) as error:
        try:
            room = f"{shutil.disk_usage(place.parent).free / 2**20:.0f} MiB free"
        except OSError:
            room = "its folder cannot be read"
        message = f"cannot write {place}: {error} ({room}); mend it and resume the run"
        raise StoreError(message) from error


def _next_part(folder: Path) -> tuple[Path, Path | None]:
    """Return the path of a new part and the newest part there is."""
    numbers = sorted(
        int(found[1])
        for path in folder.iterdir()
        if (found := re.fullmatch(r"part-(\d{4,})\.h5", path.name))
    )
    last = numbers[-1] if numbers else 0
    newest = folder / f"part-{last:04d}.h5" if numbers else None
    return folder / f"part-{last + 1:04d}.h5", newest
