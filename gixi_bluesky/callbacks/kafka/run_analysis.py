"""The analysis of documents that a consumer reads: nothing is dropped, and the consumer pauses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

from gixi_bluesky.callbacks.core import AnalysisCore
from gixi_bluesky.callbacks.derived.keeping import Ended
from gixi_bluesky.callbacks.derived.stores import RunStore
from gixi_bluesky.callbacks.derived.writing import Echo
from gixi_bluesky.callbacks.documents.document_types import Document, RunStop
from gixi_bluesky.callbacks.documents.parsing import parse
from gixi_bluesky.callbacks.runs.joining import FoundRun
from gixi_bluesky.callbacks.settings import AnalysisConfig
from gixi_bluesky.callbacks.worker.pool import PIPELINE
from gixi_bluesky.processes.clock import SYSTEM_CLOCK, Clock

__all__ = ["ConsumedRuns"]

_CLOSING_RUNS = (
    12  # each has a heartbeat and writes: a backlog of short runs would overload a slow server
)


class ConsumedRuns:
    """Feeds the core on the thread of a consumer, which pauses while `full`.

    echo: returns a publisher of the derived documents of a raw run, None = none
    trusts_spool: a run that is wholly spooled is as safe as one that is stored
    Other arguments and errors as of AnalysisCore.
    """

    def __init__(
        self,
        config: AnalysisConfig,
        store: Callable[[], RunStore],
        *,
        factory: str = PIPELINE,
        raw: Callable[[], Any] | None = None,
        echo: Callable[[str], Echo | None] = lambda _: None,
        trusts_spool: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._clock = clock
        self._trusts_spool = trusts_spool
        self._core = AnalysisCore(
            config, store, factory=factory, raw=raw, echo=echo, redelivered=True, clock=clock
        )

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take one document. Raises DocumentError."""
        self.route(parse(name, doc))

    def route(self, documents: Iterable[Document], nbytes: int = 0) -> None:
        """Take parsed documents. Raises DocumentError when one cannot be used."""
        self._core.route(documents, nbytes)

    def join(self, found: FoundRun) -> None:
        """Take the fetched beginning of a run. Raises DocumentError."""
        self._core.join(found)

    def tick(self) -> None:
        """Release frames that waited long enough for their event."""
        self._core.tick()

    def joined(self) -> Iterator[FoundRun]:
        """Search for runs that began before this process, and yield those found, for `join`."""
        yield from self._core.fetched()

    def awaited(self) -> frozenset[str]:
        """Return the uids that parked documents refer to and that may still arrive."""
        return self._core.awaited()

    def forget_waiting(self, uids: Iterable[str]) -> None:
        """Forget documents that wait for these uids: the partition's next owner reads them."""
        self._core.forget_waiting(uids)

    def follows(self, run_uid: str) -> bool:
        """Return whether a raw run goes on here, or has a derived run whose end is not reported."""
        return run_uid in self._core.open_runs or self.has(run_uid)

    def has(self, run_uid: str) -> bool:
        """Return whether a raw run has a derived run whose end `ended` did not yield yet."""
        return self._core.has(run_uid)

    @property
    def full(self) -> bool:
        """True if the consumer should pause: too many frames, or stopped runs, wait."""
        return self._core.queue.full or self._closing_runs() > _CLOSING_RUNS

    @property
    def roomy(self) -> bool:
        """True if a paused consumer may resume."""
        return self._core.queue.roomy and self._closing_runs() <= _CLOSING_RUNS / 2

    @property
    def busy(self) -> int:
        """Frames that are being analysed."""
        return self._core.busy

    def ended(self) -> Iterator[Ended]:
        """Yield the runs that ended since the last call; spooled ones only where that is safe."""
        for ended in self._core.ended():
            if ended.how != "spooled" or self._trusts_spool:
                yield ended

    def abandon(self, run_uid: str, silent_s: float) -> None:
        """End a run that will never get its stop, if it was analysed."""
        if run_uid not in self._core.open_runs:
            return
        reason = f"abandoned: nothing came for {silent_s:.0f} s and there was no stop"
        stop = RunStop(run_uid, self._clock.wall(), "abort", reason, {}, abandoned=True)
        self.route((stop,))

    def release(
        self,
        run_uids: Iterable[str],
        timeout: float,
        *,
        flush: bool = True,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Release runs unfinished, so that another owner can continue; as of AnalysisCore."""
        self._core.release(run_uids, timeout, flush=flush, meanwhile=meanwhile)

    def leave_alone(self, run_uid: str) -> None:
        """Give a run up finally; further documents of it are ignored."""
        self.release([run_uid], 0.0, flush=False)
        self._core.ignore(run_uid)

    def drop_waiting(self) -> None:
        """Forget frames whose analysis has not begun; the next consumer reads them again."""
        self._core.queue.discard()

    def status(self) -> dict[str, Any]:
        """Return the status of the core."""
        return self._core.status()

    def close(self) -> None:
        """Stop at once; what is not stored can be resumed by sending the same documents again."""
        self._core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _closing_runs(self) -> int:
        """Return how many runs have stopped and are not safe."""
        return sum(
            run.stopped and not (self._trusts_spool and run.spooled) for run in self._core.runs
        )
