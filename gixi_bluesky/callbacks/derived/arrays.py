"""Images and cuts of a derived run: with the tables in HDF5 files, or uploaded to Tiled."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.callbacks.derived.announcements import Announcements
from gixi_bluesky.callbacks.derived.array_rows import ArrayRows
from gixi_bluesky.callbacks.derived.finishing import Finishing
from gixi_bluesky.callbacks.derived.image_pages import ImagePages
from gixi_bluesky.callbacks.derived.part_session import Columns, PartSession, Rows
from gixi_bluesky.callbacks.worker.jobs import Analysed
from gixi_bluesky.errors import StoreError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.clock import SYSTEM_CLOCK, Clock
from gixi_bluesky.processes.retries import Backoff
from gixi_bluesky.tiled_adapters.files.file_process import (
    FileProcess,
    FileProcessError,
    StorageHangsError,
    file_process,
)
from gixi_bluesky.tiled_adapters.files.requests import Finished, ReadImage
from gixi_bluesky.tiled_adapters.schema import STREAMS, TABLES, StreamTable
from gixi_bluesky.tiled_adapters.settings import OutputSettings
from gixi_bluesky.tiled_adapters.store.composer import Document, RunComposer

__all__ = ["RunArrays"]

_ATTEMPTS = 3
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 60.0
_OWED_FRAMES = 20_000
_log = get_logger()


class RunArrays:
    """Writes the HDF5 part, created with the first analysed frame, and composes its documents.

    A disk that refuses three times, or does not respond, costs images and not the run: they are
    NaN, `frames.reason` says why, and their rows are written to the part when the disk works
    again, which is tried at intervals. `error` says what was lost.

    tables: those of the run beside the tables of every run
    required: there is no Tiled, so that a flush is repeated until the disk takes it
    process: the process that writes HDF5; None = the one of this process
    step: distance of consecutive frame numbers
    """

    def __init__(
        self,
        composer: RunComposer,
        output: OutputSettings,
        *,
        tables: Sequence[StreamTable] = (),
        required: bool = False,
        process: FileProcess | None = None,
        step: int = 1,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._composer = composer
        self._output = output
        self._required = required
        self._process = process or file_process()
        every = tuple(TABLES[name] for name in STREAMS)
        given = tuple(tables)
        self._session = PartSession(composer, output, self._process, given)
        polar = output.image_step > 0
        self._rows = ArrayRows(output, step)
        self._pages = ImagePages(composer, clock, polar=polar)
        self._announcements = Announcements(composer, clock, polar=polar)
        self._finishing = Finishing(composer.uid, output, (*every, *given), required=required)
        self._logged = False
        self._last: list[Document] = []
        self._retry = Backoff(clock, _FIRST_PAUSE_S, _LONGEST_PAUSE_S, free=_ATTEMPTS - 1)
        self._owed: list[tuple[str, Columns]] = []
        self._owed_frames = 0
        self._not_stored = 0
        self._curves_not_stored = 0
        self._reason = ""

    @property
    def error(self) -> str:
        """Description of arrays that were lost, and why; "" = none."""
        lost = [
            f"{number} {what} were not stored: {self._reason}"
            for number, what in (
                (self._not_stored, "images"),
                (self._curves_not_stored, "rows of cuts"),
            )
            if number
        ]
        found = (*lost, self._finishing.error)
        return "; ".join(text for text in found if text)

    @property
    def finished(self) -> Finished | None:
        """The finished file, once `finish` has written it."""
        return self._finishing.finished

    def keeps_image(self, frame: int) -> bool:
        """Return whether the polar image of a frame is stored."""
        return self._keeps(frame, self._output.image_step)

    def keeps_q_image(self, frame: int) -> bool:
        """Return whether the image of a frame on (q_z, q_xy) is stored, or needed for its axes."""
        step = self._output.q_image_step
        return self._keeps(frame, step) or (
            self._output.arrays != "none" and step > 0 and not self._rows.known
        )

    def save(
        self,
        results: Mapping[int, Analysed],
        tables: Mapping[str, Mapping[str, list[Any]]],
        committed: Collection[int],
    ) -> list[Document]:
        """Write analysed frames (by number) and table rows; return what announces the arrays.

        Where arrays are given up, the reason is put into the column `reason` of `tables`.
        Raises StoreError while a retry may help; repeating a call is harmless.
        """
        if self._output.arrays == "none":
            return []
        results = dict(sorted(results.items()))
        images = {
            number // max(self._output.row_step, 1): result.image
            for number, result in results.items()
            if result.image is not None and self.keeps_image(number)
        }
        arrays, reasons = self._rows.of(results)
        _add_reasons(tables, reasons)
        if self._output.arrays == "tiled":
            return self._pages.documents(images, self._rows.arrays, arrays)
        for example in results.values():
            self._session.set_axes(example.q, example.phi, self._rows.arrays)
            break
        if not self._retry.due or not self._session.can_begin:
            self._leave_out(images, tables, arrays)
            return []
        rows = [(stream, columns) for stream, columns in tables.items() if columns["frame"]]
        try:
            self._write(images, rows, arrays, committed)
        except StoreError as error:
            self._refused(error)
            self._leave_out(images, tables, arrays)
            return []
        self._retry.succeeded()
        part = self._session.part
        return [] if part is None else self._announcements.part(part)

    def stored_image(self, frame: int) -> NDArray[np.float32] | None:
        """Return the polar image of a frame that an earlier session stored, None without one."""
        if not self.keeps_image(frame) or self._output.arrays != "external":
            return None
        directory = self._output.directory.absolute()
        request = ReadImage(directory, self._composer.uid, frame // self._output.row_step)
        try:
            image: NDArray[np.float32] | None = self._process.ask(
                request, self._output.storage_timeout_s
            )
        except StoreError as error:
            _log.warning("image_not_read", uid=self._composer.uid, frame=frame, error=str(error))
            return None
        return image

    def finish(self, stop: Mapping[str, Any]) -> list[Document] | None:
        """Write `<uid>.nxs` and return its documents; None while it is being written.

        It is written in the background; the call may be repeated any number of times. Raises
        StoreError while it is worth trying again.
        """
        if self._output.arrays != "external":
            return []
        if not self._finishing.begun:
            self._write_owed()
            part = self._session.part
            self._last = [] if part is None else self._announcements.part(part, everything=True)
            self._session.close()
        finished = self._finishing.step(stop)
        if finished is None and self._finishing.running:
            return None
        if self._logged:
            return []
        self._logged = True
        if finished is None or not finished.whole:
            return self._last
        return self._announcements.finished(finished)

    def supersede(self) -> None:
        """Begin to remove the parts that the finished file does not need, once it is served."""
        if self._output.arrays == "external":
            self._finishing.remove_parts()

    @property
    def removing(self) -> bool:
        """True if parts are being removed."""
        return self._finishing.removing

    def close(self) -> None:
        """Leave the part as it is, for a later session."""
        self._session.close()

    def _write(
        self,
        images: Mapping[int, Any],
        rows: Sequence[tuple[str, Columns]],
        arrays: Rows,
        committed: Collection[int],
    ) -> None:
        """Write a flush; repeat it in a new process if the first one died."""
        for attempt in range(2):
            try:
                self._session.begin(committed)
                self._session.append(images, [*self._owed, *rows], arrays)
            except FileProcessError as error:
                if attempt or isinstance(error, StorageHangsError):
                    raise
                _log.warning("flush_repeated", uid=self._composer.uid, error=str(error))
            else:
                self._owed, self._owed_frames = [], 0
                return

    def _refused(self, error: StoreError) -> None:
        """Record a refusal of the disk; raises it again while the flush should be repeated."""
        if self._required:
            raise error
        pause = self._retry.failed()
        if not pause and not isinstance(error, StorageHangsError):
            raise error
        if not pause:
            pause = _FIRST_PAUSE_S
            self._retry.wait(pause)
        self._reason = str(error)
        _log.error(
            "images_left_out", uid=self._composer.uid, error=str(error), tried_again_in_s=pause
        )

    def _leave_out(
        self,
        images: Mapping[int, Any],
        tables: Mapping[str, Mapping[str, list[Any]]],
        arrays: Rows,
    ) -> None:
        """Commit frames without their arrays; their rows are written to the part later."""
        frames = tables.get("frames", {"frame": [], "reason": []})
        step = max(self._output.row_step, 1)
        curves = {
            row * array.step for array in self._rows.arrays for row in arrays.get(array.dataset, {})
        }
        for place, frame in enumerate(frames["frame"]):
            row, rest = divmod(frame, step)
            if frames["reason"][place]:
                continue
            if not rest and row in images:
                frames["reason"][place] = f"image not stored: {self._reason}"
            elif frame in curves:
                frames["reason"][place] = f"cuts not stored: {self._reason}"
        self._not_stored += len(images)
        self._curves_not_stored += len(curves)
        self._owed_frames += len(frames["frame"])
        if self._owed_frames <= _OWED_FRAMES:
            self._owed += [(name, columns) for name, columns in tables.items() if columns["frame"]]

    def _write_owed(self) -> None:
        """Write rows that the disk refused, if it takes them now; the finished file names gaps."""
        if not self._owed:
            return
        try:
            self._session.append({}, self._owed)
        except StoreError as error:
            _log.error("rows_not_in_file", uid=self._composer.uid, error=str(error))
        self._owed = []

    def _keeps(self, frame: int, step: int) -> bool:
        return self._output.arrays != "none" and step > 0 and frame % step == 0


def _add_reasons(tables: Mapping[str, Mapping[str, list[Any]]], reasons: Mapping[int, str]) -> None:
    """Write into the rows of `frames` why data of them are not stored."""
    frames = tables.get("frames", {"frame": [], "reason": []})
    for place, frame in enumerate(frames["frame"]):
        if frame in reasons and not frames["reason"][place]:
            frames["reason"][place] = reasons[frame]
