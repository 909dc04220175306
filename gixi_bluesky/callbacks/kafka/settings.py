"""Settings of the Kafka consumer; passwords come from files or the environment, never from here."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Protocol

from pydantic import Field, field_validator, model_validator

from gixi_bluesky.callbacks.settings import AnalysisConfig, Pairs
from gixi_bluesky.processing.settings import FilePath, PositiveFloat, Settings

__all__ = ["KafkaConfig", "KafkaSettings"]

_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
# Options of librdkafka that may be set: how it connects, waits and packs. All others hold secrets,
# name files or code to load, or decide what may be lost.
_ALLOWED = frozenset(
    {
        "allow.auto.create.topics",
        "batch.num.messages",
        "batch.size",
        "broker.address.family",
        "broker.address.ttl",
        "check.crcs",
        "client.dns.lookup",
        "client.id",
        "client.rack",
        "compression.codec",
        "compression.level",
        "compression.type",
        "connections.max.idle.ms",
        "debug",
        "enable.metrics.push",
        "enable.ssl.certificate.verification",
        "fetch.error.backoff.ms",
        "fetch.max.bytes",
        "fetch.message.max.bytes",
        "fetch.min.bytes",
        "fetch.queue.backoff.ms",
        "fetch.wait.max.ms",
        "heartbeat.interval.ms",
        "isolation.level",
        "linger.ms",
        "log_level",
        "max.partition.fetch.bytes",
        "max.poll.interval.ms",
        "message.max.bytes",
        "metadata.max.age.ms",
        "metadata.recovery.strategy",
        "queue.buffering.max.kbytes",
        "queue.buffering.max.messages",
        "queue.buffering.max.ms",
        "queued.max.messages.kbytes",
        "queued.min.messages",
        "receive.message.max.bytes",
        "reconnect.backoff.max.ms",
        "reconnect.backoff.ms",
        "request.timeout.ms",
        "retry.backoff.max.ms",
        "retry.backoff.ms",
        "sasl.kerberos.principal",
        "sasl.kerberos.service.name",
        "socket.connection.setup.timeout.ms",
        "socket.keepalive.enable",
        "socket.max.fails",
        "socket.nagle.disable",
        "socket.receive.buffer.bytes",
        "socket.send.buffer.bytes",
        "socket.timeout.ms",
        "ssl.cipher.suites",
        "ssl.curves.list",
        "ssl.endpoint.identification.algorithm",
        "ssl.sigalgs.list",
        "statistics.interval.ms",
        "topic.metadata.propagation.max.ms",
        "topic.metadata.refresh.fast.interval.ms",
        "topic.metadata.refresh.interval.ms",
        "topic.metadata.refresh.sparse",
    }
)


class KafkaSettings(Settings):
    """The source of documents, and the topics of derived documents and refused messages."""

    bootstrap: str | None = Field(None, description="host:port of one or more brokers, by commas")
    topics: tuple[str, ...] = ()
    group: Annotated[str, Field(min_length=1)] = "gixi"
    derived_topic: str | None = Field(
        "{topic}.gixi", description="derived documents are published here too; null = nowhere"
    )
    dead_letter_topic: str = Field(
        "{topic}.dead-letters", description="messages that cannot be used go here, with the reason"
    )
    abandoned_s: PositiveFloat = Field(
        3600.0, description="a run without a stop is closed when it was silent for so long"
    )
    longest_run_h: PositiveFloat = Field(
        24.0, description="what `check` compares the retention of the topics with"
    )
    shared_spool: FilePath | None = Field(
        None,
        description="folder that every consumer of the group sees: a run whose stop is there "
        "counts as safe while Tiled is away",
    )
    max_message_mib: Annotated[float, Field(gt=0, le=1000)] = 64.0
    session_s: Annotated[float, Field(ge=1, le=600)] = Field(
        15.0, description="a consumer that was silent for so long has lost its partitions and runs"
    )
    drain_s: PositiveFloat = Field(60.0, description="how long SIGTERM may take to end in order")
    heartbeat_file: FilePath | None = None
    metrics_address: str = "127.0.0.1"
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        0, description="0 = a free one, written to the heartbeat file; null = no metrics"
    )
    protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI"] | None = None
    sasl_username: str | None = None
    sasl_password_file: FilePath | None = Field(
        None, description="null: the password is in KAFKA_SASL_PASSWORD"
    )
    ssl_ca_file: FilePath | None = None
    ssl_certificate_file: FilePath | None = None
    ssl_key_file: FilePath | None = Field(
        None, description="its password, if it has one, is in KAFKA_SSL_KEY_PASSWORD"
    )
    options: Annotated[dict[str, str | int | float | bool], Pairs] = Field(
        default_factory=dict,
        description="more options of librdkafka, of how it connects, waits and packs",
    )

    @property
    def inputs(self) -> dict[str, tuple[str | None, str]]:
        """The topics for derived documents and for dead letters, by input topic."""
        derived, letters = self.derived_topic, self.dead_letter_topic
        return {
            topic: (derived and derived.format(topic=topic), letters.format(topic=topic))
            for topic in self.topics
        }

    @field_validator("derived_topic", "dead_letter_topic")
    @classmethod
    def _named(cls, value: str | None) -> str | None:
        if value is not None and not _TOPIC.fullmatch(value.replace("{topic}", "")):
            message = f"got {value!r}; expected the name of a topic, with or without {{topic}}"
            raise ValueError(message)
        return value

    @field_validator("topics")
    @classmethod
    def _names(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if not _TOPIC.fullmatch(value):
                message = f"got the topic {value!r}; expected letters, digits, dots, _ and -"
                raise ValueError(message)
        return tuple(dict.fromkeys(values))

    @field_validator("options")
    @classmethod
    def _allowed(
        cls, values: dict[str, str | int | float | bool]
    ) -> dict[str, str | int | float | bool]:
        if refused := [key for key in values if key.lower() not in _ALLOWED]:
            message = (
                f"{', '.join(refused)[:200]} cannot be set here: secrets belong in files or the "
                "environment, files, code and delivery are fixed; allowed are "
                f"{', '.join(sorted(_ALLOWED))}"
            )
            raise ValueError(message)
        # librdkafka takes its options in any case.
        return {key.lower(): value for key, value in values.items()}

    @model_validator(mode="after")
    def _no_circle(self) -> KafkaSettings:
        outputs = {name for pair in self.inputs.values() for name in pair}
        if circle := outputs & set(self.topics):
            message = f"{', '.join(sorted(map(str, circle)))} is read and written at once"
            raise ValueError(message)
        return self


class KafkaConfig(AnalysisConfig, Protocol):
    """The parts of a configuration that the consumer uses itself; `config.Config` has them."""

    @property
    def kafka(self) -> KafkaSettings: ...  # noqa: D102
