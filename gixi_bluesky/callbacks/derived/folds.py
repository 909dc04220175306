"""Folds: computations over the frames of a run in their order, such as tracks.

Workers have no memory, so that any of them may take any frame. A computation that needs the frames
before is a `FrameFold`: it takes the frames of one run one after the other in the order of their
numbers, between the workers and the store, and on resume it is rebuilt from what is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gixi_bluesky.callbacks.runs.actions import RawRun
from gixi_bluesky.callbacks.worker.jobs import Analysed, Ready
from gixi_bluesky.log import get_logger
from gixi_bluesky.processing.tables import Matches, MatchPeaks, Peaks
from gixi_bluesky.tiled_adapters.schema import StreamTable

__all__ = [
    "Columns",
    "FoldBuilder",
    "Folded",
    "Folds",
    "FrameFold",
    "OrderedFrame",
    "StoredFrames",
]

Columns = Mapping[str, Sequence[Any]]
_log = get_logger()


@dataclass(frozen=True, slots=True)
class OrderedFrame:
    """The input of folds for one frame, analysed now or stored by an earlier session.

    number: 0-based position of the image in its raw stream and key
    time: of the raw event, seconds since 1970
    status: ok, dropped, unavailable or failed; the tables are empty unless it is ok
    image: (n_phi, n_q) float32, polar image, NaN = no data; None where there is none
    result: what the worker returned; None for a stored frame
    stored: for a stored frame its rows by stream, with the columns that folds filled
    """

    number: int
    time: float
    status: str
    peaks: Peaks
    matches: Matches
    match_peaks: MatchPeaks
    image: NDArray[np.float32] | None = None
    result: Analysed | None = None
    stored: Mapping[str, pd.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Folded:
    """The output of a fold for a frame.

    columns: by stream and name, columns of the frame's own rows that the fold fills, as `track`
        of `peaks`
    rows: by stream, rows by column with `frame`. In streams of the commit they belong to the
        frame itself; in `courses` to any frame up to it.
    """

    columns: Mapping[str, Columns] = field(default_factory=dict)
    rows: Mapping[str, Columns] = field(default_factory=dict)


class StoredFrames(Protocol):
    """The part of a run that earlier sessions stored."""

    def __iter__(self) -> Iterator[OrderedFrame]:
        """Iterate over the stored frames in order, without their images."""

    def image(self, frame: int) -> NDArray[np.float32] | None:
        """Return the stored polar image of a frame, None where there is none."""

    @property
    def image_reader(self) -> Callable[[int], NDArray[np.float32] | None]:
        """A function that returns the image of a frame as `image` does, for use after `restore`."""

    def table(self, stream: str) -> pd.DataFrame:
        """Return the stored rows of a stream, without any if it is not there."""


class FrameFold(Protocol):
    """A computation over the frames of one run in their order.

    Its results are a function of the frames before, in their order, and of nothing else, so that
    a resumed run and a replay give the same. It is called on one thread. An exception costs the
    fold its rows of this frame, and the `frames` row gives the reason.

    name: for messages
    tables: the streams that it writes, besides columns of existing ones
    needs_images: whether `add` needs the polar image of every frame
    finished: whether `finish` has returned all rows, and need not be called again
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def tables(self) -> tuple[StreamTable, ...]: ...  # noqa: D102
    @property
    def needs_images(self) -> bool: ...  # noqa: D102
    @property
    def finished(self) -> bool: ...  # noqa: D102

    def restore(self, stored: StoredFrames) -> None:
        """Rebuild the state from what earlier sessions stored; called before the first `add`."""

    def add(self, frame: OrderedFrame) -> Folded:
        """Take the next frame and return its output."""

    def collect(self) -> Folded:
        """Return rows that became ready since the last frame, no `columns`; called now and then."""

    def finish(self) -> Folded:
        """Return rows that are left when the raw run has ended, no `columns`.

        Called again until `finished`, each time for about a second at most.
        """

    def summary(self) -> Mapping[str, Any]:
        """Return what the fold adds to `gixi_live` and to the stop document, in JSON types."""

    def close(self) -> None:
        """Free what the fold holds, when the run is over or given up."""


FoldBuilder = Callable[[RawRun, Ready], Sequence[FrameFold]]


class Folds:
    """Runs the folds of one run, each guarded, so that none can disturb the others or the run."""

    def __init__(self, folds: Sequence[FrameFold] = ()) -> None:
        self._folds = tuple(folds)
        self._unfinished = self._folds
        self._errors: dict[str, str] = {}

    @property
    def tables(self) -> tuple[StreamTable, ...]:
        """The streams that the folds write."""
        return tuple(table for fold in self._folds for table in fold.tables)

    @property
    def needs_images(self) -> bool:
        """True if a fold needs the polar image of every frame."""
        return any(fold.needs_images for fold in self._folds)

    def restore(self, stored: StoredFrames) -> None:
        """Rebuild the state of each fold; one that cannot be rebuilt is closed and left out."""
        for fold in self._folds:
            try:
                fold.restore(stored)
            except Exception as error:  # an error of a fold must not end the run
                self._note(fold, error)
                self._close(fold)
                self._folds = tuple(one for one in self._folds if one is not fold)
                self._unfinished = self._folds

    def add(self, frame: OrderedFrame) -> tuple[list[Folded], str]:
        """Return the output of each fold for the next frame, and why some failed, "" = none did."""
        made: list[Folded] = []
        reasons: list[str] = []
        sizes = {name: len(getattr(frame, name)) for name in ("peaks", "matches", "match_peaks")}
        sizes["frames"] = 1
        for fold in self._folds:
            try:
                folded = fold.add(frame)
                _check(folded, fold, frame.number, sizes)
                made.append(folded)
                frame = _with_columns(frame, folded)
            except Exception as error:  # an error of a fold must not lose the frame
                reasons.append(f"{fold.name}: {self._note(fold, error, frame=frame.number)}")
        return made, "; ".join(reasons)

    def collect(self) -> list[Folded]:
        """Return rows that became ready since the last frame."""
        made = [self._called(fold, fold.collect) for fold in self._folds]
        return [folded for folded in made if folded is not None]

    @property
    def finished(self) -> bool:
        """True if `finish` has returned all rows."""
        return not self._unfinished

    def finish(self) -> list[Folded]:
        """Return rows that are left; to be called until `finished`."""
        made = [(fold, self._called(fold, fold.finish)) for fold in self._unfinished]
        self._unfinished = tuple(
            fold for fold, folded in made if folded is not None and not fold.finished
        )
        return [folded for _, folded in made if folded is not None]

    def close(self) -> None:
        """Free what the folds hold."""
        for fold in self._folds:
            self._close(fold)

    def summary(self) -> dict[str, Any]:
        """Return what the folds add to the summary of the run."""
        merged: dict[str, Any] = {}
        for fold in self._folds:
            try:
                merged |= fold.summary()
            except Exception as error:  # a fold must not keep the run from its stop
                self._note(fold, error)
        return {**merged, **({"fold_errors": dict(self._errors)} if self._errors else {})}

    def _close(self, fold: FrameFold) -> None:
        try:
            fold.close()
        except Exception as error:  # there is nothing more to be done about it
            self._note(fold, error)

    def _called(self, fold: FrameFold, call: Callable[[], Folded]) -> Folded | None:
        """Return the rows that a fold gives, None if it fails, which must not cost the run."""
        try:
            folded = call()
            _check(folded, fold, None, {})
        except Exception as error:
            self._note(fold, error)
            return None
        return folded

    def _note(self, fold: FrameFold, error: Exception, **where: Any) -> str:
        reason = f"{type(error).__name__}: {error}"
        if fold.name not in self._errors:
            _log.error("fold_failed", fold=fold.name, exc_info=error, **where)
        self._errors.setdefault(fold.name, reason)
        return reason


def _with_columns(frame: OrderedFrame, folded: Folded) -> OrderedFrame:
    """Return the frame with the probabilities that a fold gave its phases, for later folds."""
    given = folded.columns.get("matches", {})
    if "probability" not in given:
        return frame
    probability = np.asarray(given["probability"], np.float64)
    return replace(frame, matches=replace(frame.matches, probability=probability))


def _check(folded: Folded, fold: FrameFold, frame: int | None, sizes: Mapping[str, int]) -> None:
    """Raise ValueError for what cannot be stored."""
    for stream, columns in folded.columns.items():
        for name, values in columns.items():
            if len(values) != sizes.get(stream, -1):
                message = (
                    f"{fold.name} gave {len(values)} values of {stream}.{name}; "
                    f"expected one for each of the {sizes.get(stream, 'no')} rows"
                )
                raise ValueError(message)
    own = {table.name: table for table in fold.tables}
    for stream, rows in folded.rows.items():
        if stream not in own:
            message = f"{fold.name} gave rows of {stream!r}; it declared {sorted(own)}"
            raise ValueError(message)
        lengths = {len(rows[column.name]) for column in own[stream].columns if column.name in rows}
        missing = [column.name for column in own[stream].columns if column.name not in rows]
        if missing or len(lengths) > 1:
            message = f"{fold.name} gave columns of {stream} of {lengths} rows, without {missing}"
            raise ValueError(message)
        in_commit = own[stream].in_commit
        if frame is not None and in_commit and any(n != frame for n in rows["frame"]):
            message = f"{fold.name} gave rows of other frames than {frame} in {stream}"
            raise ValueError(message)
