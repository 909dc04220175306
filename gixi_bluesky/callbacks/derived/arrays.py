"""The polar images of a derived run: with the tables in HDF5 files, or uploaded to Tiled."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.callbacks.clock import SYSTEM_CLOCK, Clock
from gixi_bluesky.callbacks.worker.jobs import Analysed
from gixi_bluesky.errors import StoreError
from gixi_bluesky.log import get_logger
from gixi_bluesky.tiled_adapters.client.export import FileRun
from gixi_bluesky.tiled_adapters.files.parts import PartWriter
from gixi_bluesky.tiled_adapters.schema import StreamTable
from gixi_bluesky.tiled_adapters.settings import OutputSettings
from gixi_bluesky.tiled_adapters.store.composer import Document, RunComposer

__all__ = ["RunArrays"]

_ATTEMPTS = 3
_IMAGES_PER_PAGE = 8
_log = get_logger()


class RunArrays:
    """Writes the part, begun with the first analysed frame, and announces its images.

    A disk that refuses three times in a row ends the writing, never the run: `error` says why,
    and the tables still go to Tiled.

    tables: those of the run beside the tables of every run
    required: there is no Tiled, so that a refusing disk is tried for ever
    """

    def __init__(
        self,
        composer: RunComposer,
        output: OutputSettings,
        *,
        tables: Sequence[StreamTable] = (),
        required: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._clock = clock
        self._composer = composer
        self._output = output
        self._tables = tuple(tables)
        self._required = required
        self._part: PartWriter | None = None
        self._finished: PartWriter | None = None
        self._rows = 0
        self._failures = 0
        self._announced: list[Document] = []
        self._described = False
        self.error = ""

    def keeps_image(self, frame: int) -> bool:
        """Say whether the polar image of a frame is stored."""
        step = self._output.image_step
        return self._output.arrays != "none" and step > 0 and frame % step == 0

    def save(
        self,
        results: Mapping[int, Analysed],
        tables: Mapping[str, Mapping[str, Sequence[Any]]],
        committed: Collection[int],
    ) -> list[Document]:
        """Write analysed frames (by number) and table rows; return what announces the images.

        Raises StoreError while it is worth trying again; repeating a call does no harm.
        """
        if self._output.arrays == "tiled":
            return self._uploads(results)
        if self._output.arrays == "none" or self.error or not (results or self._part):
            return []
        try:
            if self._part is None:
                self._begin(next(iter(results.values())), committed)
            self._append(results, tables)
        except StoreError as error:
            self._failures += 1
            if self._required or self._failures < _ATTEMPTS:
                raise
            _log.error("arrays_given_up", uid=self._composer.uid, error=str(error))
            self.error = str(error)
            return []
        self._failures = 0
        announced, self._announced = self._announced, []
        return announced

    def _uploads(self, results: Mapping[int, Analysed]) -> list[Document]:
        """Return what carries the images themselves, a few to a page."""
        images = {
            number // self._output.image_step: result.image
            for number, result in sorted(results.items())
            if result.image is not None and self.keeps_image(number)
        }
        documents: list[Document] = []
        pages: list[dict[int, Any]] = []
        for row, image in images.items():
            if not pages or row - 1 not in pages[-1] or len(pages[-1]) == _IMAGES_PER_PAGE:
                pages.append({})
            pages[-1][row] = image
        if images and not self._described:
            shape = next(iter(images.values())).shape
            descriptor = self._composer.image_descriptor(*shape, external=False)
            documents.append(("descriptor", descriptor))
            self._described = True
        for page in pages:
            doc = self._composer.image_page(min(page), list(page.values()), self._clock.wall())
            documents.append(("event_page", doc))
        return documents

    def stored_image(self, frame: int) -> NDArray[np.float32] | None:
        """Return the polar image of a frame that an earlier session stored, None without one."""
        if not self.keeps_image(frame) or self._output.arrays != "external":
            return None
        try:
            with contextlib.closing(FileRun(self._output.directory, self._composer.uid)) as stored:
                row = frame // self._output.image_step
                return stored.image(row) if row < stored.n_images else None
        except StoreError as error:
            _log.warning("image_not_read", uid=self._composer.uid, frame=frame, error=str(error))
            return None

    def finish(self, stop: Mapping[str, Any]) -> None:
        """Leave one plainly openable file, with the run's stop document. Raises StoreError."""
        if self._part is not None:
            self._part.finish(stop)
            self._part, self._finished = None, self._part

    def supersede(self) -> None:
        """Remove what earlier sessions left, once the run is complete."""
        if self._finished is not None:
            self._finished.supersede()

    def close(self) -> None:
        """Leave the part as it is, for a later session."""
        if self._part is not None:
            self._part.close()
            self._part = None

    def _begin(self, example: Analysed, committed: Collection[int]) -> None:
        part = PartWriter(
            self._output.directory,
            self._composer.uid,
            self._composer.start,
            example.q,
            example.phi,
            step=max(self._output.image_step, 1),
            tables=self._tables,
            committed=committed,
        )
        self._part = part
        if self._output.image_step:
            descriptor = self._composer.image_descriptor(len(example.phi), len(example.q))
            self._announced += [
                ("descriptor", descriptor),
                ("stream_resource", self._resource(part)),
            ]

    def _append(
        self, results: Mapping[int, Analysed], tables: Mapping[str, Mapping[str, Sequence[Any]]]
    ) -> None:
        part = self._part
        if part is None:
            return
        images = {
            number // self._output.image_step: result.image
            for number, result in results.items()
            if result.image is not None and self.keeps_image(number)
        }
        part.append_images(images)
        for stream, columns in tables.items():
            if columns["frame"]:
                part.append_table(stream, columns)
        if part.rows > self._rows:
            uid = self._resource(part)["uid"]
            datum = self._composer.image_datum(uid, self._rows, part.rows)
            self._announced.append(("stream_datum", datum))
            self._rows = part.rows

    def _resource(self, part: PartWriter) -> dict[str, Any]:
        return self._composer.image_resource(part.uri, part.dataset, part.chunk_shape)
