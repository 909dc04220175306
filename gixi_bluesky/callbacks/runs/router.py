"""The router: documents of many runs in, numbered frames of selected runs out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from gixi_bluesky.callbacks.documents.budget import payload_bytes
from gixi_bluesky.callbacks.documents.condition_lookup import ConditionLookup
from gixi_bluesky.callbacks.documents.document_types import (
    Datum,
    Descriptor,
    Document,
    Event,
    Resource,
    RunStart,
    RunStop,
    StreamDatum,
    StreamResource,
)
from gixi_bluesky.callbacks.documents.parsing import parse
from gixi_bluesky.callbacks.documents.value_sources import DocumentKey
from gixi_bluesky.callbacks.runs.left_alone import RunsLeftAlone
from gixi_bluesky.callbacks.runs.parked import ParkedDocuments
from gixi_bluesky.callbacks.runs.raw_run import Action, RunTracker
from gixi_bluesky.callbacks.settings import InputSettings
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.clock import SYSTEM_CLOCK, Clock
from gixi_bluesky.processing.settings import CorrectionSettings
from gixi_bluesky.tiled_adapters.schema import PURPOSE

__all__ = ["Router"]

_IGNORED_REMEMBERED = 100_000
_OPEN_RUNS = 10_000
_log = get_logger()


class Router:
    """Passes each document to the tracker of its run, in any order of arrival.

    Runs that `settings.select` does not select, derived runs and runs that have stopped are
    ignored. Documents that refer to an unknown uid are parked until it comes.

    sources: which conditions of a frame are looked up in the documents
    corrections: whether images are summed, and where their dark is
    """

    def __init__(
        self,
        settings: InputSettings,
        sources: Mapping[str, DocumentKey] | None = None,
        corrections: CorrectionSettings | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._corrections = corrections
        self._lookup = ConditionLookup(sources or {})
        self._trackers: dict[str, RunTracker] = {}
        self._homes: dict[str, str] = {}  # uid of a run, descriptor or resource → run uid
        self._ignored: OrderedDict[str, str] = OrderedDict()  # the same of other runs
        self._parked = ParkedDocuments(clock)
        self._ticking: set[str] = set()  # runs with frames that wait for their event
        self._joined: set[str] = set()  # open runs whose beginning was fetched
        self.left_alone = RunsLeftAlone()

    @property
    def open_runs(self) -> tuple[str, ...]:
        """The uids of the chosen raw runs that have not stopped."""
        return tuple(self._trackers)

    @property
    def documents_lost(self) -> int:
        """Number of parked documents that were dropped to keep the bounds."""
        return self._parked.lost

    @property
    def awaited(self) -> frozenset[str]:
        """Unknown runs, descriptors and resources that documents wait for."""
        return frozenset(
            missing
            for missing, document in self._parked
            if any(uid not in self._homes for uid in self._needed(document))
        )

    def missed(self, seconds: float) -> tuple[str, ...]:
        """Return which of them are awaited for longer than this."""
        if not self._parked.any_missed:
            return ()
        return tuple(uid for uid in self.awaited if self._parked.missed(uid, seconds))

    def feed(self, name: str, doc: Mapping[str, Any]) -> Iterator[Action]:
        """Take one document and yield what follows from it. Raises DocumentError."""
        yield from self.route(parse(name, doc), payload_bytes(doc))

    def route(self, documents: Iterable[Document], nbytes: int = 0) -> Iterator[Action]:
        """Take parsed documents and yield what follows; `nbytes`: what each holds in memory."""
        for document in documents:
            yield from self._feed(document, nbytes)

    def join(self, found: Sequence[tuple[Document, int]]) -> Iterator[Action]:
        """Take the fetched documents of a run that began before this process, with their `nbytes`.

        Its stop comes last, also when it waits here already, or what waits with it would be late.
        """
        starts = [document.uid for document, _ in found if isinstance(document, RunStart)]
        waiting = [(stop, 0) for uid in starts for stop in self._parked.take(uid, RunStop)]
        fetched = [(one, nbytes) for one, nbytes in found if isinstance(one, RunStop)]
        for document, nbytes in found:
            if not isinstance(document, RunStop):
                yield from self._feed(document, nbytes)
        self._joined.update(self._trackers.keys() & starts)
        for uid in {uid for uid, document in self._parked if isinstance(document, StreamDatum)}:
            yield from self._unpark(uid)
        for document, nbytes in (*waiting, *fetched):
            yield from self._feed(document, nbytes)

    def forget(self, run_uid: str) -> None:
        """Forget a run, open or stopped, so that its documents can be sent again from the start."""
        self._trackers.pop(run_uid, None)
        self._joined.discard(run_uid)
        for missing in [m for m, doc in self._parked if self._home_of(doc) == run_uid]:
            self._parked.take(missing)
        for homes in (self._homes, self._ignored):
            for known in [known for known, home in homes.items() if home == run_uid]:
                del homes[known]

    def forget_waiting(self, uids: Iterable[str]) -> None:
        """Forget the documents that wait for these."""
        for uid in uids:
            self._parked.take(uid)

    def ignore(self, run_uid: str) -> None:
        """Ignore further documents of a run."""
        self._ignore(run_uid, run_uid)

    def tick(self, now: float | None = None) -> Iterator[Action]:
        """Release frames that waited long enough for their event; `now` as Clock.monotonic."""
        for uid in tuple(self._ticking):
            tracker = self._trackers.get(uid)
            if tracker is not None:
                yield from tracker.tick(self._clock.monotonic() if now is None else now)
            if tracker is None or not tracker.waits:
                self._ticking.discard(uid)

    def _feed(self, document: Document, nbytes: int) -> Iterator[Action]:
        if isinstance(document, RunStart):
            yield from self._begin(document)
            return
        needed = self._needed(document)
        if not needed:
            self._ignore(_defined(document), "")
            return
        home = next((self._ignored[uid] for uid in needed if uid in self._ignored), None)
        if home is not None:
            self._ignore(_defined(document), home)
            return
        missing = next((uid for uid in needed if uid not in self._homes), None)
        found = self._by_found(document) if missing is not None else None
        if found is not None:
            document, missing = found, None
        if missing is None:
            tracker = self._trackers[self._homes[needed[0]]]
            missing = tracker.missing(document)
            if missing is None:
                yield from self._deliver(tracker, document)
                return
        self._parked.park(missing, document, nbytes)

    def _by_found(self, document: Document) -> StreamDatum | None:
        if not isinstance(document, StreamDatum):
            return None
        home = self._homes.get(document.descriptor, "")
        return self._trackers[home].by_found(document) if home in self._joined else None

    def _begin(self, start: RunStart) -> Iterator[Action]:
        if start.uid in self._homes or start.uid in self._ignored:
            return
        if start.purpose == PURPOSE or not _chosen(start, self._settings.select):
            self._ignore(start.uid, start.uid)
        else:
            if len(self._trackers) >= _OPEN_RUNS:
                yield from self._abandon_oldest()
            self._homes[start.uid] = start.uid
            self._trackers[start.uid] = RunTracker(
                start,
                self._settings,
                self._lookup,
                self._corrections,
                self._clock,
                self.left_alone,
            )
        yield from self._unpark(start.uid)

    def _abandon_oldest(self) -> Iterator[Action]:
        """End the open run that began first, as no more documents of it are expected."""
        oldest = next(iter(self._trackers.values()))
        uid = oldest.start.uid
        reason = f"abandoned: {_OPEN_RUNS} runs were open and this one began first"
        _log.warning("run_abandoned", raw_uid=uid, reason=reason)
        yield from self._end(
            oldest, RunStop(uid, oldest.start.time, "abort", reason, {}, abandoned=True)
        )

    def _deliver(self, tracker: RunTracker, document: Document) -> Iterator[Action]:
        if isinstance(document, RunStop):
            yield from self._end(tracker, document)
            return
        yield from tracker.feed(document)
        if tracker.waits:
            self._ticking.add(tracker.start.uid)
        uid = _defined(document)
        if uid is not None:
            if not isinstance(document, Datum):
                self._homes[uid] = tracker.start.uid
            yield from self._unpark(uid)

    def _end(self, tracker: RunTracker, stop: RunStop) -> Iterator[Action]:
        uid = tracker.start.uid
        # Events whose datum never came still get their rows.
        for missing in [m for m, doc in self._parked if self._home_of(doc) == uid]:
            for document in self._parked.take(missing):
                yield from tracker.feed(document)
        yield from tracker.feed(stop)
        del self._trackers[uid]
        self._joined.discard(uid)
        for known in [known for known, home in self._homes.items() if home == uid]:
            del self._homes[known]
            self._ignore(known, uid)

    def _needed(self, document: Document) -> tuple[str, ...]:
        """Return the uids that must be known before the document can be processed."""
        match document:
            case Event():
                return (document.descriptor,)
            case Datum():
                return (document.resource,)
            case StreamDatum():
                return (document.descriptor, document.resource)
            case Resource() if not document.run_uid:
                return tuple(
                    islice(reversed(self._trackers), 1)
                )  # old documents mean the run that is going on
            case RunStart():
                return ()
            case _:
                return (document.run_uid,)

    def _home_of(self, document: Document) -> str | None:
        needed = self._needed(document)
        return self._homes.get(needed[0]) if needed else None

    def _ignore(self, uid: str | None, run_uid: str) -> None:
        if uid is None:
            return
        self._ignored[uid] = run_uid
        while len(self._ignored) > _IGNORED_REMEMBERED:
            self._ignored.popitem(last=False)

    def _unpark(self, uid: str) -> Iterator[Action]:
        for document in self._parked.take(uid):
            yield from self._feed(document, 0)


def _defined(document: Document) -> str | None:
    """Return the uid by which later documents name this one."""
    match document:
        case Descriptor() | Resource() | StreamResource() | RunStart():
            return document.uid
        case Datum():
            return document.datum_id
        case _:
            return None


def _chosen(start: RunStart, select: Mapping[str, Any]) -> bool:
    return all(
        key in start.metadata and _equal(start.metadata[key], value)
        for key, value in select.items()
    )


def _equal(found: Any, wanted: Any) -> bool:
    try:
        return bool(found == wanted)
    except ValueError:  # an array
        return False
