"""Settings of the Kafka consumer; passwords come from files or the environment, never from here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from gixi_bluesky.callbacks.settings import Pairs
from gixi_bluesky.processing.settings import PositiveFloat, Settings

__all__ = ["KafkaSettings"]

_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
# What librdkafka must not be told from a file: secrets, code to load, and what safety rests on.
_REFUSED = re.compile(
    r".*(password|secret|pem|token).*|plugin\..*|sasl\.oauthbearer\.config|bootstrap\.servers"
    r"|metadata\.broker\.list|group\.id|enable\.auto.*|auto\.offset\.reset"
    r"|partition\.assignment\.strategy|group\.protocol|enable\.idempotence"
)


class KafkaSettings(Settings):
    """Where documents come from, and where derived documents and refused messages go."""

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
    shared_spool: Path | None = Field(
        None,
        description="folder that every consumer of the group sees: a run whose stop is there "
        "counts as safe while Tiled is away",
    )
    max_message_mib: Annotated[float, Field(gt=0, le=1000)] = 64.0
    session_s: Annotated[float, Field(ge=1, le=600)] = Field(
        15.0, description="a consumer that was silent for so long has lost its partitions and runs"
    )
    drain_s: PositiveFloat = Field(60.0, description="how long SIGTERM may take to end in order")
    heartbeat_file: Path | None = None
    metrics_address: str = "127.0.0.1"
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        0, description="0 = a free one, told in the heartbeat file; null = no metrics"
    )
    protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI"] | None = None
    sasl_username: str | None = None
    sasl_password_file: Path | None = Field(
        None, description="null: the password is in KAFKA_SASL_PASSWORD"
    )
    ssl_ca_file: Path | None = None
    ssl_certificate_file: Path | None = None
    ssl_key_file: Path | None = Field(
        None, description="its password, if it has one, is in KAFKA_SSL_KEY_PASSWORD"
    )
    options: Annotated[dict[str, str | int | float | bool], Pairs] = Field(
        default_factory=dict, description="more options of librdkafka; no secrets"
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
    def _harmless(
        cls, values: dict[str, str | int | float | bool]
    ) -> dict[str, str | int | float | bool]:
        for key in values:
            if _REFUSED.fullmatch(key):
                message = (
                    f"{key} cannot be set here: secrets belong into files or the environment, and "
                    "what nothing may be lost by is fixed"
                )
                raise ValueError(message)
        return values

    @model_validator(mode="after")
    def _no_circle(self) -> KafkaSettings:
        outputs = {name for pair in self.inputs.values() for name in pair}
        if circle := outputs & set(self.topics):
            message = f"{', '.join(sorted(map(str, circle)))} is read and written at once"
            raise ValueError(message)
        return self
