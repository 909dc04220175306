"""What we send to Kafka: derived documents and dead letters, each until it is acknowledged."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from gixi_bluesky.callbacks.kafka.wire import encode
from gixi_bluesky.errors import BrokerError
from gixi_bluesky.log import get_logger

__all__ = ["Outbox", "RunTopic"]

_ROOM_S = 0.5
_log = get_logger()

Answer = Callable[[str], None]  # "" when it is safe, else why it never will be


class Outbox:
    """Sends messages with an idempotent producer and tells what became of each.

    A delivery that times out is sent again; one that the broker will never take, such as one too
    large for it, is counted in `undelivered`, logged, and answered with the reason. Any thread may
    `send`; answers come on the thread that calls `poll`, which raises BrokerError when the producer
    has ended for good: then nothing of what was sent is safe.
    """

    def __init__(self, new_producer: Callable[..., Any]) -> None:
        self._producer = new_producer(error_cb=self._note)
        self._closing = threading.Event()
        self._fatal = ""
        self.last_error = ""
        self.undelivered = 0
        self.delivered = 0

    def send(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        answer: Answer,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send one message; waits while the producer's own queue is full."""
        from confluent_kafka import KafkaException

        def delivered(error: Any, _: Any) -> None:
            if error is None:
                self.delivered += 1
                answer("")
            elif _may_pass(error) and not self._closing.is_set():
                _log.warning("message_sent_again", topic=topic, error=error.str())
                self.send(topic, key, value, answer, headers)
            else:
                self._refuse(topic, key, error, answer)

        while not self._closing.is_set():
            try:
                self._producer.produce(
                    topic,
                    value,
                    key,
                    on_delivery=delivered,
                    headers=[(name, text.encode()) for name, text in (headers or {}).items()],
                )
                return
            except BufferError:
                self._producer.poll(_ROOM_S)
            except KafkaException as error:
                self._refuse(topic, key, error.args[0], answer)
                return

    def poll(self) -> None:
        """Give the answers that have come. Raises BrokerError."""
        self._producer.poll(0)
        if self._fatal:
            message = f"Kafka ended our producer: {self._fatal}"
            raise BrokerError(message)

    def flush(self, timeout: float) -> int:
        """Wait for the answers; return how many are still missing."""
        return int(self._producer.flush(timeout))

    def close(self) -> None:
        """Give up what is not delivered."""
        self._closing.set()
        self._producer.purge()
        self._producer.flush(1.0)

    def _refuse(self, topic: str, key: bytes, error: Any, answer: Answer) -> None:
        if self._closing.is_set():
            return  # nobody knows what became of it, so it is not safe
        why = error.str()
        if error.fatal():
            self._fatal = why
            return
        self.undelivered += 1
        self.last_error = f"a message for {topic} cannot be delivered: {why}"
        _log.error("message_undelivered", topic=topic, key=repr(key), reason=why)
        answer(why)

    def _note(self, error: Any) -> None:
        self.last_error = error.str()
        if error.fatal():
            self._fatal = error.str()


class RunTopic:
    """Tells the derived documents of one run to a topic; the key is the run's uid."""

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
        """How many documents the broker has neither taken nor refused for good."""
        with self._lock:
            return self._counts["sent"] - self._counts["answered"]

    def _answer(self, _: str) -> None:
        with self._lock:
            self._counts["answered"] += 1


def _may_pass(error: Any) -> bool:
    """Say whether sending once more may help."""
    from confluent_kafka import KafkaError

    again = {
        KafkaError._MSG_TIMED_OUT,  # noqa: SLF001 - librdkafka's names for its own errors
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    }
    return error.retriable() or error.code() in again
