"""The rows of cuts and q images, from the results of the frames of a run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.callbacks.worker.jobs import Analysed
from gixi_bluesky.processing.types import Cut
from gixi_bluesky.tiled_adapters.frame_arrays import (
    Q_IMAGE_GROUP,
    FrameArray,
    cut_arrays,
    q_image_array,
)
from gixi_bluesky.tiled_adapters.settings import OutputSettings

__all__ = ["ArrayRows"]

Rows = dict[str, dict[int, NDArray[np.float32]]]  # by dataset and row


class ArrayRows:
    """Turns results into rows of arrays, whose axes are those of the first frame of the session.

    step: distance of consecutive frame numbers; row k of a cut is frame k · step
    known: whether a frame was taken, and with it the axes
    """

    def __init__(self, output: OutputSettings, step: int) -> None:
        self._output = output
        self._step = step
        self._cuts: dict[str, tuple[FrameArray, FrameArray]] = {}
        self._q_image: FrameArray | None = None
        self.known = False

    @property
    def arrays(self) -> tuple[FrameArray, ...]:
        """The arrays, once a frame was analysed."""
        q_image = () if self._q_image is None else (self._q_image,)
        return (*q_image, *(array for pair in self._cuts.values() for array in pair))

    def of(self, results: Mapping[int, Analysed]) -> tuple[Rows, dict[int, str]]:
        """Return the rows of frames, and by frame why some of them are left out.

        results: by number, in ascending order
        """
        rows: Rows = {array.dataset: {} for array in self.arrays}
        reasons: dict[int, str] = {}
        for number, result in results.items():
            if not self.known:
                self._take_axes(result)
                rows = {array.dataset: {} for array in self.arrays}
            moved = [name for name in self._cuts if not self._add_cut(rows, number, name, result)]
            if moved:
                reasons[number] = f"not stored, since its axis changed: cut {', '.join(moved)}"
            self._add_q_image(rows, number, result)
        return rows, reasons

    def _take_axes(self, result: Analysed) -> None:
        self.known = True
        self._cuts = {name: cut_arrays(name, cut, self._step) for name, cut in result.cuts.items()}
        if result.q_axes is not None and self._output.q_image_step:
            self._q_image = q_image_array(*result.q_axes, self._output.row_step)

    def _add_cut(self, rows: Rows, number: int, name: str, result: Analysed) -> bool:
        """Add a cut of a frame; return False where it has another axis than the first one."""
        cut: Cut | None = result.cuts.get(name)
        intensity, error = self._cuts[name]
        if cut is None or not np.array_equal(cut.axis, intensity.axes[0].values):
            return False
        row = number // self._step
        rows[intensity.dataset][row] = cut.intensity.astype(np.float32)
        rows[error.dataset][row] = cut.error.astype(np.float32)
        return True

    def _add_q_image(self, rows: Rows, number: int, result: Analysed) -> None:
        wanted = self._output.q_image_step
        if self._q_image is None or result.q_image is None or number % wanted:
            return
        if result.q_image.shape == self._q_image.shape:
            dataset = f"{Q_IMAGE_GROUP}/{self._q_image.field}"
            rows[dataset][number // self._output.row_step] = result.q_image
