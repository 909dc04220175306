"""The publication of one derived run: opened, flushed repeatedly, closed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from gixi_bluesky.callbacks.derived.arrays import RunArrays
from gixi_bluesky.callbacks.derived.arrivals import Answered, OrderedArrivals
from gixi_bluesky.callbacks.derived.folds import Folds, FrameFold
from gixi_bluesky.callbacks.derived.start_document import start_document
from gixi_bluesky.callbacks.derived.stores import RunStore
from gixi_bluesky.callbacks.derived.summary import RunSummary
from gixi_bluesky.callbacks.derived.writing import Echo, RunWriter
from gixi_bluesky.callbacks.documents.document_types import RunStop
from gixi_bluesky.callbacks.runs.raw_run import Frame, RawRun, RunClosed
from gixi_bluesky.callbacks.worker.jobs import Outcome, Ready
from gixi_bluesky.errors import ClaimLostError, RunCompleteError, StoreError
from gixi_bluesky.log import SeldomLog, get_logger
from gixi_bluesky.metrics import FRAME_LATENCY
from gixi_bluesky.processes.clock import SYSTEM_CLOCK, Clock
from gixi_bluesky.processes.retries import Backoff
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings
from gixi_bluesky.tiled_adapters.store.composer import RunComposer
from gixi_bluesky.tiled_adapters.store.spooled_store import SpooledStore

__all__ = ["RunPublisher"]

_FRAMES_PER_FLUSH = 200
_WRITER_PAUSE_S = 1.0
_TIMES_KEPT = 10_000
_REFUSED_TIMES = 4  # with the pauses between them, some seconds
_REFUSALS = frozenset({400, 413, 422})  # of the content, not of the key or the moment
_log = get_logger()


class RunPublisher:
    """Takes the outcomes of one raw run (from any thread) and stores them (from one thread).

    A flush that fails is repeated from the document it failed at. `step` never raises.

    step: distance of consecutive frame numbers, more than 1 where frames are sums
    attempt: which analysis of this raw run by these settings it is, from 1
    folds: the folds of this run, in the order in which they depend on each other
    renew: builds another store while another writer has the run; None = the run is given up then
    """

    def __init__(
        self,
        raw: RawRun,
        ready: Ready,
        store: RunStore,
        output: OutputSettings,
        tiled: TiledSettings,
        *,
        step: int = 1,
        attempt: int = 1,
        folds: Sequence[FrameFold] = (),
        renew: Callable[[], RunStore] | None = None,
        echo: Echo | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.since = clock.monotonic()
        self.documents = RunComposer(start_document(raw, ready, output, tiled, step, attempt))
        self.raw = raw
        self.complete = False
        self.given_up = ""
        self.broken = ""
        self.last_error = ""
        self._clock = clock
        self._live_s = output.live_s
        self._live_at = 0.0
        self._store = store
        self._renew = renew
        self._folds = Folds(folds)
        self._arrays = RunArrays(
            self.documents,
            output,
            tables=self._folds.tables,
            required=not store.keeps_rows,
            step=step,
            clock=clock,
        )
        self._new_writer = partial(
            RunWriter,
            composer=self.documents,
            arrays=self._arrays,
            folds=self._folds,
            clock=clock,
            echo=echo,
        )
        self._phases = {phase["slug"]: phase["name"] for phase in ready.phases}
        self._writer: RunWriter | None = None
        self._committed: frozenset[int] = frozenset()
        self._order = OrderedArrivals(clock, step)
        self._times: dict[int, float] = {}
        self._closed: RunClosed | None = None
        self._retry = Backoff(clock)
        self._seldom = SeldomLog()

    @property
    def over(self) -> bool:
        """True if nothing more will be stored: the run is complete or was given up."""
        return self.complete or bool(self.given_up)

    @property
    def settled(self) -> bool:
        """True if the run is complete and none of its frames is being analysed."""
        return self.complete and self._all_answered

    @property
    def stopped(self) -> bool:
        """True if the raw run has ended."""
        return self._closed is not None

    @property
    def ready(self) -> bool:
        """True if frames can be taken: the run is open and has room, or is over."""
        return self.over or (self._writer is not None and not self._order.full)

    @property
    def trouble(self) -> str:
        """Faults of the disk, and what is done instead; "" = none."""
        return "; ".join(text for text in (self._store.trouble, self._arrays.error) if text)

    @property
    def spooled(self) -> bool:
        """True if the whole run, with its stop, is in Tiled or on a disk."""
        return self.complete or (isinstance(self._store, SpooledStore) and self._store.stop_spooled)

    def expect(self, frame: Frame) -> None:
        """Record that a frame was received; later ones wait for it."""
        self._order.expect(frame.number)

    def wants(self, frame: Frame) -> bool | None:
        """Return whether a frame must be analysed; None while not known, or without room."""
        if self.over:
            return False
        if self._writer is None or self._order.full:
            return None
        return frame.number not in self._committed

    def skip(self, frame: Frame) -> None:
        """Record that a frame was skipped."""
        self._order.skip(frame.number)

    def keeps_image(self, frame: Frame) -> bool:
        """Return whether the worker must return the polar image of a frame."""
        return self._folds.needs_images or self._arrays.keeps_image(frame.number)

    def keeps_q_image(self, frame: Frame) -> bool:
        """Return whether the worker must return the image on (q_xy, q_z) of a frame."""
        return self._arrays.keeps_q_image(frame.number)

    def add(self, frame: Frame, outcome: Outcome) -> None:
        """Take the outcome of a frame."""
        answered = Answered(frame, outcome, self._clock.monotonic())
        FRAME_LATENCY.observe(answered.latency)
        if self.over:
            self._order.skip(frame.number)
        else:
            self._order.add(answered)

    def set_time(self, seq_num: int, event_time: float) -> None:
        """Take the time of an event that came after its frames."""
        self._times[seq_num] = event_time
        if len(self._times) > _TIMES_KEPT:
            del self._times[next(iter(self._times))]

    def end(self, closed: RunClosed) -> None:
        """Take the end of the raw run; the derived run ends when all frames are answered."""
        self._closed = closed

    def step(self) -> None:
        """Open the run, flush gathered frames, close it when it is complete."""
        if self.over or not self._retry.due:
            return
        try:
            self._advance()
            self._retry.succeeded()
            self.last_error = ""
        except RunCompleteError:
            _log.info("run_complete_already", uid=self.documents.uid, raw_uid=self.raw.uid)
            self._complete()
        except ClaimLostError as error:
            if self._renew is None or self._writer is not None:
                self._give_up(str(error))
            else:
                self._wait_for_writer(self._renew, error)
        except Exception as error:  # any error of a store is followed by a retry
            self._postpone(error)

    def close(self) -> None:
        """Close the run unfinished; it can be resumed."""
        self._folds.close()
        self._arrays.close()
        self._store.close()

    @property
    def unstorable(self) -> bool:
        """True if the store refuses the run itself, also after retries."""
        return bool(self.broken) and not self.over and self._retry.failures >= _REFUSED_TIMES

    def end_unstorable(self) -> None:
        """Give up a run that cannot be stored; its stop document, if stored, has the reason."""
        reason = f"the run cannot be stored: {self.broken}"
        if self._writer is not None:
            now = self._clock.wall()
            closed = self._closed or RunClosed(
                self.raw.uid, RunStop(self.raw.uid, now, "fail", reason, {}), 0, 0, ()
            )
            stop = replace(closed.stop, exit_status="fail", reason=reason)
            try:
                self._writer.store_stop(replace(closed, stop=stop))
            except Exception as error:  # it may be the stop that the store refuses
                _log.warning("stop_not_stored", raw_uid=self.raw.uid, error=repr(error))
        self._give_up(reason)

    @property
    def _all_answered(self) -> bool:
        return self._closed is not None and self._order.answered >= self._closed.n_frames

    def _advance(self) -> None:
        writer = self._opened()
        writer.send()
        # Only frames present now: at 100 frames a second there is always one more.
        gathered = len(self._order)
        while gathered > 0:
            frames = self._order.take(min(gathered, _FRAMES_PER_FLUSH), ended=self.stopped)
            if not frames:
                break
            writer.write(frames, self._times)
            gathered -= len(frames)
        if self._closed is not None and self._all_answered:
            if not len(self._order) and writer.finish(self._closed):
                uids = {"uid": self.documents.uid, "raw_uid": self.raw.uid}
                _log.info("run_stored", **uids, **writer.totals())
                self._complete()
        elif self._clock.monotonic() >= self._live_at and writer.n_frames:
            writer.refresh_live()
            self._live_at = self._clock.monotonic() + self._live_s

    def _opened(self) -> RunWriter:
        if self._writer is None:
            # A new summary, too: an attempt that failed may have counted some stored rows.
            writer = self._new_writer(store=self._store, summary=RunSummary(self._phases))
            self._committed = writer.open()
            self._order.resume(self._committed)
            self._writer = writer  # last: other threads read it
        return self._writer

    def _complete(self) -> None:
        self.complete = True
        self._folds.close()
        self._order.forget()

    def _give_up(self, reason: str) -> None:
        _log.error("run_given_up", uid=self.documents.uid, raw_uid=self.raw.uid, reason=reason)
        self.given_up = self.last_error = reason
        self._order.forget()
        self.close()

    def _wait_for_writer(self, renew: Callable[[], RunStore], error: ClaimLostError) -> None:
        if str(error) != self.last_error:
            _log.info("run_awaited", uid=self.documents.uid, reason=str(error))
        self.last_error = str(error)
        self._store.close()
        self._store = renew()
        self._retry.wait(_WRITER_PAUSE_S)

    def _postpone(self, error: Exception) -> None:
        pause = self._retry.failed()
        self.last_error = f"{type(error).__name__}: {error}"
        if self._retry.failures > 1 and _is_for_good(error):
            self.broken = self.last_error
        uids = {"uid": self.documents.uid, "raw_uid": self.raw.uid}
        log = _log.bind(**uids, error=self.last_error, retry_in_s=pause)
        if (similar := self._seldom.due(self.last_error)) is not None:
            log.warning("store_failed", similar_before=similar)
            if not isinstance(error, StoreError):  # of anything else the place matters
                log.debug("store_failed", exc_info=error)


def _is_for_good(error: Exception) -> bool:
    """Return whether the store refuses the run itself, so that repeating it does not help."""
    if not isinstance(error, StoreError):
        return not isinstance(error, OSError)
    response = getattr(error.__cause__, "response", None)
    return getattr(response, "status_code", 0) in _REFUSALS
