"""Writing an open derived run: frames become documents in the order of the commit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from gixi_bluesky.callbacks.derived.arrays import RunArrays
from gixi_bluesky.callbacks.derived.arrivals import Answered
from gixi_bluesky.callbacks.derived.folds import Folded, Folds, OrderedFrame
from gixi_bluesky.callbacks.derived.rows import Rows, frame_rows, joined
from gixi_bluesky.callbacks.derived.stored import StoredRun
from gixi_bluesky.callbacks.derived.stores import RunStore
from gixi_bluesky.callbacks.derived.summary import RunSummary, stop_document
from gixi_bluesky.callbacks.runs.actions import RunClosed
from gixi_bluesky.callbacks.worker.jobs import Analysed
from gixi_bluesky.processes.clock import Clock
from gixi_bluesky.processing.tables import Matches, MatchPeaks, Peaks
from gixi_bluesky.tiled_adapters.schema import STREAMS, TABLES, StreamTable, commit_order
from gixi_bluesky.tiled_adapters.store.composer import Document, RunComposer

__all__ = ["Echo", "RunWriter"]

_ROWS_ANNOUNCED = 500
_FINISHING_S = 2.0  # that folds may take of one call


class Echo(Protocol):
    """Publishes the derived documents of one run elsewhere, each at least once; never raises."""

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None: ...  # noqa: D102

    @property
    def pending(self) -> int:
        """Number of documents that are not acknowledged."""


class RunWriter:
    """Writes one derived run that is open in its store. For one thread.

    A flush is: images, `peaks`, `matches`, `match_peaks`, `textures`, `step_*`, last `frames`,
    which marks its frames as done; `courses` follows outside this order. After an error the next
    call goes on with the document that was not stored; folds take each frame once.

    echo: called with each document once it is stored, and with the stop document before
    """

    def __init__(
        self,
        composer: RunComposer,
        store: RunStore,
        arrays: RunArrays,
        folds: Folds,
        summary: RunSummary,
        clock: Clock,
        echo: Echo | None,
    ) -> None:
        self._composer = composer
        self._store = store
        self._arrays = arrays
        self._folds = folds
        self._summary = summary
        self._clock = clock
        self._echo = echo
        self._tables = {table.name: table for table in _tables(folds)}
        self._committed: frozenset[int] = frozenset()
        self._counts: dict[str, int] = {}
        self._folded: list[tuple[Answered, dict[str, Rows]]] = []
        self._outbox: list[Document] = []
        self._stop_announced = False
        self._stop_stored = False

    @property
    def n_frames(self) -> int:
        """Number of frames that have a row."""
        return self._summary.n_frames

    def open(self) -> frozenset[int]:
        """Open or resume the run; return the frames that are done. Raises what the store raises."""
        state = self._store.open(self._composer.start)
        self._committed = state.committed
        self._counts = {stream: state.rows.get(stream, 0) for stream in self._tables}
        self._announce("start", self._composer.start)
        streams = self._stored_streams() if state.committed else []
        stored = StoredRun(self._store.read, streams, self._arrays.stored_image)
        for stream in streams:
            rows = stored.table(stream)
            columns = {str(key): rows[key].tolist() for key in rows}
            self._summary.add(stream, columns)
            self._announce_rows(stream, columns)
        self._folds.restore(stored)
        self._outbox += [
            ("descriptor", self._composer.descriptor(table)) for table in self._tables.values()
        ]
        return state.committed

    def write(self, frames: list[Answered], times: Mapping[int, float]) -> None:
        """Store frames, given in order.

        times: of events that came after their frames, by seq_num
        """
        self._folded += [(one, self._fold(one, times)) for one in frames]
        self.send()

    def send(self) -> None:
        """Store the documents left by an earlier call."""
        self._send()
        if self._folded:
            self._compose_frames()
            self._send()

    def refresh_live(self) -> None:
        """Store rows that are late, and the summary of the run as it is now."""
        if late := _rows_of(self._folds.collect()):
            self._compose({}, late)
            self._send()
        self._store.refresh_live(self._as_dict())

    def finish(self, closed: RunClosed) -> bool:
        """Store the rest and the stop; return False while the file or the echo is not ready."""
        if not self._stop_stored and not self._store_stop(closed):
            return False
        return not self._arrays.removing

    def _store_stop(self, closed: RunClosed) -> bool:
        if not self._finish_folds():
            return False
        stop = stop_document(self._composer, closed, self._counts, self._as_dict())
        documents = self._arrays.finish(stop)
        if documents is None:
            return False
        self._outbox += documents
        self._send()
        stop = stop_document(self._composer, closed, self._counts, self._as_dict())
        if self._echo is not None:
            # Before it is stored: a run that has its stop is never opened again.
            if not self._stop_announced:
                self._announce("stop", stop)
                self._stop_announced = True
            if self._echo.pending:
                return False
        self._store("stop", stop)
        if self._store.serves(self._composer.uid, self._arrays.finished):
            self._arrays.supersede()
        self._store.close()
        self._stop_stored = True
        return True

    def _finish_folds(self) -> bool:
        """Store rows of the folds that are left; return False where there may be more."""
        self._send()
        ends = self._clock.monotonic() + _FINISHING_S
        while not self._folds.finished:
            if last := _rows_of(self._folds.finish()):
                self._compose({}, last)
                self._send()
            if not self._folds.finished and self._clock.monotonic() >= ends:
                return False
        return True

    def store_stop(self, closed: RunClosed) -> None:
        """Store a stop document at once, for a run whose rest cannot be stored."""
        self._store("stop", stop_document(self._composer, closed, self._counts, self._as_dict()))

    def totals(self) -> dict[str, Any]:
        """Return the counts of frames and peaks, for the log."""
        summary = self._as_dict()
        return {key: summary[key] for key in ("n_frames", "n_peaks", "n_dropped", "n_failed")}

    def _stored_streams(self) -> list[str]:
        return [stream for stream in self._tables if stream in STREAMS or self._counts[stream]]

    def _as_dict(self) -> dict[str, Any]:
        summary, added = self._summary.as_dict(), self._folds.summary()
        for slug, phase in added.pop("phases", {}).items():
            summary["phases"][slug] = {**summary["phases"].get(slug, {}), **phase}
        if self._arrays.error:
            summary["arrays_error"] = self._arrays.error
        return {**summary, **added}

    def _fold(self, one: Answered, times: Mapping[int, float]) -> dict[str, Rows]:
        """Return the rows of a frame by stream, with what the folds add."""
        raw_time = one.frame.time
        if math.isnan(raw_time):
            # A fly scan has no events: the arrival of its document is the best estimate.
            raw_time = times.get(one.frame.seq_num, one.frame.arrived)
        tables = frame_rows(one, raw_time)
        if one.late:
            return tables
        made, failed = self._folds.add(_ordered(one, raw_time))
        for folded in made:
            for stream, columns in folded.columns.items():
                tables[stream] |= {name: list(values) for name, values in columns.items()}
        if failed:
            reasons = [reason for reason in (*tables["frames"]["reason"], failed) if reason]
            tables["frames"]["reason"] = ["; ".join(reasons)]
        return tables | _rows_of(made)

    def _compose_frames(self) -> None:
        tables = {
            stream: joined([rows[stream] for _, rows in self._folded if stream in rows], table)
            for stream, table in self._tables.items()
        }
        results = {
            one.frame.number: one.outcome.result
            for one, _ in self._folded
            if one.outcome.result is not None
        }
        self._compose(results, tables)
        self._folded.clear()

    def _compose(self, results: Mapping[int, Analysed], tables: Mapping[str, Rows]) -> None:
        """Save the arrays, and turn rows into documents in the order of the commit."""
        self._outbox += self._arrays.save(results, tables, self._committed)
        now = self._clock.wall()
        for stream, table in self._tables.items():
            columns = tables.get(stream)
            if columns and columns["frame"]:
                page = self._composer.page(table, columns, self._counts[stream] + 1, now)
                self._outbox.append(("event_page", page))
                self._counts[stream] += len(columns["frame"])
                self._summary.add(stream, columns)

    def _send(self) -> None:
        while self._outbox:
            self._store(*self._outbox[0])
            self._announce(*self._outbox[0])
            del self._outbox[0]

    def _announce(self, name: str, doc: Mapping[str, Any]) -> None:
        # Arrays that travel inside documents are for the server alone: no topic has room for them.
        if self._echo is not None and not _holds_arrays(doc):
            self._echo(name, doc)

    def _announce_rows(self, stream: str, columns: Mapping[str, list[Any]]) -> None:
        """Publish rows that an earlier session stored and may not have published."""
        if self._echo is None or not columns["frame"]:
            return
        table = self._tables[stream]
        self._announce("descriptor", self._composer.descriptor(table))
        now = self._clock.wall()
        for page in self._composer.pages(table, columns, 1, now, _ROWS_ANNOUNCED):
            self._announce("event_page", page)


def _tables(folds: Folds) -> list[StreamTable]:
    """Return the tables of a run in the order of the commit."""
    tables = {table.name: table for table in folds.tables} | {
        name: TABLES[name] for name in STREAMS
    }
    return [tables[name] for name in commit_order(tables)]


def _holds_arrays(doc: Mapping[str, Any]) -> bool:
    rows: Sequence[Any] = next(iter(doc.get("data", {}).values()), ())
    return bool(len(rows)) and isinstance(rows[0], np.ndarray)


def _ordered(one: Answered, raw_time: float) -> OrderedFrame:
    result = one.outcome.result
    return OrderedFrame(
        number=one.frame.number,
        time=raw_time,
        status=one.outcome.status,
        peaks=Peaks.empty() if result is None else result.peaks,
        matches=Matches.empty() if result is None else result.matches,
        match_peaks=MatchPeaks.empty() if result is None else result.match_peaks,
        image=None if result is None else result.image,
        result=result,
    )


def _rows_of(made: list[Folded]) -> dict[str, Rows]:
    """Return the rows that the folds made, by stream."""
    tables: dict[str, Rows] = {}
    for folded in made:
        for stream, rows in folded.rows.items():
            tables[stream] = {name: list(values) for name, values in rows.items()}
    return tables
