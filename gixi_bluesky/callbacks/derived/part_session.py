"""The HDF5 part of a derived run that this session writes, through the HDF5 process."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.callbacks.derived.frame_spans import FrameSpans
from gixi_bluesky.errors import StoreError
from gixi_bluesky.tiled_adapters.files.file_process import FileProcess, FileProcessError
from gixi_bluesky.tiled_adapters.files.requests import Append, Appended, Begin, Close
from gixi_bluesky.tiled_adapters.frame_arrays import FrameArray
from gixi_bluesky.tiled_adapters.schema import StreamTable
from gixi_bluesky.tiled_adapters.settings import OutputSettings
from gixi_bluesky.tiled_adapters.store.composer import RunComposer

__all__ = ["Columns", "PartSession", "Rows"]

Columns = Mapping[str, Sequence[Any]]
Rows = Mapping[str, Mapping[int, NDArray[np.float32]]]  # of arrays, by dataset and row
_IMAGES_PER_REQUEST = 8
_CLOSE_S = 5.0
_TAKEN_OVER_PER_S = 20  # images of the part before, at least


class PartSession:
    """Appends to the part of this session; creates another one when the process was replaced.

    The next part takes over the frames that were acknowledged, so that a flush that was not may
    be repeated as a whole.
    """

    def __init__(
        self,
        composer: RunComposer,
        output: OutputSettings,
        process: FileProcess,
        tables: tuple[StreamTable, ...],
    ) -> None:
        self._composer = composer
        self._output = output
        self._process = process
        self._tables = tables
        self._step = max(output.row_step, 1)
        self._generation = 0
        self._written = FrameSpans()
        self._axes: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
        self._arrays: tuple[FrameArray, ...] = ()
        self.part: Appended | None = None

    @property
    def can_begin(self) -> bool:
        """True if the axes are known, from the first analysed frame on."""
        return self._axes is not None

    def set_axes(
        self,
        q: NDArray[np.float64],
        phi: NDArray[np.float64],
        arrays: tuple[FrameArray, ...] = (),
    ) -> None:
        """Take the axes of the images, q (n_q,) 1/angstrom and phi (n_phi,) deg, and the arrays."""
        if self._axes is None:
            self._axes, self._arrays = (q, phi), arrays

    def begin(self, committed: Collection[int]) -> None:
        """Begin a part unless the process has one open. Raises StoreError."""
        if self._axes is None:
            message = "a part is begun with the first analysed frame"
            raise StoreError(message)
        if self.part is not None and self._generation == self._process.generation:
            return
        frames = frozenset(committed) | frozenset(self._written)
        request = Begin(
            self._output.directory.absolute(),
            self._composer.uid,
            self._composer.start,
            *self._axes,
            self._step,
            self._tables,
            frames,
            self._arrays,
        )
        timeout = self._output.storage_timeout_s + len(frames) / _TAKEN_OVER_PER_S
        self.part = self._process.ask(request, timeout)
        self._generation = self._process.generation

    def append(
        self,
        images: Mapping[int, NDArray[np.float32]],
        tables: Sequence[tuple[str, Columns]],
        arrays: Rows | None = None,
    ) -> None:
        """Append images, by row, and other arrays, then rows of tables; all is flushed on return.

        Raises StoreError; then the same call may be repeated after `begin`.
        """
        rows = list(images.items())
        batches = [
            dict(rows[k : k + _IMAGES_PER_REQUEST])
            for k in range(0, len(rows), _IMAGES_PER_REQUEST)
        ]
        for batch in batches[:-1]:
            self._ask(batch, ())
        curves = {}
        for dataset, values in (arrays or {}).items():
            if dataset in {array.dataset for array in self._arrays if array.is_image}:
                for begin in range(0, len(values), _IMAGES_PER_REQUEST):
                    some = list(values.items())[begin : begin + _IMAGES_PER_REQUEST]
                    self._ask({}, (), {dataset: dict(some)})
            else:
                curves[dataset] = values
        self._ask(batches[-1] if batches else {}, tables, curves)
        for stream, columns in tables:
            if stream == "frames":
                self._written.add(columns["frame"])

    def close(self) -> None:
        """Close the part; the next session goes on in a part of its own."""
        part, self.part = self.part, None
        if part is not None and self._generation == self._process.generation:
            with contextlib.suppress(StoreError):
                self._process.ask(Close(part.part), _CLOSE_S)

    def _ask(
        self,
        images: Mapping[int, Any],
        tables: Sequence[tuple[str, Columns]],
        arrays: Rows | None = None,
    ) -> None:
        if self.part is None:
            message = "the part of this session is not open"
            raise StoreError(message)
        try:
            request = Append(self.part.part, images, tuple(tables), arrays or {})
            self.part = self._process.ask(request, self._output.storage_timeout_s)
        except FileProcessError:
            self.part = None
            raise
        except StoreError as error:
            if self._generation != self._process.generation:  # it was a request to another process
                self.part = None
                raise FileProcessError(str(error)) from error
            raise
