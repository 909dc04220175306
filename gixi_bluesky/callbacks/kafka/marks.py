"""The low-water mark of each partition: the first message of the oldest run that is not stored."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

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
from gixi_bluesky.processes.clock import SYSTEM_CLOCK, Clock

__all__ = ["Marks", "OpenRun", "Partition", "Place"]

_ENDED_REMEMBERED = 100_000


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A partition of a topic."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.number}"


@dataclass(slots=True)
class OpenRun:
    """A run that is not stored.

    first: its first message in each partition; `last` the stream's time of its last one
    """

    uid: str
    start: Mapping[str, Any]
    topic: str
    first: dict[Place, int] = field(default_factory=dict)
    last: dict[Place, float] = field(default_factory=dict)


class Partition:
    """One assignment of a partition; another assignment of the same one is another object.

    Its clock is the time of its messages (seconds since 1970, never ahead of this machine's), which
    advances while there is nothing to read, so that a backlog does not count as silence.
    """

    def __init__(
        self, place: Place, position: int, generation: int, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.place = place
        self._now = clock.monotonic
        self.generation = generation
        self.position = position  # of the next message
        self.committed = position
        self.at_end = False
        self.held: set[int] = set()  # messages that are not safe though no run has them
        self._message_time = 0.0
        self._idle_since = 0.0

    def passed(self, offset: int, written: float, now: float) -> None:
        """Record a message; `now` as Clock.wall."""
        self.position = offset + 1
        self.at_end = False
        self._message_time = max(self._message_time, min(written, now))

    def reached_end(self) -> None:
        """Record that the end of the partition was reached."""
        if not self.at_end:
            self.at_end = True
            self._idle_since = self._now()

    @property
    def clock(self) -> float:
        """The time up to which the stream has been read."""
        idle = self._now() - self._idle_since if self.at_end else 0.0
        return self._message_time + idle


class Marks:
    """The open runs, their partitions, and the offsets that may be committed.

    For one thread. Runs that are not analysed count as open too, so that a consumer that reads from
    a mark on gets the start of every run that goes on.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self.partitions: dict[Place, Partition] = {}
        self.runs: dict[str, OpenRun] = {}
        self._homes: dict[str, str] = {}  # uid of a descriptor or resource → run uid
        self._awaited: dict[str, dict[Place, int]] = {}  # unknown uid → the first that names it
        self._stopped: set[str] = set()  # runs that have not ended though their stop was read
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._generation = 0

    def assign(self, place: Place, position: int) -> Partition:
        """Begin an assignment."""
        self._generation += 1
        self.partitions[place] = Partition(place, position, self._generation, self._clock)
        return self.partitions[place]

    def revoke(self, place: Place) -> list[OpenRun]:
        """End an assignment and return the runs that were open in it, forgotten here."""
        self.partitions.pop(place, None)
        for firsts in self._awaited.values():
            firsts.pop(place, None)
        self.await_only({uid for uid, firsts in self._awaited.items() if firsts})
        gone = [run for run in self.runs.values() if place in run.first]
        for run in gone:
            self.forget(run.uid)
        return gone

    def place_of(self, document: Document) -> str | None:
        """Return the uid of the run that a document belongs to, None while unknown."""
        match document:
            case RunStart():
                return document.uid
            case Descriptor() | StreamResource() | Resource() | RunStop():
                return document.run_uid or None
            case Datum():
                return self._homes.get(document.resource)
            case Event() | StreamDatum():
                return self._homes.get(document.descriptor)

    def learn(self, document: Document) -> None:
        """Record the uid that later documents refer to, and the run of earlier ones that did."""
        home = self.place_of(document)
        if home is None or not isinstance(document, Descriptor | Resource | StreamResource):
            return
        if home in self._ended:
            self._end_all([document.uid])
            self._awaited.pop(document.uid, None)
            return
        self._homes[document.uid] = home
        for place, first in self._awaited.pop(document.uid, {}).items():
            self._hold(home, place, first)

    def saw(self, document: Document, partition: Partition, offset: int) -> None:
        """Record a document: its run is open until `end`.

        One whose run is unknown holds the mark too, until `await_only` gives it up.
        """
        uid = self.place_of(document) or _named(document)
        if uid is not None and uid not in self._ended:
            if isinstance(document, RunStart):
                self.open(document, partition.place.topic)
            if isinstance(document, RunStop):
                self._stopped.add(uid)
            self._hold(uid, partition.place, offset)
        self.learn(document)

    def open(self, start: RunStart, topic: str) -> None:
        """Record a run, with its documents that came before its start."""
        if start.uid in self.runs or start.uid in self._ended:
            return
        self.runs[start.uid] = OpenRun(start.uid, start.metadata, topic)
        for place, first in self._awaited.pop(start.uid, {}).items():
            self._hold(start.uid, place, first)

    def _hold(self, uid: str, place: Place, offset: int) -> None:
        """Hold a partition for a run or, while that is unknown, for the missing document."""
        run = self.runs.get(uid)
        firsts = self._awaited.setdefault(uid, {}) if run is None else run.first
        firsts[place] = min(offset, firsts.get(place, offset))
        if run is not None and place in self.partitions:
            run.last[place] = self.partitions[place].clock

    def awaited_in(self, place: Place) -> set[str]:
        """Return the uids that only documents of this partition wait for, and their references."""
        uids = {uid for uid, firsts in self._awaited.items() if firsts.keys() == {place}}
        return uids | {known for known, home in self._homes.items() if home in uids}

    def topic_awaiting(self, documents: Iterable[Document]) -> str | None:
        """Return the topic in which one of these uids is awaited or its run is open, or None."""
        topics = set()
        for document in documents:
            uid = getattr(document, "uid", "")
            topics |= {place.topic for place in self._awaited.get(uid, {})}
            if (run := self.runs.get(uid)) is not None:
                topics.add(run.topic)
        return min(topics, default=None)

    def await_only(self, uids: Collection[str]) -> None:
        """Release the marks of awaited uids other than these."""
        for uid in self._awaited.keys() - set(uids):
            self.forget(uid)

    def settle(self, uid: str) -> None:
        """End a run that is stored or given up, unless its stop is still to be read.

        A consumer that starts before the stop could not assign its documents to a run.
        """
        if uid in self._stopped:
            self.end(uid)

    def end(self, uid: str) -> None:
        """Release the marks of a run."""
        # With its uids, or later documents would count as those of an unknown run.
        self._end_all([uid, *(known for known, home in self._homes.items() if home == uid)])
        self.forget(uid)

    def _end_all(self, uids: Iterable[str]) -> None:
        self._ended.update(dict.fromkeys(uids))
        while len(self._ended) > _ENDED_REMEMBERED:
            self._ended.popitem(last=False)

    def forget(self, uid: str) -> None:
        """Forget a run; its documents open it again."""
        self.runs.pop(uid, None)
        self._awaited.pop(uid, None)
        self._stopped.discard(uid)
        for known in [known for known, home in self._homes.items() if home == uid]:
            del self._homes[known]

    def mark(self, partition: Partition) -> int:
        """Return the offset from which the next owner must read."""
        place = partition.place
        holders = [*(run.first for run in self.runs.values()), *self._awaited.values()]
        firsts = (first[place] for first in holders if place in first)
        return min([partition.position, *firsts, *partition.held])

    def heard(self, run: OpenRun) -> None:
        """Record activity of a run now."""
        for place in run.last.keys() & self.partitions.keys():
            run.last[place] = self.partitions[place].clock

    def silent(self, seconds: float) -> Iterator[OpenRun]:
        """Yield the runs without a message in any partition for longer than this."""
        for run in tuple(self.runs.values()):
            clocks = [
                self.partitions[place].clock - last
                for place, last in run.last.items()
                if place in self.partitions
            ]
            if clocks and min(clocks) > seconds:
                yield run


def _named(document: Document) -> str | None:
    """Return the uid by which a document refers to an unknown run."""
    match document:
        case Event() | StreamDatum():
            return document.descriptor
        case Datum():
            return document.resource
        case _:
            return None
