"""Commits of each partition up to its low-water mark while this consumer is in the group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gixi_bluesky.callbacks.kafka.marks import Marks, Partition, Place
from gixi_bluesky.callbacks.kafka.membership import Membership
from gixi_bluesky.callbacks.kafka.offsets import end_of
from gixi_bluesky.log import get_logger

__all__ = ["Commits"]

_log = get_logger()


class Commits:
    """Moves the offsets of the group. For the thread that polls.

    note: called with the KafkaError of a refused commit
    """

    def __init__(self, marks: Marks, membership: Membership, note: Callable[[Any], None]) -> None:
        self._marks = marks
        self._membership = membership
        self._note = note

    def begin(self, client: Any, offsets: list[Any]) -> None:
        """Commit the start offsets of partitions; a refused commit is repeated with the next one.

        Without it, a group that has never committed would start elsewhere after a crash.
        """
        if offsets and not self.send(client, offsets, asynchronous=False):
            for one in offsets:
                self._marks.partitions[Place(one.topic, one.partition)].committed = one.offset - 1

    def commit(self, client: Any, *, asynchronous: bool) -> None:
        """Commit offsets that became safe, unless other consumers may have the partitions."""

        def due(partition: Partition) -> int | None:
            mark = self._marks.mark(partition)
            return mark if mark > partition.committed else None

        if self._membership() and (offsets := self._offsets(due)):
            self.send(client, offsets, asynchronous=asynchronous)

    def confirm(self, client: Any) -> None:
        """Check by a commit, after a long pause, whether the partitions are still assigned."""
        offsets = self._offsets(lambda partition: max(partition.committed, 0))
        if not offsets or self.send(client, offsets, asynchronous=False):
            self._membership.confirm()
            _log.warning("slept", partitions_kept=len(offsets))

    def send(self, client: Any, offsets: list[Any], *, asynchronous: bool) -> bool:
        """Commit these offsets; return True unless the broker refused."""
        from confluent_kafka import KafkaException

        try:
            done = client.commit(offsets=offsets, asynchronous=asynchronous)
        except KafkaException as error:
            # Repeated with the next commit; after a lost assignment it must not be.
            self._note(error.args[0])
            return False
        if not asynchronous:
            self.done(None, done)
            return all(one.error is None for one in done)
        return True

    def done(self, error: Any, offsets: list[Any]) -> None:
        """Record the broker's answer to a commit."""
        if error is not None:
            self._note(error)
            return
        for one in offsets:
            partition = self._marks.partitions.get(Place(one.topic, one.partition))
            if partition is not None and one.error is None:
                partition.committed = max(partition.committed, one.offset)

    def lags(self, client: Any) -> dict[Place, tuple[int, int]]:
        """Return how many messages of each partition are not read, and how many not committed."""
        lags = {}
        for place, partition in self._marks.partitions.items():
            if (end := end_of(client, place, cached=True)) is None:
                continue
            lags[place] = (
                max(end - partition.position, 0),
                max(end, partition.position) - partition.committed,
            )
        return lags

    def _offsets(self, offset_of: Callable[[Partition], int | None]) -> list[Any]:
        from confluent_kafka import TopicPartition

        return [
            TopicPartition(place.topic, place.number, offset)
            for place, partition in self._marks.partitions.items()
            if (offset := offset_of(partition)) is not None
        ]
