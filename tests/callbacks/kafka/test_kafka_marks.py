"""Low-water marks: a state machine of runs, partitions and owners never loses a run's start."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule
from manual_clock import ManualClock

from gixi_bluesky.callbacks.documents.document_types import Document, RunStart
from gixi_bluesky.callbacks.documents.parsing import parse
from gixi_bluesky.callbacks.kafka.marks import Marks, Partition, Place

HERE = Place("raw", 0)


def start(uid: str) -> Document:
    return parse("start", {"uid": uid, "time": 1.0})[0]


def descriptor(uid: str) -> Document:
    doc = {"uid": f"{uid}-d", "run_start": uid, "name": "primary", "data_keys": {}}
    return parse("descriptor", doc)[0]


def event(uid: str) -> Document:
    doc = {"descriptor": f"{uid}-d", "seq_num": 1, "time": 1.0, "data": {}}
    return parse("event", doc)[0]


def stop(uid: str) -> Document:
    return parse("stop", {"run_start": uid, "time": 1.0, "exit_status": "success"})[0]


class Reading:
    """Feeds documents to the marks of one partition."""

    def __init__(self, place: Place = HERE, marks: Marks | None = None) -> None:
        self.marks = marks or Marks()
        self.partition = self.marks.assign(place, 0)

    def take(self, *documents: Document, written: float = 1.0) -> None:
        for document in documents:
            offset = self.partition.position
            self.partition.passed(offset, written, now=1e9)
            self.marks.saw(document, self.partition, offset)

    @property
    def mark(self) -> int:
        return self.marks.mark(self.partition)


def test_the_oldest_open_run_holds_the_mark() -> None:
    reading = Reading()
    reading.take(start("a"), descriptor("a"), start("b"), event("a"), stop("a"), stop("b"))
    assert reading.mark == 0
    reading.marks.end("a")
    assert reading.mark == 2
    reading.marks.end("b")
    assert reading.mark == 6


def test_a_message_that_is_not_safe_holds_the_mark() -> None:
    reading = Reading()
    reading.take(start("a"))
    reading.partition.held.add(0)
    reading.marks.end("a")
    assert reading.mark == 0
    reading.partition.held.discard(0)
    assert reading.mark == 1


def test_an_ended_run_is_not_opened_by_a_redelivery() -> None:
    reading = Reading()
    reading.take(start("a"), stop("a"))
    reading.marks.end("a")
    reading.partition.position = 0
    reading.take(start("a"), descriptor("a"), stop("a"))
    assert reading.mark == 3


def test_a_revoked_run_is_opened_by_a_redelivery() -> None:
    reading = Reading()
    reading.take(start("a"), descriptor("a"))
    assert [run.uid for run in reading.marks.revoke(HERE)] == ["a"]
    again = Reading(marks=reading.marks)
    assert again.partition.generation > reading.partition.generation
    again.take(start("a"))
    assert again.mark == 0


def test_documents_of_an_unknown_run_hold_the_mark_until_it_is_given_up() -> None:
    reading = Reading()
    reading.take(start("x"), stop("x"), descriptor("a"), event("b"), event("a"), stop("b"))
    reading.marks.end("x")
    assert reading.mark == 2
    reading.marks.await_only({"b-d", "b"})
    assert reading.mark == 3
    reading.marks.await_only({"b"})
    assert reading.mark == 5
    reading.marks.await_only(())
    assert reading.mark == 6


def test_a_run_joined_midway_holds_from_its_first_message_here() -> None:
    reading = Reading()
    reading.take(stop("x"), event("a"))
    reading.marks.await_only({"a-d"})
    assert reading.mark == 1
    assert reading.marks.topic_awaiting([start("a")]) is None
    assert reading.marks.topic_awaiting([start("a"), descriptor("a")]) == "raw"
    known = start("a")
    assert isinstance(known, RunStart)
    reading.marks.open(known, "raw")
    reading.marks.learn(descriptor("a"))
    assert reading.mark == 1
    reading.take(event("a"), event("a"))
    reading.marks.await_only(())
    assert reading.mark == 1
    reading.marks.end("a")
    assert reading.mark == 4


def test_what_a_lost_partition_awaited_is_forgotten_with_its_names() -> None:
    marks = Marks()
    here, there = Reading(marks=marks), Reading(Place("raw", 1), marks)
    here.take(descriptor("a"), event("a"), event("b"))
    there.take(event("b"), event("c"))
    assert marks.awaited_in(HERE) == {"a", "a-d"}  # b's documents are there too
    marks.revoke(HERE)
    assert marks.awaited_in(Place("raw", 1)) == {"b-d", "c-d"}
    assert there.mark == 0


def test_a_run_that_is_stored_already_holds_the_mark_until_its_stop_was_read() -> None:
    reading = Reading()
    reading.take(start("a"), descriptor("a"))
    reading.marks.settle("a")
    reading.take(event("a"))
    assert reading.mark == 0
    reading.take(stop("a"))
    reading.marks.settle("a")
    assert reading.mark == 4


def test_what_is_read_of_a_stored_run_afterwards_holds_nothing() -> None:
    reading = Reading()
    reading.take(start("a"), descriptor("a"), start("b"))
    reading.marks.end("a")
    reading.marks.end("b")
    reading.take(event("a"), event("b"), descriptor("b"), event("b"))
    assert reading.mark == 7


def test_a_backlog_is_no_silence() -> None:
    clock = ManualClock()
    reading = Reading(marks=Marks(clock.clock))
    reading.take(start("a"), written=1000.0)
    clock.advance(500)  # paused or slow: the stream has not said that time went by
    assert not list(reading.marks.silent(60))
    reading.take(start("b"), written=1030.0)
    assert not list(reading.marks.silent(60))
    reading.take(descriptor("b"), written=1061.0)
    assert [run.uid for run in reading.marks.silent(60)] == ["a"]
    reading.marks.end("a")
    reading.partition.reached_end()
    clock.advance(59)
    assert not list(reading.marks.silent(60))
    clock.advance(2)
    assert [run.uid for run in reading.marks.silent(60)] == ["b"]


def test_a_message_from_the_future_makes_no_one_silent() -> None:
    reading = Reading()
    now = time.time()
    reading.partition.passed(0, now, now)
    reading.marks.saw(start("a"), reading.partition, 0)
    reading.partition.passed(1, now + 1e9, now)
    reading.marks.saw(start("b"), reading.partition, 1)
    assert not list(reading.marks.silent(60))


class Owners(RuleBasedStateMachine):
    """Two partitions change their owner at random; a reader from a mark sees whole runs."""

    runs = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[Place, list[Document]] = {Place("t", k): [] for k in range(2)}
        self.committed = dict.fromkeys(self.logs, 0)
        self.stored: set[str] = set()
        self.started: dict[str, tuple[Place, int]] = {}
        self.marks = Marks()
        self.ours: dict[Place, Partition] = {}
        self.n = 0

    @rule(target=runs, number=st.integers(0, 1))
    def begin(self, number: int) -> str:
        self.n += 1
        uid, place = f"run-{self.n}", Place("t", number)
        self.started[uid] = (place, len(self.logs[place]))
        self.logs[place] += [start(uid), descriptor(uid)]
        return uid

    @rule(uid=runs, last=st.booleans())
    def go_on(self, uid: str, last: bool) -> None:
        self.logs[self.started[uid][0]].append(stop(uid) if last else event(uid))

    @rule(number=st.integers(0, 1))
    def take_over(self, number: int) -> None:
        place = Place("t", number)
        self.marks.revoke(place)
        self.ours[place] = self.marks.assign(place, self.committed[place])

    @rule()
    def restart(self) -> None:
        self.marks, self.ours = Marks(), {}

    @precondition(lambda self: self.ours)
    @rule(data=st.data(), n=st.integers(1, 5))
    def read(self, data: Any, n: int) -> None:
        partition = data.draw(st.sampled_from(list(self.ours.values())))
        for document in self.logs[partition.place][partition.position :][:n]:
            offset = partition.position
            partition.passed(offset, 1.0, 2.0)
            self.marks.saw(document, partition, offset)

    @precondition(lambda self: self.marks.runs)
    @rule(data=st.data())
    def store(self, data: Any) -> None:
        uid = data.draw(st.sampled_from(sorted(self.marks.runs)))
        self.stored.add(uid)
        self.marks.end(uid)

    @rule()
    def commit(self) -> None:
        for place, partition in self.ours.items():
            mark = self.marks.mark(partition)
            assert mark <= partition.position
            self.committed[place] = max(self.committed[place], mark)

    @invariant()
    def no_committed_offset_is_past_an_unstored_run(self) -> None:
        for uid, (place, first) in self.started.items():
            assert uid in self.stored or self.committed[place] <= first

    def teardown(self) -> None:
        for number in range(2):
            self.take_over(number)
            partition = self.ours[Place("t", number)]
            for document in self.logs[partition.place][partition.position :]:
                offset = partition.position
                partition.passed(offset, 1.0, 2.0)
                self.marks.saw(document, partition, offset)
        for uid in list(self.marks.runs):
            self.marks.end(uid)
        # Of a run that was stored before a restart only the rest was read: it is not waited for.
        self.marks.await_only(())
        for partition in self.ours.values():
            assert self.marks.mark(partition) == len(self.logs[partition.place])


class Joined(RuleBasedStateMachine):
    """A consumer begins in the midst of runs, whose starts are found at last, or never."""

    runs = st.sampled_from(["a", "b", "c"])

    def __init__(self) -> None:
        super().__init__()
        self.reading = Reading()
        self.first: dict[str, int] = {}  # of what is neither stored nor given up
        self.known: set[str] = set()
        self.over: set[str] = set()

    @property
    def awaited(self) -> set[str]:
        unknown = self.first.keys() - self.known - self.over
        return {uid + end for uid in unknown for end in ("", "-d")}

    @rule(uid=runs, make=st.sampled_from([descriptor, event, stop]))
    def read(self, uid: str, make: Any) -> None:
        if uid not in self.over:
            self.first.setdefault(uid, self.reading.partition.position)
        self.reading.take(make(uid))

    @rule(uid=runs)
    def find(self, uid: str) -> None:
        if uid in self.first:
            known = start(uid)
            assert isinstance(known, RunStart)
            self.reading.marks.open(known, "raw")
            self.reading.marks.learn(descriptor(uid))
            self.known.add(uid)

    @rule(uid=runs)
    def store(self, uid: str) -> None:
        if uid in self.known:
            self.reading.marks.end(uid)
            self.first.pop(uid, None)
            self.known.discard(uid)
            self.over.add(uid)

    @rule(uid=runs)
    def give_up(self, uid: str) -> None:
        if uid not in self.known:
            self.first.pop(uid, None)
            self.over.add(uid)

    @invariant()
    def the_mark_is_the_oldest_of_what_may_still_be_stored(self) -> None:
        self.reading.marks.await_only(self.awaited)
        position = self.reading.partition.position
        assert self.reading.mark == min([position, *self.first.values()])


TestJoined = Joined.TestCase
TestJoined.settings = settings(max_examples=100, stateful_step_count=30)

TestOwners = Owners.TestCase
TestOwners.settings = settings(max_examples=60, stateful_step_count=40)
