"""Messages sent to Kafka: derived documents and dead letters, each until acknowledged."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gixi_bluesky.callbacks.kafka.wire import encode
from gixi_bluesky.log import get_logger

__all__ = ["Outbox", "RunTopic"]

_ROOM_S = 0.5
_log = get_logger()

Answer = Callable[[str], None]  # "" when delivered, else the reason why it cannot be


@dataclass(frozen=True, slots=True)
class _Message:
    topic: str
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    answer: Answer


class Outbox:
    """Sends messages with an idempotent producer and reports the outcome of each.

    A delivery that times out is sent again, and so are unanswered messages of a producer with a
    fatal error. A message that the broker rejects, such as one too large, is counted in
    `undelivered`, logged, and answered with the reason. Any thread may `send`; answers come on the
    thread that calls `poll`.
    """

    def __init__(self, new_producer: Callable[..., Any]) -> None:
        self._new_producer = new_producer
        self._producer = new_producer(error_cb=self._note)
        self._ended = ""
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._unanswered: dict[int, _Message] = {}
        self.last_error = ""
        self.undelivered = 0

    def send(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        answer: Answer,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send one message; waits while the producer's own queue is full."""
        pairs = tuple((name, text.encode()) for name, text in (headers or {}).items())
        message = _Message(topic, key, value, pairs, answer)
        with self._lock:
            number = next(self._numbers)
            self._unanswered[number] = message
        self._produce(number, message)

    def poll(self) -> None:
        """Deliver the answers that have come."""
        self._producer.poll(0)
        if self._ended:
            self._renew()

    def flush(self, timeout: float) -> int:
        """Wait for the answers; return the number still missing."""
        self._producer.flush(timeout)
        return len(self._unanswered)

    def close(self) -> None:
        """Close without waiting for messages that are not delivered."""
        self._closing.set()
        self._producer.purge()
        self._producer.flush(1.0)

    def _produce(self, number: int, message: _Message) -> None:
        from confluent_kafka import KafkaException

        while not self._closing.is_set():
            producer = self._producer

            def delivered(error: Any, _: Any, producer: Any = producer) -> None:
                self._take(producer, number, message, error)

            try:
                producer.produce(
                    message.topic,
                    message.value,
                    message.key,
                    on_delivery=delivered,
                    headers=list(message.headers),
                )
            except BufferError:
                producer.poll(_ROOM_S)
                continue
            except KafkaException as error:
                self._take(producer, number, message, error.args[0])
            return

    def _take(self, producer: Any, number: int, message: _Message, error: Any) -> None:
        """Handle the outcome of a message."""
        if self._closing.is_set() or producer is not self._producer:
            return  # its outcome is unknown, so it is not safe
        if error is not None and _has_ended(error):
            self._ended = error.str()
        elif error is not None and _may_pass(error):
            _log.warning("message_sent_again", topic=message.topic, error=error.str())
            self._produce(number, message)
        else:
            with self._lock:
                known = self._unanswered.pop(number, None)
            if known is not None:
                message.answer("" if error is None else self._refused(message, error.str()))

    def _refused(self, message: _Message, why: str) -> str:
        self.undelivered += 1
        self.last_error = f"a message for {message.topic} cannot be delivered: {why}"
        _log.error("message_undelivered", topic=message.topic, key=repr(message.key), reason=why)
        return why

    def _renew(self) -> None:
        """Continue with a new producer; unanswered messages may be delivered twice."""
        _log.warning("producer_renewed", reason=self._ended, messages=len(self._unanswered))
        old, self._ended = self._producer, ""
        self._producer = self._new_producer(error_cb=self._note)
        old.purge()
        old.flush(0)
        with self._lock:
            again = sorted(self._unanswered.items())
        for number, message in again:
            self._produce(number, message)

    def _note(self, error: Any) -> None:
        self.last_error = error.str()
        if error.fatal():
            self._ended = error.str()


class RunTopic:
    """Publishes the derived documents of one run to a topic; the key is the run's uid."""

    def __init__(self, outbox: Outbox, topic: str, run_uid: str) -> None:
        self._outbox = outbox
        self._topic = topic
        self._key = run_uid.encode()
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Send one document."""
        with self._lock:
            self._counts["sent"] += 1
        self._outbox.send(self._topic, self._key, encode(name, doc), self._answer)

    @property
    def pending(self) -> int:
        """Number of documents that the broker has neither acknowledged nor rejected."""
        with self._lock:
            return self._counts["sent"] - self._counts["answered"]

    def _answer(self, _: str) -> None:
        with self._lock:
            self._counts["answered"] += 1


def _has_ended(error: Any) -> bool:
    """Return whether the error is fatal to the producer."""
    from confluent_kafka import KafkaError

    return error.fatal() or error.code() == KafkaError._FATAL  # noqa: SLF001


def _may_pass(error: Any) -> bool:
    """Return whether sending again may succeed."""
    from confluent_kafka import KafkaError

    again = {
        KafkaError._MSG_TIMED_OUT,  # noqa: SLF001 - librdkafka's names for its own errors
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    }
    return error.retriable() or error.code() in again
