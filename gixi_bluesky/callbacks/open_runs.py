"""The derived runs of an analysis: opened, fed, released or ended, each with its outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

from gixi_bluesky.callbacks.derived.attempts import first_attempt
from gixi_bluesky.callbacks.derived.folds import FoldBuilder
from gixi_bluesky.callbacks.derived.keeping import Ended, RunKeeper
from gixi_bluesky.callbacks.derived.publishing import RunPublisher
from gixi_bluesky.callbacks.derived.run_folds import run_folds
from gixi_bluesky.callbacks.derived.stores import RunStore
from gixi_bluesky.callbacks.derived.writing import Echo
from gixi_bluesky.callbacks.outcome_counts import OutcomeCounts
from gixi_bluesky.callbacks.runs.actions import Frame, FrameTimed, RawRun, RunClosed
from gixi_bluesky.callbacks.settings import AnalysisConfig
from gixi_bluesky.callbacks.worker.jobs import Outcome, Ready
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.clock import SYSTEM_CLOCK, Clock

__all__ = ["OpenRuns"]

_JOIN_S = 0.1
_log = get_logger()


class OpenRuns:
    """Keeps a derived run for each raw run that was chosen, until its outcome is known.

    The worker calls `wanted`, `keeps_image`, `keeps_q_image`, `is_ready` and `deliver` from its
    thread, each derived run ends on a thread of its own, the rest is for the entrance's thread.

    counts: where outcomes are counted
    store, folds, redelivered, echo, attempt: see AnalysisCore
    """

    def __init__(
        self,
        config: AnalysisConfig,
        counts: OutcomeCounts,
        store: Callable[[], RunStore],
        *,
        folds: FoldBuilder | None = None,
        redelivered: bool = False,
        echo: Callable[[str], Echo | None] = lambda _: None,
        attempt: Callable[[RawRun, str], int] = first_attempt,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._config = config
        self._counts = counts
        self._new_store = store
        self._folds = folds or run_folds(config)
        self._redelivered = redelivered
        self._echo = echo
        self._attempt = attempt
        self._clock = clock
        self._runs: dict[str, RunPublisher] = {}
        self._keepers: dict[str, RunKeeper] = {}
        self._begun: set[str] = set()
        self._ended: SimpleQueue[Ended] = SimpleQueue()

    @property
    def all(self) -> list[RunPublisher]:
        """The derived runs whose end was not reported."""
        return list(self._runs.values())

    @property
    def failing(self) -> list[str]:
        """The uids of the raw runs whose store fails."""
        return [uid for uid, run in list(self._runs.items()) if run.last_error]

    @property
    def uids(self) -> list[str]:
        """The uids of the raw runs."""
        return list(self._runs)

    def open(self, raw: RawRun, ready: Ready) -> None:
        """Open the derived run of a raw run; one that cannot be opened ends as failed."""
        config = self._config
        self._begun.add(raw.uid)
        try:
            run = RunPublisher(
                raw,
                ready,
                self._new_store(),
                config.output,
                config.tiled,
                step=config.corrections.sum_frames,
                attempt=self._attempt(raw, ready.provenance.result_hash),
                folds=self._folds(raw, ready),
                renew=self._new_store if self._redelivered else None,
                echo=self._echo(raw.uid),
                clock=self._clock,
            )
        except Exception as error:  # the next run may go better
            _log.exception("run_not_opened", raw_uid=raw.uid)
            self._counts.last_error = f"{type(error).__name__}: {error}"
            self._ended.put(Ended(raw.uid, "failed", self._counts.last_error))
            return
        self._runs[raw.uid] = run
        flush_s = float(config.output.flush_s)
        keeper = RunKeeper(run, flush_s, self._end, redelivered=self._redelivered)
        self._keepers[raw.uid] = keeper
        keeper.start()
        _log.info("run_opened", uid=run.documents.uid, raw_uid=raw.uid)

    def expect(self, frame: Frame) -> None:
        """Announce a frame that is about to be queued."""
        if (run := self._run_of(frame)) is not None:
            run.expect(frame)

    def set_time(self, timed: FrameTimed) -> None:
        """Set the time of a frame whose event came after it."""
        if (run := self._runs.get(timed.run_uid)) is not None:
            run.set_time(timed.seq_num, timed.time)

    def close(self, closed: RunClosed) -> None:
        """Pass on the end of a raw run."""
        if (run := self._runs.get(closed.run_uid)) is not None:
            run.end(closed)

    def ended(self) -> Iterator[Ended]:
        """Yield the runs that ended since the last call, with their outcome."""
        while True:
            try:
                ended = self._ended.get_nowait()
            except Empty:
                return
            if ended.how != "spooled":
                self._begun.discard(ended.run_uid)
            yield ended

    def has(self, run_uid: str) -> bool:
        """Return whether a raw run has a derived run whose end `ended` did not yield yet."""
        return run_uid in self._begun

    def release(
        self,
        run_uids: Iterable[str],
        timeout: float,
        *,
        flush: bool,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Release runs unfinished and wait `timeout` seconds, see AnalysisCore."""
        keepers = []
        for uid in run_uids:
            self._begun.discard(uid)
            if (keeper := self._keepers.pop(uid, None)) is not None:
                keeper.release(flush=flush)
                keepers.append(keeper)
            self._runs.pop(uid, None)
        deadline = self._clock.monotonic() + timeout
        for keeper in keepers:
            while keeper.is_alive() and self._clock.monotonic() < deadline:
                keeper.join(_JOIN_S)
                meanwhile()

    def threads(self) -> dict[str, str]:
        """Return the threads of runs that ended without having been released."""
        keepers = list(self._keepers.items())
        return {f"gixi-run {uid}": "ended" for uid, one in keepers if not one.is_alive()}

    def status(self) -> dict[str, Any]:
        """Return how many runs are open or closing, and what keeps them from being stored."""
        runs = self.all
        return {
            "runs_open": sum(not run.stopped for run in runs if not run.over),
            "runs_closing": sum(run.stopped for run in runs if not run.over),
            "storage": "; ".join(sorted({run.trouble for run in runs if run.trouble})),
        }

    @property
    def last_error(self) -> str:
        """The error of a run, "" where none has one."""
        return next((run.last_error for run in self.all if run.last_error), "")

    def is_ready(self, run_uid: str) -> bool:
        """Return whether frames of a raw run can be stored now."""
        run = self._runs.get(run_uid)
        return run is None or run.ready

    def wanted(self, frame: Frame) -> bool | None:
        """Return whether a frame is to be analysed; None = not known yet."""
        run = self._run_of(frame)
        wanted = run.wants(frame) if run is not None else False
        if wanted is False:
            self._counts.count("skipped")
            if run is not None:
                run.skip(frame)  # after it was counted: `drain` may return now
        return wanted

    def keeps_image(self, frame: Frame) -> bool:
        """Return whether the polar image of a frame is stored."""
        return (run := self._run_of(frame)) is not None and run.keeps_image(frame)

    def keeps_q_image(self, frame: Frame) -> bool:
        """Return whether the image of a frame on (q_z, q_xy) is stored."""
        return (run := self._run_of(frame)) is not None and run.keeps_q_image(frame)

    def deliver(self, frame: Frame, outcome: Outcome) -> None:
        """Take the outcome of a frame."""
        self._counts.analysed(frame, outcome)
        if (run := self._run_of(frame)) is not None:
            run.add(frame, outcome)

    def _end(self, run: RunPublisher, ended: Ended) -> None:
        """Record the outcome of a run, on the thread of its keeper."""
        if ended.how == "spooled":
            self._ended.put(ended)
            return
        if self._runs.get(ended.run_uid) is not run:
            return  # released meanwhile
        self._ended.put(ended)
        self._counts.count("runs_closed")
        self._keepers.pop(ended.run_uid, None)
        del self._runs[ended.run_uid]  # last: `drain` looks for it

    def _run_of(self, frame: Frame) -> RunPublisher | None:
        """Return the run of a frame, None when it was forgotten and possibly restarted since."""
        run = self._runs.get(frame.run_uid)
        return run if run is not None and frame.received >= run.since else None
