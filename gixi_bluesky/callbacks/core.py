"""The core of every entrance: documents in, derived runs and the outcome of each run out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gixi_bluesky.callbacks.derived.attempts import first_attempt
from gixi_bluesky.callbacks.derived.folds import FoldBuilder
from gixi_bluesky.callbacks.derived.keeping import Ended
from gixi_bluesky.callbacks.derived.publishing import RunPublisher
from gixi_bluesky.callbacks.derived.stores import RunStore
from gixi_bluesky.callbacks.derived.subscriptions import Subscription
from gixi_bluesky.callbacks.derived.writing import Echo
from gixi_bluesky.callbacks.documents.document_types import Document
from gixi_bluesky.callbacks.documents.value_sources import document_keys
from gixi_bluesky.callbacks.open_runs import OpenRuns
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
from gixi_bluesky.callbacks.worker.pool import PIPELINE
from gixi_bluesky.callbacks.worker.supervisor import Worker
from gixi_bluesky.errors import ConfigError, DocumentError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.clock import SYSTEM_CLOCK, Clock
from gixi_bluesky.processes.loops import Loop, Watchdog

__all__ = ["AnalysisCore"]

_MISSED_S = 2.0
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
        corrections = config.corrections
        self._router = Router(
            config.input, document_keys(config.geometry, corrections), corrections, clock
        )
        self._joining = Joining(raw, clock) if (raw := raw or raw_opener(config.tiled)) else None
        self._counts = OutcomeCounts()
        self._runs = OpenRuns(
            self._config,
            self._counts,
            store,
            folds=folds,
            redelivered=redelivered,
            echo=echo,
            attempt=attempt,
            clock=clock,
        )
        self.queue = FrameQueue(config.queue, fed=redelivered)
        self._worker = Worker(
            config,
            self.queue,
            self._runs.deliver,
            wanted=self._runs.wanted,
            keeps_image=self._runs.keeps_image,
            keeps_q_image=self._runs.keeps_q_image,
            ready=self._runs.is_ready,
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
        return self._runs.all

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
        """Return the runs that ended since the last call, with their outcome."""
        return self._runs.ended()

    def has(self, run_uid: str) -> bool:
        """Return whether a raw run has a derived run whose end `ended` did not yield yet."""
        return self._runs.has(run_uid)

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
        uids = tuple(run_uids)
        for uid in uids:
            self._router.forget(uid)
            self.queue.discard(uid)
        self._runs.release(uids, timeout, flush=flush, meanwhile=meanwhile)

    def ignore(self, run_uid: str) -> None:
        """Ignore further documents of a raw run."""
        self._router.ignore(run_uid)

    def refused(self, error: DocumentError) -> None:
        """Record that a document could not be used."""
        self._counts.refused(error)

    def status(self) -> dict[str, Any]:
        """Return the state of frames, queue, analysis process and runs, and the last error."""
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
            "threads": self._watchdog.status() | self._runs.threads(),
            **self._runs.status(),
            "runs_left_alone": self._router.left_alone.count,
            "left_alone_reason": self._router.left_alone.last,
            "last_error": self._counts.last_error
            or self._worker.last_error
            or self._runs.last_error,
        }

    def close(self) -> None:
        """Stop at once; what is not stored can be resumed by sending the same documents again."""
        self._watchdog.stop()
        if self._joining is not None:
            self._joining.close()
        self._worker.close()
        # Only a short wait for a run whose store fails: its thread may wait for a dead server.
        self.release(self._runs.failing, timeout=_FAILING_S, flush=False)
        self.release(self._runs.uids, timeout=_CLOSE_S, flush=False)
        self.queue.close()
        self._subscription.close()

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
                self._runs.open(action.raw, self._ready)
            case Frame():
                self._counts.count("received")
                self._runs.expect(action)
                self.queue.put(action)
            case FrameTimed():
                self._runs.set_time(action)
            case RunClosed():
                self._runs.close(action)
