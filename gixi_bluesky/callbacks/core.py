"""The core of every entrance: documents in, derived runs and the outcome of each run out."""

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
from gixi_bluesky.callbacks.derived.subscriptions import Subscription
from gixi_bluesky.callbacks.derived.writing import Echo
from gixi_bluesky.callbacks.documents.document_types import Document
from gixi_bluesky.callbacks.documents.value_sources import document_keys
from gixi_bluesky.callbacks.outcome_counts import OutcomeCounts
from gixi_bluesky.callbacks.runs.actions import (
    Action,
    Frame,
    FrameTimed,
    RawRun,
    RunClosed,
    RunOpened,
)
from gixi_bluesky.callbacks.runs.dark_runs import with_fetched_dark
from gixi_bluesky.callbacks.runs.joining import FoundRun, Joining, raw_opener
from gixi_bluesky.callbacks.runs.router import Router
from gixi_bluesky.callbacks.settings import AnalysisConfig
from gixi_bluesky.callbacks.worker.frame_queue import FrameQueue
from gixi_bluesky.callbacks.worker.jobs import Outcome
from gixi_bluesky.callbacks.worker.pool import PIPELINE
from gixi_bluesky.callbacks.worker.supervisor import Worker
from gixi_bluesky.errors import ConfigError, DocumentError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.clock import SYSTEM_CLOCK, Clock
from gixi_bluesky.processes.loops import Loop, Watchdog

__all__ = ["AnalysisCore"]

_MISSED_S = 2.0
_JOIN_S = 0.1
_FAILING_S = 1.0
_CLOSE_S = 4.0
_log = get_logger()


class AnalysisCore:
    """Turns documents into frames, passes them to the worker, and keeps a derived run a raw run.

    `route`, `join`, `tick` and `release` are for one thread, that of the entrance; the worker and
    each derived run have threads of their own.

    config: the package's Config, or anything with the same parts
    store: builds the store of one derived run
    factory: "module:name" of what builds the pipeline in the analysis process
    raw: opens the catalogue of raw runs, for runs joined midway; None = as `config.tiled` says
    folds: builds what looks back over the frames of a run; None = as the configuration says
    redelivered: the entrance can pause and can read the documents of a run again: no frame is
    dropped, a run that another writer has is awaited, and one that the store refuses fails
    echo: returns a publisher of the derived documents of a raw run, None = none
    attempt: chooses which analysis of a raw run by this result hash is made, from 1

    Raises what a wrong set-up raises, and ConfigError for a second analysis with the same result
    hash, stream and data key in this process.
    """

    def __init__(
        self,
        config: AnalysisConfig,
        store: Callable[[], RunStore],
        *,
        factory: str = PIPELINE,
        raw: Callable[[], Any] | None = None,
        folds: FoldBuilder | None = None,
        redelivered: bool = False,
        echo: Callable[[str], Echo | None] = lambda _: None,
        attempt: Callable[[RawRun, str], int] = first_attempt,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        config = with_fetched_dark(config)
        # Frames that are sums are numbered by their first images, and so are stored ones.
        output = config.output.for_sums_of(config.corrections.sum_frames)
        self._config = config.model_copy(update={"output": output})
        self._new_store = store
        self._folds = folds or run_folds(config)
        self._redelivered = redelivered
        self._echo = echo
        self._attempt = attempt
        self._clock = clock
        corrections = config.corrections
        self._router = Router(
            config.input, document_keys(config.geometry, corrections), corrections, clock
        )
        self._joining = Joining(raw, clock) if (raw := raw or raw_opener(config.tiled)) else None
        self._runs: dict[str, RunPublisher] = {}
        self._keepers: dict[str, RunKeeper] = {}
        self._begun: set[str] = set()
        self._ended: SimpleQueue[Ended] = SimpleQueue()
        self._counts = OutcomeCounts()
        self.queue = FrameQueue(config.queue, fed=redelivered)
        self._worker = Worker(
            config,
            self.queue,
            self._deliver,
            wanted=self._wanted,
            keeps_image=self._keeps_image,
            keeps_q_image=self._keeps_q_image,
            ready=self._is_ready,
            factory=factory,
        )
        self._ready = self._worker.start()
        try:
            self._subscription = Subscription(self._ready.provenance.result_hash, config.input)
        except ConfigError:
            self._worker.close()
            raise
        self._watchdog = Watchdog([self._worker.loop, self.queue.spilling])
        self._watchdog.start()

    def watch(self, loop: Loop) -> None:
        """Watch a thread of the entrance as well."""
        self._watchdog.add(loop)

    @property
    def result_hash(self) -> str:
        """Hash of what decides the results."""
        return self._ready.provenance.result_hash

    @property
    def flush_s(self) -> float:
        """Seconds between the flushes of a run."""
        return float(self._config.output.flush_s)

    @property
    def runs(self) -> list[RunPublisher]:
        """The derived runs whose end was not reported."""
        return list(self._runs.values())

    @property
    def open_runs(self) -> tuple[str, ...]:
        """The uids of the raw runs that were chosen and have not stopped."""
        return self._router.open_runs

    @property
    def busy(self) -> int:
        """Frames that are being analysed."""
        return self._worker.busy

    def route(self, documents: Iterable[Document], nbytes: int = 0) -> None:
        """Take parsed documents; `nbytes`: what each holds in memory.

        Raises DocumentError when one cannot be used.
        """
        self._act_on(self._router.route(documents, nbytes))

    def join(self, found: FoundRun) -> None:
        """Take the beginning of a run that was fetched. Raises DocumentError."""
        self._act_on(self._router.join(found))

    def tick(self) -> None:
        """Release frames that waited long enough for their event."""
        self._act_on(self._router.tick())

    def fetched(self) -> Iterator[FoundRun]:
        """Search for runs that began before this process, and yield those found, for `join`."""
        if self._joining is not None:
            self._joining.want(self._router.missed(_MISSED_S))
            yield from self._joining.found()

    def awaited(self) -> frozenset[str]:
        """Return the uids that parked documents refer to and that may still arrive."""
        if (joining := self._joining) is None:
            return frozenset()
        return frozenset(uid for uid in self._router.awaited if not joining.gave_up(uid))

    def forget_waiting(self, uids: Iterable[str]) -> None:
        """Forget the parked documents that refer to these uids."""
        self._router.forget_waiting(uids)

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
        """Release runs unfinished, so that another owner can continue; wait `timeout` seconds.

        flush: store analysed frames first
        meanwhile: called repeatedly while waiting
        """
        keepers = []
        for uid in run_uids:
            self._router.forget(uid)
            self.queue.discard(uid)
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

    def ignore(self, run_uid: str) -> None:
        """Ignore further documents of a raw run."""
        self._router.ignore(run_uid)

    def refused(self, error: DocumentError) -> None:
        """Record that a document could not be used."""
        self._counts.refused(error)

    def status(self) -> dict[str, Any]:
        """Return the state of frames, queue, analysis process and runs, and the last error."""
        runs = self.runs
        counts = self._counts.status()
        counts["documents_refused"] += self._router.documents_lost
        return counts | {
            "frames_queued": len(self.queue) + self._worker.busy,
            "queue_bytes": self.queue.nbytes,
            "documents_queued": 0,
            "worker_alive": self._worker.alive,
            "worker_pid": self._worker.pid,
            "worker_pids": self._worker.pool.pids,
            "workers": self._worker.pool.size,
            "worker_restarts": self._worker.restarts,
            "gpu_bytes": self._worker.pool.gpu_bytes,
            "threads": self._watchdog.status() | self._keepers_status(),
            "runs_open": sum(not run.stopped for run in runs if not run.over),
            "runs_closing": sum(run.stopped for run in runs if not run.over),
            "runs_left_alone": self._router.left_alone.count,
            "left_alone_reason": self._router.left_alone.last,
            "storage": "; ".join(sorted({run.trouble for run in runs if run.trouble})),
            "last_error": self._counts.last_error
            or self._worker.last_error
            or next((run.last_error for run in runs if run.last_error), ""),
        }

    def close(self) -> None:
        """Stop at once; what is not stored can be resumed by sending the same documents again."""
        self._watchdog.stop()
        if self._joining is not None:
            self._joining.close()
        self._worker.close()
        # Only a short wait for a run whose store fails: its thread may wait for a dead server.
        failing = [uid for uid, run in list(self._runs.items()) if run.last_error]
        self.release(failing, timeout=_FAILING_S, flush=False)
        self.release(list(self._runs), timeout=_CLOSE_S, flush=False)
        self.queue.close()
        self._subscription.close()

    def _keepers_status(self) -> dict[str, str]:
        """Return the keepers of runs that ended without having been released."""
        keepers = list(self._keepers.items())
        return {f"gixi-run {uid}": "ended" for uid, one in keepers if not one.is_alive()}

    def _act_on(self, actions: Iterable[Action]) -> None:
        try:
            for action in actions:
                self._act(action)
        except DocumentError:
            raise
        except Exception as error:  # one faulty document must not end the analysis
            _log.exception("document_failed")
            message = f"the document cannot be used: {type(error).__name__}: {error}"
            raise DocumentError(message) from error

    def _act(self, action: Action) -> None:
        match action:
            case RunOpened():
                self._open(action.raw)
            case Frame():
                self._counts.count("received")
                if (following := self._run_of(action)) is not None:
                    following.expect(action)
                self.queue.put(action)
            case FrameTimed():
                if (timed := self._runs.get(action.run_uid)) is not None:
                    timed.set_time(action.seq_num, action.time)
            case RunClosed():
                if (closing := self._runs.get(action.run_uid)) is not None:
                    closing.end(action)

    def _open(self, raw: RawRun) -> None:
        config = self._config
        self._begun.add(raw.uid)
        try:
            run = RunPublisher(
                raw,
                self._ready,
                self._new_store(),
                config.output,
                config.tiled,
                step=config.corrections.sum_frames,
                attempt=self._attempt(raw, self._ready.provenance.result_hash),
                folds=self._folds(raw, self._ready),
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
        keeper = RunKeeper(run, self.flush_s, self._end, redelivered=self._redelivered)
        self._keepers[raw.uid] = keeper
        keeper.start()
        _log.info("run_opened", uid=run.documents.uid, raw_uid=raw.uid)

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

    def _is_ready(self, run_uid: str) -> bool:
        run = self._runs.get(run_uid)
        return run is None or run.ready

    def _wanted(self, frame: Frame) -> bool | None:
        run = self._run_of(frame)
        wanted = run.wants(frame) if run is not None else False
        if wanted is False:
            self._counts.count("skipped")
            if run is not None:
                run.skip(frame)  # after it was counted: `drain` may return now
        return wanted

    def _keeps_image(self, frame: Frame) -> bool:
        return (run := self._run_of(frame)) is not None and run.keeps_image(frame)

    def _keeps_q_image(self, frame: Frame) -> bool:
        return (run := self._run_of(frame)) is not None and run.keeps_q_image(frame)

    def _deliver(self, frame: Frame, outcome: Outcome) -> None:
        self._counts.analysed(frame, outcome)
        if (run := self._run_of(frame)) is not None:
            run.add(frame, outcome)
