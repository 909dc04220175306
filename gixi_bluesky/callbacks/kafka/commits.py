"""What is committed: each partition up to its mark, as long as the group counts us in."""

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

    note: told the KafkaError of what was refused
    """

    def __init__(self, marks: Marks, membership: Membership, note: Callable[[Any], None]) -> None:
        self._marks = marks
        self._membership = membership
        self._note = note

    def begin(self, client: Any, offsets: list[Any]) -> None:
        """Commit where partitions begin; what is refused is tried again with the next commit.

        A group that has never committed would begin elsewhere after a crash.
        """
        if offsets and not self.send(client, offsets, asynchronous=False):
            for one in offsets:
                self._marks.partitions[Place(one.topic, one.partition)].committed = one.offset - 1

    def commit(self, client: Any, *, asynchronous: bool) -> None:
        """Commit what became safe, unless others may have the partitions."""

        def due(partition: Partition) -> int | None:
            mark = self._marks.mark(partition)
            return mark if mark > partition.committed else None

        if self._membership() and (offsets := self._offsets(due)):
            self.send(client, offsets, asynchronous=asynchronous)

    def confirm(self, client: Any) -> None:
        """Ask the broker, after a long sleep, whether the partitions are still ours."""
        offsets = self._offsets(lambda partition: max(partition.committed, 0))
        if not offsets or self.send(client, offsets, asynchronous=False):
            self._membership.confirm()
            _log.warning("slept", partitions_kept=len(offsets))

    def send(self, client: Any, offsets: list[Any], *, asynchronous: bool) -> bool:
        """Commit these and say whether that was not refused."""
        from confluent_kafka import KafkaException

        try:
            done = client.commit(offsets=offsets, asynchronous=asynchronous)
        except KafkaException as error:
            # It is tried again with the next one; after a lost assignment nobody should.
            self._note(error.args[0])
            return False
        if not asynchronous:
            self.done(None, done)
            return all(one.error is None for one in done)
        return True

    def done(self, error: Any, offsets: list[Any]) -> None:
        """Take note of what the broker says of a commit."""
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
