"""The folds that a configuration asks for: textures, and the rows of users' steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gixi_bluesky.callbacks.derived.folds import (
    FoldBuilder,
    Folded,
    FrameFold,
    OrderedFrame,
    StoredFrames,
)
from gixi_bluesky.callbacks.runs.actions import RawRun
from gixi_bluesky.callbacks.worker.jobs import Analysed, Ready
from gixi_bluesky.processing.steps.loading import is_stateful, load_step
from gixi_bluesky.processing.steps.protocol import Step
from gixi_bluesky.processing.steps.running import rows_of, run_step, step_columns
from gixi_bluesky.processing.steps.settings import StepSettings
from gixi_bluesky.tiled_adapters.schema import TABLES, StreamTable, step_table

__all__ = ["StatefulStepFold", "WorkerRowsFold", "configured_folds"]

Rows = Mapping[str, Sequence[Any]]


def configured_folds(steps: Sequence[StepSettings], *, textures: bool) -> FoldBuilder:
    """Return a function that builds the folds of a run. Raises ConfigError for an unusable step."""
    loaded = [(settings, load_step(settings)) for settings in steps]

    def build(_: RawRun, __: Ready) -> Sequence[FrameFold]:
        folds: list[FrameFold] = []
        if textures:
            folds.append(WorkerRowsFold(TABLES["textures"], _rows_of_textures))
        for settings, step in loaded:
            table = step_table(step.name, step_columns(step))
            if is_stateful(step):
                folds.append(StatefulStepFold(load_step(settings), table))
            else:
                folds.append(WorkerRowsFold(table, _rows_of_step(step.name)))
        return folds

    return build


def _rows_of_textures(result: Analysed) -> Rows:
    return {name: values.tolist() for name, values in result.textures.items()}


def _rows_of_step(name: str) -> Callable[[Analysed], Rows]:
    return lambda result: result.step_rows.get(name, {})


@dataclass(frozen=True, slots=True)
class WorkerRowsFold:
    """Rows that the worker made of a frame alone, put into their stream."""

    table: StreamTable
    rows: Callable[[Analysed], Rows]
    needs_images: bool = False
    finished: bool = True

    @property
    def name(self) -> str:
        """The name of the stream."""
        return self.table.name

    @property
    def tables(self) -> tuple[StreamTable, ...]:
        """The stream."""
        return (self.table,)

    def restore(self, stored: StoredFrames) -> None:
        """Do nothing: the rows of a frame depend on no other."""

    def add(self, frame: OrderedFrame) -> Folded:
        """Return the rows of a frame."""
        if frame.result is None:
            return Folded()
        return _folded(self.table, frame.number, self.rows(frame.result))

    def collect(self) -> Folded:
        """Return nothing."""
        return Folded()

    def finish(self) -> Folded:
        """Return nothing."""
        return Folded()

    def summary(self) -> Mapping[str, Any]:
        """Return nothing."""
        return {}

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class StepInput:
    """The input of a stateful step for a frame; without an image, the image is empty."""

    frame: int
    time: float
    peaks: pd.DataFrame
    matches: pd.DataFrame
    match_peaks: pd.DataFrame
    polar_image: NDArray[np.float32]
    q: NDArray[np.float64]
    phi: NDArray[np.float64]


@dataclass(slots=True)
class StatefulStepFold:
    """A user's stateful step over the frames of a run."""

    step: Step
    table: StreamTable
    needs_images: bool = True
    finished: bool = True
    _last: int = field(default=-1, init=False)

    @property
    def name(self) -> str:
        """The name of the step."""
        return self.step.name

    @property
    def tables(self) -> tuple[StreamTable, ...]:
        """The stream of its rows."""
        return (self.table,)

    def restore(self, stored: StoredFrames) -> None:
        """Call the step with the stored frames again; their rows are already stored."""
        for frame in stored:
            self._last = frame.number
            if frame.status == "ok":
                run_step(self.step, _step_input(frame, stored.image(frame.number)))

    def add(self, frame: OrderedFrame) -> Folded:
        """Return the rows of the next frame."""
        self._last = frame.number
        if frame.status != "ok":
            return Folded()
        return _folded(
            self.table, frame.number, run_step(self.step, _step_input(frame, frame.image))
        )

    def collect(self) -> Folded:
        """Return nothing."""
        return Folded()

    def finish(self) -> Folded:
        """Return the rows that the step makes at the end, as rows of the last frame."""
        finish = getattr(self.step, "finish", None)
        if finish is None or self._last < 0:
            return Folded()
        return _folded(self.table, self._last, rows_of(self.step, finish()))

    def summary(self) -> Mapping[str, Any]:
        """Return nothing."""
        return {}

    def close(self) -> None:
        """Do nothing."""


def _step_input(frame: OrderedFrame, image: NDArray[np.float32] | None) -> StepInput:
    result = frame.result
    return StepInput(
        frame=frame.number,
        time=frame.time,
        peaks=frame.peaks.frame(),
        matches=frame.matches.frame(),
        match_peaks=frame.match_peaks.frame(),
        polar_image=np.empty((0, 0), np.float32) if image is None else image,
        q=np.empty(0) if result is None else result.q,
        phi=np.empty(0) if result is None else result.phi,
    )


def _folded(table: StreamTable, frame: int, rows: Rows) -> Folded:
    n = max((len(values) for values in rows.values()), default=0)
    if not n:
        return Folded()
    known = {"frame": [frame] * n, "row": list(range(n))}
    columns = {
        column.name: list(rows.get(column.name, known.get(column.name, [])))
        for column in table.columns
    }
    return Folded(rows={table.name: columns})
