"""Dead letters: unusable messages, kept in a separate topic with the reason."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from gixi_bluesky.callbacks.kafka.outbox import Outbox
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.retries import Backoff

__all__ = ["DeadLetters", "Letter"]

_SCAN_S = 20.0
_REMEMBERED = 100_000
_POLL_S = 0.2
_REASON_LENGTH = 2000
_log = get_logger()

_Origin = tuple[str, int, int]  # topic, partition, offset


@dataclass(frozen=True, slots=True)
class Letter:
    """A message, where it came from and why it cannot be used."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    reason: str

    @property
    def origin(self) -> _Origin:
        """Identity of the message: topic, partition, offset."""
        return (self.topic, self.partition, self.offset)


class DeadLetters:
    """Sends each refused message to its topic once, also when it is read again by another owner.

    Headers of a letter: reason, topic, partition, offset. A thread of its own, begun with the
    first letter, looks through the topic after each new assignment, since the owner before may
    have sent it. A message too large for the topic is sent without its value.

    topics: the topic of dead letters by input topic
    reader: builds a consumer that reads by itself, without a group
    """

    def __init__(self, outbox: Outbox, topics: dict[str, str], reader: Callable[[], Any]) -> None:
        self._outbox = outbox
        self._topics = topics
        self._reader = reader
        self._letters: SimpleQueue[Letter] = SimpleQueue()
        self._safe: SimpleQueue[_Origin] = SimpleQueue()
        self._known: set[_Origin] = set()
        self._unseen = set(topics.values())
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._retry = Backoff()
        self.count = 0

    def look_again(self) -> None:
        """Search the topic again, as another owner may have sent letters meanwhile."""
        self._unseen = set(self._topics.values())

    def send(self, letter: Letter) -> None:
        """Send a letter; returns at once."""
        self.count += 1
        self._letters.put(letter)
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, name="gixi-letters", daemon=True)
            self._thread.start()

    def safe(self) -> Iterator[_Origin]:
        """Yield the origins of letters that are in their topic since the last call."""
        while not self._safe.empty():
            yield self._safe.get()

    def close(self) -> None:
        """Stop."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def _follow(self) -> None:
        while not self._closing.is_set():
            try:
                letter = self._letters.get(timeout=_POLL_S)
            except Empty:
                continue
            try:
                self._deliver(letter)
            except Exception as error:  # whatever a client raises, the letter is not lost
                _log.warning("dead_letter_delayed", error=repr(error), offset=letter.offset)
                self._letters.put(letter)
                self._closing.wait(self._retry.failed())
            else:
                self._retry.succeeded()

    def _deliver(self, letter: Letter) -> None:
        topic = self._topics[letter.topic]
        if topic in self._unseen:
            self._unseen.discard(topic)
            self._look_through(topic)
        if letter.origin in self._known:
            self._safe.put(letter.origin)
            return
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        _log.error("dead_letter", raw_topic=letter.topic, partition=letter.partition,
                   offset=letter.offset, reason=letter.reason)  # fmt: skip
        headers = {
            "reason": letter.reason[:_REASON_LENGTH],
            "topic": letter.topic,
            "partition": str(letter.partition),
            "offset": str(letter.offset),
        }

        def answer(refused: str) -> None:
            if refused and letter.value:
                stub = {**headers, "left-out": f"{len(letter.value)} bytes: {refused}"}
                self._outbox.send(topic, letter.key, None, done, stub)
            else:
                done(refused)

        def done(_: str) -> None:
            self._known.add(letter.origin)
            self._safe.put(letter.origin)

        self._outbox.send(topic, letter.key, letter.value, answer, headers)

    def _look_through(self, topic: str) -> None:
        """Record the origins of all letters in the topic."""
        from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicPartition

        reader = self._reader()
        try:
            partitions = reader.list_topics(topic, timeout=_SCAN_S).topics[topic].partitions
            reader.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in partitions])
            waiting, deadline = set(partitions), time.monotonic() + _SCAN_S
            while waiting and time.monotonic() < deadline and not self._closing.is_set():
                message = reader.poll(_POLL_S)
                if message is None:
                    continue
                if message.error() is None:
                    self._remember(dict(message.headers() or ()))
                elif message.error().code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                    waiting.discard(message.partition())
            if waiting:
                _log.warning("dead_letters_not_all_seen", topic=topic)
        finally:
            reader.close()

    def _remember(self, headers: dict[str, bytes]) -> None:
        try:
            topic = headers["topic"].decode()
            self._known.add((topic, int(headers["partition"]), int(headers["offset"])))
        except (KeyError, ValueError, TypeError, AttributeError):
            return  # a message of another program
