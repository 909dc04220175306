"""Commits move with the marks, and only while the group counts this consumer in."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from manual_clock import ManualClock

from gixi_bluesky.callbacks.kafka.commits import Commits
from gixi_bluesky.callbacks.kafka.marks import Marks, Place
from gixi_bluesky.callbacks.kafka.membership import Membership

HERE = Place("raw", 0)


class Group:
    """Keeps what was committed, and refuses when it should."""

    def __init__(self) -> None:
        self.offset: int | None = None
        self.refuses = False

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        if self.refuses:
            raise KafkaException(KafkaError(KafkaError.REBALANCE_IN_PROGRESS))
        (one,) = offsets
        self.offset = one.offset
        return offsets


@pytest.fixture
def marks() -> Marks:
    found = Marks()
    found.assign(HERE, 7)
    return found


@pytest.fixture
def reported() -> list[Any]:
    return []


@pytest.fixture
def commits(marks: Marks, reported: list[Any]) -> Commits:
    return Commits(marks, Membership(60), reported.append)


def test_where_a_group_begins_is_committed_in_the_end(
    marks: Marks, commits: Commits, reported: list[Any]
) -> None:
    group = Group()
    group.refuses = True
    commits.begin(group, [TopicPartition("raw", 0, 7)])
    commits.commit(group, asynchronous=False)
    assert len(reported) == 2
    assert group.offset is None
    group.refuses = False
    commits.commit(group, asynchronous=False)
    assert (group.offset, marks.partitions[HERE].committed) == (7, 7)


def test_nothing_is_committed_twice_or_before_it_is_safe(marks: Marks, commits: Commits) -> None:
    group, partition = Group(), marks.partitions[HERE]
    commits.begin(group, [TopicPartition("raw", 0, 7)])
    partition.passed(9, 1.0, 2.0)
    partition.held.add(8)
    commits.commit(group, asynchronous=False)
    assert group.offset == 8
    group.refuses = True  # it is not asked
    commits.commit(group, asynchronous=False)
    group.refuses = False
    partition.held.clear()
    commits.commit(group, asynchronous=False)
    assert group.offset == 10


def test_who_may_have_lost_its_partitions_asks_first(marks: Marks, reported: list[Any]) -> None:
    time = ManualClock()
    group, member = Group(), Membership(6, time.clock)
    commits = Commits(marks, member, reported.append)
    marks.partitions[HERE].passed(9, 1.0, 2.0)
    time.advance(7)
    member.poll()
    commits.commit(group, asynchronous=False)
    assert group.offset is None
    group.refuses = True
    commits.confirm(group)
    assert (member(), len(reported)) == (False, 1)
    group.refuses = False
    commits.confirm(group)
    assert (member(), group.offset) == (True, 7)
    commits.commit(group, asynchronous=False)
    assert group.offset == 10
