"""The finished file of a run, `<uid>.nxs`, made from its parts.

Every step can be repeated: a temporary file is written and checked, then renamed; parts are
removed only by a later request, when the file is known to hold the images itself.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import StoreError
from gixi_bluesky.log import get_logger
from gixi_bluesky.tiled_adapters.files.array_groups import (
    create_array,
    create_group,
    stored_arrays,
    stored_rows,
    write_rows,
)
from gixi_bluesky.tiled_adapters.files.nexus import (
    complete_entry,
    create_entry,
    write_note,
    write_table,
)
from gixi_bluesky.tiled_adapters.files.part_files import disk_errors, require_room, run_parts
from gixi_bluesky.tiled_adapters.files.polar_images import (
    checksum,
    copy_image,
    create_images,
    is_stored,
)
from gixi_bluesky.tiled_adapters.files.requests import Finished, Sample
from gixi_bluesky.tiled_adapters.files.result_reading import read_table
from gixi_bluesky.tiled_adapters.frame_arrays import FrameArray, StoredRows
from gixi_bluesky.tiled_adapters.schema import IMAGE_DATASET, IMAGE_KEY, IMAGES, StreamTable

__all__ = ["finish_run", "remove_parts"]

_NAMED_ROWS = 20
_log = get_logger()


def finish_run(
    directory: Path,
    uid: str,
    tables: Iterable[StreamTable],
    *,
    repack: bool,
    stop: Mapping[str, Any] | None = None,
) -> Finished | None:
    """Write `<uid>.nxs` from the newest part; return None when the run has no part.

    tables: of the run
    repack: the file holds the images; otherwise they stay in the part, found relatively
    stop: the stop document of the run; the file says what it lacks of the rows counted there
    Raises StoreError when the disk refuses; nothing is lost then.
    """
    finished = directory / f"{uid}.nxs"
    with disk_errors(finished):
        _remove_temporaries(directory, uid)
        with contextlib.ExitStack() as stack:
            parts = [stack.enter_context(part) for part in _readable(run_parts(directory, uid))]
            if not parts:
                return None
            if repack:
                require_room(directory, sum(Path(part.filename).stat().st_size for part in parts))
            temporary = directory / f".{uid}.nxs.{os.getpid()}"
            try:
                with h5py.File(temporary, "w", libver=("earliest", "v110")) as file:
                    made = _FinishedFile(file, parts, uid, stop, list(tables))
                    made.write(repack=repack)
                if repack:
                    made.verify(temporary)
                _sync(temporary)
                temporary.replace(finished)
                _sync(directory)
            finally:
                temporary.unlink(missing_ok=True)
            shape = parts[0][IMAGE_DATASET].shape
    return Finished(
        finished,
        shape[0],
        (shape[1], shape[2]),
        repack,
        made.sample,
        "; ".join(made.gaps),
        tuple(made.arrays),
    )


def remove_parts(directory: Path, uid: str) -> None:
    """Remove the parts of a finished run; those its file still needs stay. Raises StoreError."""
    finished = directory / f"{uid}.nxs"
    with disk_errors(finished):
        if not finished.exists():
            return
        with h5py.File(finished, "r") as file:
            stacks = [file[IMAGE_DATASET]]
            stacks += [file[array.dataset] for array in stored_arrays(file)]
            sources = [
                source for one in stacks if one.is_virtual for source in one.virtual_sources()
            ]
            needed = {(directory / source.file_name).resolve() for source in sources}
        folder = directory / uid
        for part in run_parts(directory, uid):
            if part.resolve() not in needed:
                part.unlink(missing_ok=True)
        if folder.is_dir() and not run_parts(directory, uid):
            with contextlib.suppress(OSError):  # something else lies there
                (folder / ".lock").unlink(missing_ok=True)
                folder.rmdir()


class _FinishedFile:
    """Writes one finished file from open parts, the newest first."""

    def __init__(
        self,
        file: h5py.File,
        parts: list[h5py.File],
        uid: str,
        stop: Mapping[str, Any] | None,
        tables: list[StreamTable],
    ) -> None:
        self._file = file
        self._parts = parts
        self._uid = uid
        self._stop = stop
        self._tables = tables
        self._checksums: dict[str, dict[int, int]] = {}
        self.arrays: list[StoredRows] = []
        self.gaps: list[str] = []

    @property
    def sample(self) -> Sample | None:
        """The last row of the images, or else of another array, None without any."""
        names = {IMAGE_DATASET: (IMAGES, IMAGE_KEY)} | {
            one.array.dataset: (one.array.stream, one.array.key) for one in self.arrays
        }
        for dataset, (stream, key) in names.items():
            if checksums := self._checksums.get(dataset):
                row = max(checksums)
                return Sample(stream, key, row, checksums[row])
        return None

    def write(self, *, repack: bool) -> None:
        """Write everything."""
        newest = self._parts[0]
        start = json.loads(newest["/entry/process/start_document"].asstr()[()])
        polar = newest["/entry/polar"]
        entry = create_entry(self._file, start, polar["q"][()], polar["phi"][()], self._stop)
        self._write_tables(entry)
        if repack:
            self._copy_images(entry)
            self._copy_arrays(refer=False)
        else:
            self._refer_to_images()
            self._copy_arrays(refer=True)
            name = f"{self._uid}/{Path(newest.filename).name}"
            write_note(
                entry,
                "images_elsewhere",
                f"The images (/entry/polar/intensity) are not in this file but in {name}, beside "
                "it. Copy that file along in its folder, or make a file that holds them with: "
                f"gixi-bluesky export {self._uid} --nexus --directory FOLDER --out OTHER_FOLDER",
            )
        complete_entry(entry, start)
        if self.gaps:
            write_note(entry, "gaps", "; ".join(self.gaps))

    def verify(self, path: Path) -> None:
        """Read all images of the written file again. Raises StoreError where they differ."""
        with h5py.File(path, "r") as file:
            for dataset, checksums in self._checksums.items():
                for row, expected in checksums.items():
                    if checksum(file[dataset][row]) != expected:
                        message = f"{path}: row {row} of {dataset} is not what was written"
                        raise StoreError(f"{message}; trying again")

    def _write_tables(self, entry: h5py.Group) -> None:
        stored = self._parts[0]["entry"]
        counts = {}
        for table in self._tables:
            if table.name not in stored:
                continue
            rows = read_table(stored, table.name).drop_duplicates(list(table.keys), keep="last")
            write_table(entry, table, {str(name): rows[name] for name in rows})
            counts[table.name] = len(rows)
        n_frames = (self._stop or {}).get("num_events", {}).get("frames", 0)
        if (missing := n_frames - counts.get("frames", 0)) > 0:
            self.gaps.append(
                f"the rows of {missing} frames are not in this file, since the disk refused them; "
                f"`gixi-bluesky export {self._uid} --nexus --tiled URI` writes them all"
            )

    def _copy_images(self, entry: h5py.Group) -> None:
        newest = self._parts[0][IMAGE_DATASET]
        images = create_images(self._file, newest.shape[1:], len(newest) or None)
        self._file["/entry/polar/frame"][...] = self._parts[0]["/entry/polar/frame"][()]
        self._copy_stack(images, len(newest), entry["polar/frame"][()])

    def _copy_stack(self, images: h5py.Dataset, rows: int, frames: NDArray[np.int64]) -> None:
        unreadable = [row for row in range(rows) if not self._copy_image(images, row)]
        if unreadable:
            lost = frames[unreadable]
            named = ", ".join(map(str, lost[:_NAMED_ROWS]))
            more = f" and {len(lost) - _NAMED_ROWS} more" if len(lost) > _NAMED_ROWS else ""
            self.gaps.append(f"the images of frames {named}{more} could not be read and are NaN")

    def _copy_image(self, images: h5py.Dataset, row: int) -> bool:
        """Copy a row from the newest part that can be read; return False when none can."""
        damaged = False
        for part in self._parts:
            try:
                source = part[images.name]
                if row < len(source) and is_stored(source, row):
                    made = copy_image(source, row, images)
                    self._checksums.setdefault(images.name, {})[row] = made
                    return True
            except (OSError, KeyError) as error:
                damaged = True
                _log.error("image_unreadable", part=part.filename, row=row, error=str(error))
        return not damaged

    def _copy_arrays(self, *, refer: bool) -> None:
        """Write the other arrays; with `refer` images stay in the part."""
        newest = self._parts[0]
        for array in stored_arrays(newest):
            rows = len(newest[array.dataset])
            self.arrays.append(StoredRows(array, rows))
            if array.is_image and refer:
                self._refer_to(array.dataset, array)
                continue
            target = create_array(self._file, array, rows)
            if array.is_image:
                self._copy_stack(target, rows, np.arange(rows) * array.step)
            else:
                self._copy_cut(array)

    def _copy_cut(self, array: FrameArray) -> None:
        """Copy a cut from the newest part in which it can be read."""
        for part in self._parts:
            try:
                rows = stored_rows(part[array.dataset], array, None)
            except (OSError, KeyError) as error:
                _log.error("cut_unreadable", part=part.filename, error=str(error))
                continue
            write_rows(self._file, array, rows)
            known = {row: checksum(values) for row, values in rows.items()}
            self._checksums[array.dataset] = known
            return
        self.gaps.append(f"the cut {array.key} could not be read and is NaN")

    def _refer_to_images(self) -> None:
        self._refer_to(IMAGE_DATASET)
        self._parts[0].copy("/entry/polar/frame", self._file["/entry/polar"])

    def _refer_to(self, dataset: str, array: FrameArray | None = None) -> None:
        part = self._parts[0]
        images = part[dataset]
        if array is not None:
            create_group(self._file, array, len(images))
        layout = h5py.VirtualLayout(images.shape, dtype="<f4")
        if len(images):
            name = f"{self._uid}/{Path(part.filename).name}"
            layout[:] = h5py.VirtualSource(name, dataset, shape=images.shape)
        virtual = self._file.create_virtual_dataset(dataset, layout, fillvalue=np.nan)
        for key, value in images.attrs.items():
            virtual.attrs[key] = value


def _readable(paths: list[Path]) -> Iterator[Any]:
    """Yield the parts that can be opened, the newest first."""
    for path in reversed(paths):
        try:
            # In the mode of a server: HDF5 refuses two modes in one process at once.
            file = h5py.File(path, "r", swmr=True, libver="latest")
        except OSError as error:
            _log.error("part_unreadable", part=str(path), error=repr(error))
            continue
        if "/entry/process/start_document" in file and IMAGE_DATASET in file:
            yield file
        else:
            file.close()


def _remove_temporaries(directory: Path, uid: str) -> None:
    """Remove files of earlier attempts that were killed; only this writer has the run."""
    for path in directory.glob(f".{uid}.nxs.*"):
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
