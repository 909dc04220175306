"""The analysis beside a scan: documents in, derived runs out, and the scan never waits."""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import Any, Self

from gixi_bluesky.callbacks.derived.folds import FoldBuilder, no_folds
from gixi_bluesky.callbacks.derived.publishing import RunPublisher
from gixi_bluesky.callbacks.derived.stores import RunStore, store_builder
from gixi_bluesky.callbacks.runs.dark_runs import with_fetched_dark
from gixi_bluesky.callbacks.runs.joining import Joining, raw_opener
from gixi_bluesky.callbacks.runs.raw_run import (
    Action,
    Frame,
    FrameTimed,
    RawRun,
    RunClosed,
    RunOpened,
)
from gixi_bluesky.callbacks.runs.router import Router
from gixi_bluesky.callbacks.settings import InputSettings
from gixi_bluesky.callbacks.worker.frame_queue import FrameQueue
from gixi_bluesky.callbacks.worker.jobs import Outcome
from gixi_bluesky.callbacks.worker.parent import PIPELINE
from gixi_bluesky.callbacks.worker.supervisor import Worker
from gixi_bluesky.errors import ConfigError, DocumentError, StoreError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processing.geometry.conditions import sources

__all__ = ["Analysis"]

_POLL_S = 0.05
_DRAIN_POLL_S = 0.02
_MISSED_S = 2.0
_log = get_logger()

_Identity = tuple[str, str, str | None]


class Analysis:
    """Takes Bluesky documents and stores one derived run for each raw run that is chosen.

    Three threads: documents (parse and route), worker (frames through the analysis process) and
    store (Tiled and HDF5). The caller's thread only puts documents into a queue; the arrays in
    them must not be changed afterwards, as Bluesky's documents never are.

    config: the package's Config, or anything with the same parts
    tiled: a Tiled client of the catalogue for derived runs; None = as `config.tiled` says
    store: builds the store of one derived run, instead of Tiled
    factory: "module:name" of what builds the pipeline in the analysis process
    raw: opens the catalogue of raw runs, for runs joined midway; None = as `config.tiled` says
    folds: builds what looks back over the frames of a run

    Raises what a wrong set-up raises, and ConfigError for a second analysis with the same result
    hash, stream and data key.
    """

    def __init__(
        self,
        config: Any,
        tiled: Any = None,
        *,
        store: Callable[[], RunStore] | None = None,
        factory: str = PIPELINE,
        raw: Callable[[], Any] | None = None,
        folds: FoldBuilder = no_folds,
    ) -> None:
        config = with_fetched_dark(config)
        # Frames that are sums are numbered by their first images, and so are stored ones.
        output = config.output.for_sums_of(config.corrections.sum_frames)
        self._config = config.model_copy(update={"output": output})
        self._folds = folds
        self._new_store = store or store_builder(config, tiled)
        corrections = config.corrections
        self._router = Router(config.input, sources(config.geometry, corrections), corrections)
        raw = raw or raw_opener(config.tiled)
        self._joining = None if raw is None else Joining(raw)
        self._inbox: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._runs: dict[str, RunPublisher] = {}
        self._queue = self._new_queue()
        self._worker = Worker(
            config,
            self._queue,
            self._deliver,
            wanted=self._wanted,
            keeps_image=self._keeps_image,
            ready=self._is_ready,
            factory=factory,
        )
        self._counts: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._maps_s = 0.0
        self._documents_put = self._documents_taken = 0
        self._last_error = ""
        self._closing = threading.Event()
        self._on_close: list[Callable[[], object]] = []
        self._ready = self._worker.start()
        self._identity = _identify(self._ready.provenance.result_hash, config.input)
        try:
            _claim(self._identity)
        except ConfigError:
            self._worker.close()
            raise
        self._threads = self._new_threads()
        for thread in self._threads:
            thread.start()
        _open_analyses.add(self)

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take one document; returns at once and never raises."""
        if not self._closing.is_set():
            self._documents_put += 1
            self._inbox.put((name, doc))

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until every run that has stopped is stored and its frames are counted: True.

        Raises TimeoutError saying what is outstanding, StoreError when a run was given up.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while outstanding := self._outstanding():
            self._tell_given_up()
            if deadline is not None and time.monotonic() > deadline:
                message = f"after {timeout:g} s still outstanding: {outstanding}"
                raise TimeoutError(message)
            if self._closing.is_set():
                message = f"the analysis was closed with this outstanding: {outstanding}"
                raise TimeoutError(message)
            time.sleep(_DRAIN_POLL_S)
        return True

    def status(self) -> dict[str, Any]:
        """Return how it goes: frames, queue, analysis process, runs and the last error."""
        runs = list(self._runs.values())
        with self._counting:
            counts = dict(self._counts)
        return {
            "frames_received": counts.get("received", 0),
            "frames_done": counts.get("ok", 0),
            "frames_dropped": counts.get("dropped", 0),
            "frames_failed": counts.get("failed", 0) + counts.get("unavailable", 0),
            "frames_skipped": counts.get("skipped", 0),
            "frames_queued": len(self._queue) + self._worker.busy,
            "queue_bytes": self._queue.nbytes,
            "documents_queued": self._documents_put - self._documents_taken,
            "documents_refused": counts.get("refused", 0) + self._router.documents_lost,
            "maps_built": counts.get("maps_built", 0),
            "maps_seconds": round(self._maps_s, 3),
            "worker_alive": self._worker.alive,
            "worker_pid": self._worker.pid,
            "worker_restarts": self._worker.restarts,
            "gpu_bytes": self._worker.gpu_bytes,
            "runs_open": sum(not run.stopped for run in runs if not run.over),
            "runs_closing": sum(run.stopped for run in runs if not run.over),
            "runs_closed": counts.get("runs_closed", 0),
            "last_error": self._last_error
            or self._worker.last_error
            or next((run.last_error for run in runs if run.last_error), ""),
        }

    def close(self) -> None:
        """Stop at once; what is not stored can be resumed by the same documents again."""
        if self._closing.is_set():
            return
        for undo in self._on_close:
            with contextlib.suppress(Exception):  # the engine may be gone already
                undo()
        outstanding = self._outstanding()
        if outstanding:
            _log.warning("closed_with_frames_outstanding", outstanding=outstanding)
        self._closing.set()
        if self._joining is not None:
            self._joining.close()
        self._worker.close()
        for thread in self._threads:
            thread.join(timeout=10.0)
        for run in list(self._runs.values()):
            with contextlib.suppress(Exception):  # Tiled may be gone already
                run.close()
        self._queue.close()
        _release(self._identity)
        _open_analyses.discard(self)

    def on_close(self, undo: Callable[[], object]) -> None:
        """Have `undo` called when this analysis closes."""
        self._on_close.append(undo)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tell_given_up(self) -> None:
        """Raise StoreError for a run that will never be stored; each is told once."""
        for uid, run in list(self._runs.items()):
            if run.given_up and run.stopped:
                del self._runs[uid]
                raise StoreError(run.given_up)

    def _outstanding(self) -> str:
        """Say what is not stored of the runs that have stopped; empty = nothing."""
        documents = self._documents_put - self._documents_taken
        if documents:
            return f"{documents} documents"
        runs = [run for run in list(self._runs.values()) if run.stopped and not run.settled]
        if not runs:
            return ""
        frames = len(self._queue) + self._worker.busy
        errors = {run.last_error for run in runs if run.last_error} | {self._worker.last_error}
        why = "; ".join(sorted(error for error in errors if error))
        return f"{len(runs)} runs with {frames} frames queued{f' ({why})' if why else ''}"

    def _follow(self) -> None:
        """Documents thread: turn documents into frames; must never wait for anything else."""
        while not self._closing.is_set():
            try:
                name, doc = self._inbox.get(timeout=_POLL_S)
            except Empty:
                self._take(self._router.tick())
                self._join()
                continue
            try:
                self._take(self._router.feed(name, doc))
                self._take(self._router.tick())
                self._join()
            finally:
                self._documents_taken += 1

    def _join(self) -> None:
        """Ask for documents that came before us, and take those that were found."""
        if self._joining is not None:
            self._joining.want(self._router.missed(_MISSED_S))
            for found in self._joining.found():
                self._take(self._router.join(found))

    def _take(self, actions: Any) -> None:
        try:
            for action in actions:
                self._act(action)
        except DocumentError as error:
            self._count("refused")
            self._last_error = str(error)
            _log.warning("document_refused", reason=str(error))
        except Exception as error:  # one strange document must not end the analysis
            self._count("refused")
            self._last_error = repr(error)
            _log.exception("document_failed")

    def _act(self, action: Action) -> None:
        match action:
            case RunOpened():
                run = self._new_run(action.raw)
                self._runs[action.raw.uid] = run
                _log.info("run_opened", uid=run.documents.uid, raw_uid=action.raw.uid)
            case Frame():
                self._count("received")
                if (following := self._run_of(action)) is not None:
                    following.expect(action)
                self._queue.put(action)
            case FrameTimed():
                if (timed := self._runs.get(action.run_uid)) is not None:
                    timed.set_time(action.seq_num, action.time)
            case RunClosed():
                if (ended := self._runs.get(action.run_uid)) is not None:
                    ended.end(action)

    def _new_queue(self) -> FrameQueue:
        return FrameQueue(self._config.queue, self._drop)

    def _new_threads(self) -> list[threading.Thread]:
        return [
            threading.Thread(target=self._follow, name="gixi-documents", daemon=True),
            threading.Thread(target=self._publish, name="gixi-store", daemon=True),
        ]

    def _new_run(self, raw: RawRun) -> RunPublisher:
        return self._publisher(raw)

    def _publisher(self, raw: RawRun, **options: Any) -> RunPublisher:
        config = self._config
        return RunPublisher(
            raw,
            self._ready,
            self._new_store(),
            config.output,
            config.tiled,
            step=config.corrections.sum_frames,
            folds=self._folds(raw, self._ready),
            **options,
        )

    def _run_of(self, frame: Frame) -> RunPublisher | None:
        """Return the run of a frame, None when it was forgotten and perhaps begun anew since."""
        run = self._runs.get(frame.run_uid)
        return run if run is not None and frame.received >= run.since else None

    def _is_ready(self, run_uid: str) -> bool:
        run = self._runs.get(run_uid)
        return run is None or run.ready

    def _wanted(self, frame: Frame) -> bool | None:
        run = self._run_of(frame)
        wanted = run.wants(frame) if run is not None else False
        if wanted is False:
            self._count("skipped")
            if run is not None:
                run.skip(frame)  # after it was counted: `drain` may return now
        return wanted

    def _keeps_image(self, frame: Frame) -> bool:
        run = self._run_of(frame)
        return run is not None and run.keeps_image(frame)

    def _deliver(self, frame: Frame, outcome: Outcome) -> None:
        self._count(outcome.status)
        if outcome.result is not None and (built_s := outcome.result.seconds.get("maps")):
            self._count("maps_built")
            self._maps_s += built_s
        if outcome.status != "ok":
            _log.warning(
                "frame_not_analysed",
                raw_uid=frame.run_uid,
                frame=frame.number,
                status=outcome.status,
                reason=outcome.reason,
            )
        for warning in outcome.result.warnings if outcome.result is not None else ():
            _log.warning("frame_warning", raw_uid=frame.run_uid, frame=frame.number, reason=warning)
        if (run := self._run_of(frame)) is not None:
            run.add(frame, outcome)

    def _drop(self, frame: Frame, reason: str) -> None:
        self._deliver(frame, Outcome("dropped", reason))

    def _publish(self) -> None:
        """Store thread: `output.flush_s` after the last flush is done, flush again."""
        while not self._closing.is_set():
            for uid, run in list(self._runs.items()):
                run.step()
                if run.settled:
                    del self._runs[uid]
                    self._count("runs_closed")
            self._closing.wait(self._config.output.flush_s)

    def _count(self, what: str) -> None:
        with self._counting:
            self._counts[what] += 1


_identities: set[_Identity] = set()
_identities_lock = threading.Lock()
_open_analyses: weakref.WeakSet[Analysis] = weakref.WeakSet()


def _identify(result_hash: str, settings: InputSettings) -> _Identity:
    return (result_hash, settings.stream, settings.data_key)


def _claim(identity: _Identity) -> None:
    with _identities_lock:
        if identity in _identities:
            message = (
                "an analysis with the same settings is subscribed in this process already; "
                "both would write the same derived runs. Close the other handle first"
            )
            raise ConfigError(message)
        _identities.add(identity)


def _release(identity: _Identity) -> None:
    with _identities_lock:
        _identities.discard(identity)


@atexit.register
def _close_all() -> None:
    for analysis in list(_open_analyses):
        analysis.close()
