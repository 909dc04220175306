"""What is sent is answered once: safe, or never to be; a producer that ends is followed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from gixi_bluesky.callbacks.kafka.outbox import Outbox, RunTopic
from gixi_bluesky.callbacks.kafka.wire import decode

TOO_LARGE = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
TIMED_OUT = KafkaError(KafkaError._MSG_TIMED_OUT)
FATAL = KafkaError(KafkaError._FATAL, "out of sequence", fatal=True)
LATER = object()


class Broker:
    """Stands for producers that fail as no broker can be made to: `fates` of what is sent next.

    A fate is an error, None for success, or LATER while nothing is known.
    """

    def __init__(self, *fates: Any) -> None:
        self.fates = deque(fates)
        self.taken: list[bytes | None] = []
        self.producers = 0

    def new_producer(self, error_cb: Callable[[Any], None]) -> Broker.Producer:
        self.producers += 1
        return Broker.Producer(self, error_cb)

    class Producer:
        def __init__(self, broker: Broker, error_cb: Callable[[Any], None]) -> None:
            self._broker = broker
            self._error_cb = error_cb
            self._answers: list[tuple[Callable[..., None], Any]] = []
            self._dead = False

        def produce(self, _topic: str, value: Any, _key: bytes, *, on_delivery: Any, **_: Any):
            if self._dead:
                raise KafkaException(FATAL)
            fate = self._broker.fates.popleft() if self._broker.fates else None
            if isinstance(fate, BufferError):
                raise fate
            if fate is None:
                self._broker.taken.append(value)
            if fate is FATAL:
                self._dead = True
                self._error_cb(FATAL)
            if fate is not LATER:
                self._answers.append((on_delivery, fate))

        def poll(self, _: float) -> None:
            answers, self._answers = self._answers, []
            for on_delivery, error in answers:
                on_delivery(error, None)

        def purge(self) -> None:
            pass

        def flush(self, _: float) -> int:
            self.poll(0)
            return 0


def sent(broker: Broker, *values: bytes) -> tuple[Outbox, dict[bytes, list[str]]]:
    outbox = Outbox(broker.new_producer)
    answers: dict[bytes, list[str]] = {value: [] for value in values}
    for value in values:
        outbox.send("topic", b"key", value, answers[value].append, {"reason": "why"})
    for _ in range(4):
        outbox.poll()
    return outbox, answers


def test_what_the_broker_takes_is_safe() -> None:
    broker = Broker(None, BufferError(), None)
    outbox, answers = sent(broker, b"a", b"b")
    assert answers == {b"a": [""], b"b": [""]}
    assert outbox.flush(1) == 0


def test_what_timed_out_is_sent_again() -> None:
    broker = Broker(TIMED_OUT, TIMED_OUT)
    _, answers = sent(broker, b"a")
    assert answers == {b"a": [""]}
    assert broker.taken == [b"a"]


def test_what_will_never_be_taken_is_reported() -> None:
    outbox, answers = sent(Broker(TOO_LARGE), b"a", b"b")
    assert [bool(reported) for reported in answers[b"a"]] == [True]
    assert answers[b"b"] == [""]
    assert outbox.undelivered == 1
    assert "cannot be delivered" in outbox.last_error


def test_a_producer_that_ends_is_followed_by_another() -> None:
    """Nothing is known of what it had: each is sent again and answered once."""
    broker = Broker(None, LATER, FATAL)
    outbox, answers = sent(broker, b"a", b"b", b"c", b"d")
    assert answers == {value: [""] for value in (b"a", b"b", b"c", b"d")}
    assert broker.producers == 2
    assert set(broker.taken) == {b"a", b"b", b"c", b"d"}
    assert outbox.undelivered == 0


def test_after_the_end_nothing_counts_as_safe() -> None:
    broker = Broker(LATER, TIMED_OUT)
    outbox, answers = sent(broker, b"a")
    outbox.close()
    outbox.send("topic", b"key", b"b", answers[b"a"].append)
    assert answers == {b"a": []}


def test_a_runs_documents_are_pending_until_answered() -> None:
    broker = Broker(LATER, None)
    outbox = Outbox(broker.new_producer)
    topic = RunTopic(outbox, "topic", "run")
    topic("start", {"uid": "u", "time": 1.0})
    topic("start", {"uid": "v", "time": 1.0})
    assert topic.pending == 2
    outbox.poll()
    assert topic.pending == 1
    (taken,) = broker.taken
    assert decode(taken)[1]["uid"] == "v"
