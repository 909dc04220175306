"""The consumer as a service: started from a configuration, ended by signals."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from gixi_bluesky.callbacks.derived.stores import store_builder
from gixi_bluesky.callbacks.kafka.clients import (
    create_topics,
    new_consumer,
    new_producer,
    require_topics,
)
from gixi_bluesky.callbacks.kafka.consumer import Consumer
from gixi_bluesky.callbacks.kafka.heartbeat import Heartbeat, State, write_heartbeat
from gixi_bluesky.callbacks.kafka.letters import DeadLetters
from gixi_bluesky.callbacks.kafka.membership import Membership
from gixi_bluesky.callbacks.kafka.offsets import StartAt
from gixi_bluesky.callbacks.kafka.outbox import Outbox, RunTopic
from gixi_bluesky.callbacks.kafka.run_analysis import ConsumedRuns
from gixi_bluesky.callbacks.kafka.settings import KafkaConfig, KafkaSettings
from gixi_bluesky.callbacks.worker.pool import PIPELINE
from gixi_bluesky.errors import ConfigError
from gixi_bluesky.log import get_logger
from gixi_bluesky.metrics import serve_metrics
from gixi_bluesky.processes.clock import SYSTEM_CLOCK, Clock
from gixi_bluesky.processes.retries import retrying

__all__ = ["Service", "asked_to_stop"]

_BEAT_S = 1.0
_RATE_S = 60.0
_TILED_PATIENCE_S = 120.0
_TILED_PAUSE_S = 2.0
_log = get_logger()


class Service:
    """Reads the configured topics until `stopping` returns True, then shuts down in order.

    config: the package's Config, with `kafka.bootstrap`, `kafka.topics`, `input.roots` and `tiled`
    start_at: where a group begins that has committed nothing
    factory: "module:name" of what builds the pipeline in the analysis process

    Raises what a wrong set-up raises: ConfigError, BrokerError, StoreError.
    """

    def __init__(
        self,
        config: KafkaConfig,
        start_at: StartAt,
        *,
        factory: str = PIPELINE,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        _require_safe(config)
        self._clock = clock
        self._config = config
        self._kafka: KafkaSettings = config.kafka
        self._start_at = start_at
        self._factory = factory
        self._state: State = "starting"
        self._served = False
        self._port: int | None = None
        self._parts: tuple[ConsumedRuns, Consumer, Outbox, DeadLetters] | None = None
        self._beat_at = 0.0
        self._rates: deque[tuple[float, int]] = deque()

    def run(self, stopping: Callable[[], bool]) -> None:
        """Serve until `stopping` returns True."""
        self._beat()
        try:
            with contextlib.ExitStack() as stack:
                self._start(stack, stopping)
                self._serve(stopping)
        except BaseException as error:
            self._state = "failed"
            with contextlib.suppress(OSError):
                self._beat(last_error=f"{type(error).__name__}: {error}")
            raise
        self._state = "stopped"
        self._beat()

    @property
    def served(self) -> bool:
        """True if the set-up is valid: the consumer has started to read."""
        return self._served

    def status(self) -> dict[str, Any]:
        """Return the status of the analysis, with messages, partitions and dead letters."""
        if self._parts is None:
            return {}
        analysis, consumer, outbox, letters = self._parts
        status = analysis.status()
        return {
            **status,
            "messages_read": consumer.messages,
            "dead_letters": letters.count,
            "undelivered": outbox.undelivered,
            "partitions": {
                str(place): {"lag": lag, "uncommitted": uncommitted}
                for place, (lag, uncommitted) in consumer.lags.items()
            },
            "last_error": status["last_error"] or consumer.last_error or outbox.last_error,
        }

    def _start(self, stack: contextlib.ExitStack, stopping: Callable[[], bool]) -> None:
        settings = self._kafka
        outbox = Outbox(lambda **more: new_producer(settings, **more))
        stack.callback(outbox.close)
        self._require_topics()
        self._await_tiled(stopping)
        spool = settings.shared_spool or self._config.output.directory
        membership = Membership(settings.session_s, self._clock)
        build = store_builder(
            self._config, session_s=settings.session_s, spool=spool, alive=membership
        )
        analysis = stack.enter_context(
            ConsumedRuns(
                self._config,
                build,
                factory=self._factory,
                echo=self._echo,
                trusts_spool=settings.shared_spool is not None,
                clock=self._clock,
            )
        )
        letters = DeadLetters(
            outbox,
            {topic: dead for topic, (_, dead) in settings.inputs.items()},
            lambda: new_consumer(settings, **{"group.id": f"{settings.group}.letters"}),
        )
        stack.callback(letters.close)
        consumer = Consumer(
            lambda **more: new_consumer(settings, **more),
            settings.topics,
            analysis,
            letters,
            membership,
            start_at=self._start_at,
            abandoned_s=settings.abandoned_s,
            clock=self._clock,
        )
        stack.callback(consumer.close)
        self._parts = (analysis, consumer, outbox, letters)
        if settings.metrics_port is not None:
            address = settings.metrics_address
            served = serve_metrics(self.status, settings.metrics_port, address)
            stack.callback(served)
            self._port = served.port

    def _serve(self, stopping: Callable[[], bool]) -> None:
        if self._parts is None:
            return
        _, consumer, outbox, _ = self._parts
        self._state = "running"
        self._served = True
        _log.info("consuming", topics=self._kafka.topics, group=self._kafka.group)
        while not stopping():
            consumer.step()
            outbox.poll()
            if self._clock.monotonic() >= self._beat_at:
                self._beat()
        self._state = "draining"
        self._beat()
        _log.info("draining")
        consumer.drain(self._kafka.drain_s, outbox.poll)
        if left := outbox.flush(_BEAT_S):
            _log.warning("messages_not_acknowledged", messages=left)

    def _require_topics(self) -> None:
        """Require all topics before anything is read."""
        settings = self._kafka
        probe = new_producer(settings)
        partitions = require_topics(probe, settings, settings.topics)
        wanted: dict[str, int] = {}
        for topic, (derived, dead) in settings.inputs.items():
            wanted[dead] = 1
            if derived is not None:
                wanted[derived] = partitions[topic]
        known = probe.list_topics(timeout=_TILED_PAUSE_S * 5).topics
        missing = {name: n for name, n in wanted.items() if name not in known}
        if missing:
            create_topics(settings, missing)

    def _await_tiled(self, stopping: Callable[[], bool]) -> None:
        """Wait for a server that is away, as in a restart; a refusal by the server is an error."""
        uri = self._config.tiled.uri

        def report(error: BaseException) -> None:
            _log.warning("tiled_away", uri=uri, error=repr(error))
            self._beat(last_error=f"Tiled is away: {error!r}")

        again = retrying(
            httpx.TransportError,
            patience_s=_TILED_PATIENCE_S,
            until=stopping,
            longest_s=_TILED_PAUSE_S,
            before_pause=report,
        )
        with contextlib.suppress(httpx.TransportError):  # the store raises what is wrong
            again(httpx.get, uri, timeout=_TILED_PAUSE_S * 5)

    def _echo(self, run_uid: str) -> RunTopic | None:
        if self._parts is None:
            return None
        _, consumer, outbox, _ = self._parts
        raw = consumer.topic_of(run_uid)
        derived, _dead = self._kafka.inputs.get(raw or "", (None, ""))
        return None if derived is None else RunTopic(outbox, derived, run_uid)

    def _beat(self, last_error: str = "") -> None:
        self._beat_at = self._clock.monotonic() + _BEAT_S
        path = self._kafka.heartbeat_file
        if path is None:
            return
        status = self.status()
        partitions = status.get("partitions", {})
        frames = sum(status.get(f"frames_{end}", 0) for end in ("done", "dropped", "failed"))
        heartbeat = Heartbeat(
            pid=os.getpid(),
            host=socket.gethostname(),
            time=self._clock.wall(),
            state=self._state,
            group=self._kafka.group,
            topics=self._kafka.topics,
            metrics_port=self._port,
            partitions=tuple(sorted(partitions)),
            lag=sum(numbers["lag"] for numbers in partitions.values()),
            frames=frames,
            frames_per_second=self._rate(frames),
            last_error=last_error or status.get("last_error", ""),
            threads=status.get("threads", {}),
        )
        try:
            write_heartbeat(path, heartbeat)
        except OSError as error:
            _log.warning("heartbeat_not_written", path=str(path), error=str(error))

    def _rate(self, frames: int) -> float:
        """Return frames a second over the last minute."""
        now = self._clock.monotonic()
        self._rates.append((now, frames))
        while self._rates[0][0] < now - _RATE_S and len(self._rates) > 1:
            self._rates.popleft()
        since, before = self._rates[0]
        return round((frames - before) / (now - since), 3) if now > since else 0.0


@contextlib.contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns True after SIGTERM, SIGUSR1 or SIGINT.

    A second Ctrl-C ends the process at once. A second SIGTERM does not: Slurm sends SIGTERM to
    every process of a job, and the job's shell passes it on.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    asked: list[int] = []

    def ask(number: int, _: object) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _require_safe(config: KafkaConfig) -> None:
    """Raise ConfigError if a setting is missing that a consumer of foreign documents needs."""
    if not config.kafka.topics:
        message = "no topic is configured; give --topic TOPIC or kafka.topics"
        raise ConfigError(message)
    if not config.input.roots:
        message = (
            "documents from Kafka may name any file: give input.roots, the folders below which "
            "images are read (and input.root_map, where they lie elsewhere on this machine)"
        )
        raise ConfigError(message)
    if config.tiled.uri is None:
        message = "no Tiled server is configured; give --tiled URI or tiled.uri"
        raise ConfigError(message)
