"""One derived run on its way into the store: rows gathered, flushed in commit order, closed."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gixi_bluesky.callbacks.derived.arrays import RunArrays
from gixi_bluesky.callbacks.derived.start_document import start_document
from gixi_bluesky.callbacks.derived.stores import LocalStore, RunStore
from gixi_bluesky.callbacks.derived.summary import RunSummary, stop_document
from gixi_bluesky.callbacks.runs.raw_run import Frame, RawRun, RunClosed
from gixi_bluesky.callbacks.worker.jobs import Outcome, Ready
from gixi_bluesky.errors import ClaimLostError, RunCompleteError, StoreError
from gixi_bluesky.log import get_logger
from gixi_bluesky.metrics import FRAME_LATENCY
from gixi_bluesky.tiled_adapters.schema import IMAGE_KEY, STREAMS, stored_columns
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings
from gixi_bluesky.tiled_adapters.store.composer import RunComposer
from gixi_bluesky.tiled_adapters.store.spooled_store import SpooledStore
from gixi_bluesky.tiled_adapters.store.writer import RunState

__all__ = ["DerivedRun", "Echo"]

_FRAMES_PER_FLUSH = 200
_BACKLOG_BYTES = 256 << 20
_LONGEST_PAUSE_S = 30.0
_WRITER_PAUSE_S = 1.0
_ROWS_TOLD = 500
_TIMES_KEPT = 10_000
_REFUSALS = frozenset({400, 413, 422})  # of the content, not of the key or the moment
_log = get_logger()


@dataclass(slots=True)
class _Row:
    frame: Frame
    outcome: Outcome
    latency: float

    @property
    def nbytes(self) -> int:
        result = self.outcome.result
        return result.image.nbytes if result is not None and result.image is not None else 0


class Echo(Protocol):
    """Tells others of the derived documents of one run; each at least once, never raising."""

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None: ...  # noqa: D102

    @property
    def pending(self) -> int:
        """How many documents nobody has acknowledged."""


class DerivedRun:
    """Gathers the outcomes of one raw run (from any thread) and stores them (from one thread).

    A flush that fails is repeated from the document it failed at. `step` does what is due and
    never raises.

    renew: builds another store while somebody else still writes the run; None = it is given up
    echo: is told of each document once it is stored, and of the stop before
    """

    def __init__(
        self,
        raw: RawRun,
        ready: Ready,
        store: RunStore,
        output: OutputSettings,
        tiled: TiledSettings,
        *,
        renew: Callable[[], RunStore] | None = None,
        echo: Echo | None = None,
    ) -> None:
        self.since = time.monotonic()
        self.documents = RunComposer(start_document(raw, ready, output, tiled))
        self.raw = raw
        self.complete = False
        self.given_up = ""
        self.broken = ""
        self.last_error = ""
        self._store = store
        self._renew = renew
        self._echo = echo
        self._stop_told = False
        self._output = output
        self._summary = RunSummary({phase["slug"]: phase["name"] for phase in ready.phases})
        self._lock = threading.Lock()
        self._state: RunState | None = None
        self._rows: list[_Row] = []
        self._row_bytes = 0
        self._times: dict[int, float] = {}
        self._answered = 0
        self._closed: RunClosed | None = None
        self._counts: dict[str, int] = {}
        self._arrays = RunArrays(self.documents, output, required=isinstance(store, LocalStore))
        self._outbox: list[tuple[str, dict[str, Any]]] = []
        self._failures = 0
        self._not_before = 0.0
        self._live_at = 0.0

    @property
    def over(self) -> bool:
        """Nothing more will be stored: the run is complete or was given up."""
        return self.complete or bool(self.given_up)

    @property
    def settled(self) -> bool:
        """The run is complete and no frame of it is on its way any more."""
        closed = self._closed
        return self.complete and closed is not None and self._answered >= closed.n_frames

    @property
    def stopped(self) -> bool:
        """Whether the raw run has ended."""
        return self._closed is not None

    @property
    def ready(self) -> bool:
        """Whether frames can be taken: the run is open and has room, or is over."""
        return self.over or (self._state is not None and self._row_bytes <= _BACKLOG_BYTES)

    @property
    def spooled(self) -> bool:
        """Whether all of the run, with its stop, is on a disk if not in Tiled."""
        return self.complete or (isinstance(self._store, SpooledStore) and self._store.stop_spooled)

    def wants(self, frame: Frame) -> bool | None:
        """Say whether a frame must be analysed; None while not known, or while no room is left."""
        with self._lock:
            if self.over:
                return False
            if self._state is None or self._row_bytes > _BACKLOG_BYTES:
                return None
            return frame.number not in self._state.committed

    def skip(self) -> None:
        """Take that a frame was not wanted."""
        with self._lock:
            self._answered += 1

    def keeps_image(self, frame: Frame) -> bool:
        """Say whether the polar image of a frame is stored."""
        return self._arrays.keeps_image(frame.number)

    def add(self, frame: Frame, outcome: Outcome) -> None:
        """Take how the analysis of a frame ended."""
        row = _Row(frame, outcome, time.monotonic() - frame.received)
        FRAME_LATENCY.observe(row.latency)
        with self._lock:
            if not self.over:
                self._rows.append(row)
                self._row_bytes += row.nbytes
            self._answered += 1  # last: `_advance` looks at it without the lock

    def set_time(self, seq_num: int, event_time: float) -> None:
        """Take the time of an event that came after its frames."""
        self._times[seq_num] = event_time
        if len(self._times) > _TIMES_KEPT:
            del self._times[next(iter(self._times))]

    def end(self, closed: RunClosed) -> None:
        """Take the end of the raw run; the derived run ends when all frames are answered."""
        self._closed = closed

    def step(self) -> None:
        """Open the run, flush what has gathered, close it when it is all there."""
        now = time.monotonic()
        if self.over or now < self._not_before:
            return
        try:
            self._advance(now)
            self._failures = 0
            self.last_error = ""
        except RunCompleteError:
            _log.info("run_complete_already", uid=self.documents.uid, raw_uid=self.raw.uid)
            self.complete = True
        except ClaimLostError as error:
            if self._renew is None or self._state is not None:
                self._give_up(str(error))
            else:
                self._wait_for_writer(self._renew, error, now)
        except Exception as error:  # whatever a store raises is tried again, later
            self._postpone(error, now)

    def close(self) -> None:
        """Give the run up where it is; it can be resumed."""
        self._arrays.close()
        self._store.close()

    def _advance(self, now: float) -> None:
        if self._state is None:
            self._state = self._open()
        self._send()
        # Only what is there now: at 100 frames a second there is always one more.
        gathered = len(self._rows)
        while gathered > 0:
            gathered -= self._gather(self._state, gathered)
            self._send()
        if self._closed is not None and self._answered >= self._closed.n_frames:
            if not self._rows:
                self._finish(self._closed)
        elif now >= self._live_at and self._summary.n_frames:
            self._store.refresh_live(self._summary.as_dict())
            self._live_at = time.monotonic() + self._output.live_s

    def _open(self) -> RunState:
        state = self._store.open(self.documents.start)
        self._counts = {stream: state.rows.get(stream, 0) for stream in STREAMS}
        self._tell("start", self.documents.start)
        if state.committed:
            for stream in STREAMS:
                rows = self._store.read(stream)
                columns = {str(key): rows[key].tolist() for key in rows}
                self._summary.add(stream, columns)
                self._tell_again(stream, columns)
        self._outbox += [("descriptor", self.documents.descriptor(stream)) for stream in STREAMS]
        with self._lock:
            self._rows = [r for r in self._rows if r.frame.number not in state.committed]
        return state

    def _gather(self, state: RunState, at_most: int) -> int:
        """Turn rows into documents in commit order; return of how many frames."""
        with self._lock:
            rows = self._rows[: min(at_most, _FRAMES_PER_FLUSH)]
        tables = {stream: self._columns(stream, rows) for stream in STREAMS}
        results = {
            row.frame.number: row.outcome.result for row in rows if row.outcome.result is not None
        }
        documents = self._arrays.save(results, tables, state.committed)
        stored_at = time.time()
        for stream, columns in tables.items():
            if columns["frame"]:
                first = self._counts[stream] + 1
                page = self.documents.page(stream, columns, first, stored_at)
                documents.append(("event_page", page))
        for stream, columns in tables.items():
            self._counts[stream] += len(columns["frame"])
            self._summary.add(stream, columns)
        self._outbox += documents
        with self._lock:
            del self._rows[: len(rows)]
            self._row_bytes -= sum(row.nbytes for row in rows)
        return len(rows)

    def _send(self) -> None:
        while self._outbox:
            self._store(*self._outbox[0])
            self._tell(*self._outbox[0])
            del self._outbox[0]

    def _tell(self, name: str, doc: Mapping[str, Any]) -> None:
        # Images that travel inside documents are for the server alone: no topic has room for them.
        if self._echo is not None and IMAGE_KEY not in doc.get("data", ()):
            self._echo(name, doc)

    def _tell_again(self, stream: str, columns: Mapping[str, list[Any]]) -> None:
        """Tell of rows that an earlier writer stored, and may not have told of."""
        if self._echo is None or not columns["frame"]:
            return
        self._tell("descriptor", self.documents.descriptor(stream))
        now = time.time()
        for page in self.documents.pages(stream, columns, 1, now, _ROWS_TOLD):
            self._tell("event_page", page)

    def _columns(self, stream: str, rows: list[_Row]) -> dict[str, list[Any]]:
        if stream == "frames":
            return _transposed([self._frame_row(row) for row in rows])
        tables = [_numbered(stream, row) for row in rows if row.outcome.result is not None]
        if not tables:
            return {column.name: [] for column in stored_columns(stream)}
        return {key: [v for table in tables for v in table[key]] for key in tables[0]}

    def _frame_row(self, row: _Row) -> dict[str, Any]:
        frame, result = row.frame, row.outcome.result
        raw_time = frame.time
        if math.isnan(raw_time):
            # A fly scan has no events: the arrival of its document is the best there is.
            raw_time = self._times.get(frame.seq_num, frame.arrived)
        asked = frame.incidence_angle_deg
        angle = math.nan if asked is None else asked
        found = result is not None and len(result.matches) > 0
        return {
            "frame": frame.number,
            "raw_seq_num": frame.seq_num,
            "raw_time": raw_time,
            "incidence_angle_deg": angle if result is None else result.incidence_angle_deg,
            "n_peaks": 0 if result is None else len(result.peaks),
            "best_phase": result.matches.phase[0] if result is not None and found else "",
            "best_probability": (
                float(result.matches.probability[0]) if result is not None and found else math.nan
            ),
            "total_intensity": math.nan if result is None else result.total_intensity,
            "latency": row.latency,
            "status": row.outcome.status,
            "reason": row.outcome.reason or frame.note,
            "source": "",
            "gain": math.nan,
            "readout_noise": math.nan,
        }

    def _finish(self, closed: RunClosed) -> None:
        summary = self._summary.as_dict()
        if self._arrays.error:
            summary["arrays_error"] = self._arrays.error
        stop = stop_document(self.documents, closed, self._counts, summary)
        self._arrays.finish(stop)
        if self._echo is not None:
            # First: a run that has its stop is never opened again, so nobody would tell of it.
            if not self._stop_told:
                self._tell("stop", stop)
                self._stop_told = True
            if self._echo.pending:
                return
        self._store("stop", stop)
        self._store.close()
        self._arrays.supersede()
        self.complete = True
        _log.info("run_stored", uid=self.documents.uid, raw_uid=self.raw.uid, **_told(summary))

    def _give_up(self, reason: str) -> None:
        _log.error("run_given_up", uid=self.documents.uid, raw_uid=self.raw.uid, reason=reason)
        self.given_up = self.last_error = reason
        self.close()

    def _wait_for_writer(
        self, renew: Callable[[], RunStore], error: ClaimLostError, now: float
    ) -> None:
        if str(error) != self.last_error:
            _log.info("run_awaited", uid=self.documents.uid, reason=str(error))
        self.last_error = str(error)
        self._store.close()
        self._store = renew()
        self._not_before = now + _WRITER_PAUSE_S

    def _postpone(self, error: Exception, now: float) -> None:
        self._failures += 1
        self.last_error = f"{type(error).__name__}: {error}"
        if self._failures > 1 and _is_for_good(error):
            self.broken = self.last_error
        pause = min(_LONGEST_PAUSE_S, 0.5 * 2 ** min(self._failures, 8))
        self._not_before = now + pause
        uids = {"uid": self.documents.uid, "raw_uid": self.raw.uid}
        log = _log.bind(**uids, error=self.last_error, retry_in_s=pause)
        # A StoreError says all there is to say; of anything else the place matters.
        log.warning("store_failed", exc_info=None if isinstance(error, StoreError) else error)


def _is_for_good(error: Exception) -> bool:
    """Say whether the run itself is refused, and not just now."""
    if not isinstance(error, StoreError):
        return not isinstance(error, OSError)
    response = getattr(error.__cause__, "response", None)
    return getattr(response, "status_code", 0) in _REFUSALS


def _numbered(stream: str, row: _Row) -> dict[str, list[Any]]:
    """Return the table of one frame by column, with its frame number."""
    result = row.outcome.result
    table = getattr(result, stream)
    n = len(table)
    columns: dict[str, list[Any]] = {"frame": [row.frame.number] * n}
    if stream == "peaks":
        columns["track"] = [-1] * n
    for name, values in table.items():
        columns[name] = values.tolist()
    return columns


def _transposed(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {key: [row[key] for row in rows] for key in rows[0]}


def _told(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {key: summary[key] for key in ("n_frames", "n_peaks", "n_dropped", "n_failed")}
