"""Clients of librdkafka made from the settings; the only place with its options."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from gixi_bluesky.callbacks.kafka.settings import KafkaSettings
from gixi_bluesky.errors import BrokerError, ConfigError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.retries import retrying

__all__ = ["create_topics", "new_admin", "new_consumer", "new_producer", "require_topics"]

_MIB = 1 << 20
_REACH_S = 15.0
_SEEN_S = 10.0  # until every broker has the metadata of a new topic
_POLL_S = 60.0  # a main loop that does not poll within this time is dead
_BEATS_PER_SESSION = 10
_log = get_logger()


def new_consumer(settings: KafkaSettings, **more: Any) -> Any:
    """Return a consumer of the group without automatic commits.

    Raises ConfigError for options that librdkafka refuses and without confluent-kafka.
    """
    session_ms = int(settings.session_s * 1000)
    size = int(settings.max_message_mib * _MIB)
    return _client(
        "Consumer",
        settings,
        {
            "group.id": settings.group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # Messages beyond the retention are lost; all that are left must be read.
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            # Runs stay with their consumer when others join or leave.
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": session_ms,
            "heartbeat.interval.ms": min(1000, session_ms // _BEATS_PER_SESSION),
            "max.poll.interval.ms": max(int(_POLL_S * 1000), session_ms),
            "topic.metadata.refresh.interval.ms": 5000,
            "fetch.message.max.bytes": size,
            "fetch.max.bytes": max(size, 50 * _MIB),
            "receive.message.max.bytes": max(2 * size, 100 * _MIB),
            "queued.max.messages.kbytes": max(2 * size, 64 * _MIB) // 1024,
            **more,
        },
    )


def new_producer(settings: KafkaSettings, **more: Any) -> Any:
    """Return an idempotent producer. Raises ConfigError."""
    return _client(
        "Producer",
        settings,
        {
            "enable.idempotence": True,
            "linger.ms": 20,
            "compression.type": "lz4",
            "message.max.bytes": int(settings.max_message_mib * _MIB),
            "topic.metadata.refresh.interval.ms": 5000,
            **more,
        },
    )


def new_admin(settings: KafkaSettings) -> Any:
    """Return an admin client for topics and groups. Raises ConfigError."""
    return _client("AdminClient", settings, {}, module="confluent_kafka.admin")


def require_topics(client: Any, settings: KafkaSettings, topics: Iterable[str]) -> dict[str, int]:
    """Return the number of partitions of each topic. Raises BrokerError and ConfigError."""
    from confluent_kafka import KafkaException

    try:
        known = client.list_topics(timeout=_REACH_S).topics
    except KafkaException as error:
        message = (
            f"cannot use the Kafka broker {settings.bootstrap}: {error.args[0].str()}; is it "
            "running, and are kafka.protocol, user and password right?"
        )
        raise BrokerError(message) from error
    missing = [topic for topic in topics if topic not in known or not known[topic].partitions]
    if missing:
        message = (
            f"the broker {settings.bootstrap} has no topic {', '.join(missing)}, or does not show "
            f"it to us; it shows {', '.join(sorted(known)[:20]) or 'none'}"
        )
        raise ConfigError(message)
    return {topic: len(known[topic].partitions) for topic in topics}


def create_topics(settings: KafkaSettings, wanted: dict[str, int]) -> None:
    """Create topics with these numbers of partitions, those that are missing, and see them.

    Raises BrokerError, and ConfigError for one that the broker does not let us create.
    """
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import NewTopic

    admin = new_admin(settings)
    size = str(int(settings.max_message_mib * _MIB))
    topics = [
        NewTopic(name, num_partitions=n, config={"max.message.bytes": size})
        for name, n in wanted.items()
    ]
    for name, done in admin.create_topics(topics, request_timeout=_REACH_S).items():
        try:
            done.result(_REACH_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                _log.warning("topic_not_created", topic=name, error=str(error))
    again = retrying(ConfigError, patience_s=_SEEN_S, first_s=_SEEN_S / 50, longest_s=1.0)
    again(require_topics, admin, settings, wanted)


def _client(
    kind: str, settings: KafkaSettings, options: dict[str, Any], module: str = "confluent_kafka"
) -> Any:
    from importlib import import_module

    try:
        build: Callable[..., Any] = getattr(import_module(module), kind)
    except ImportError as error:
        message = (
            f"Kafka needs confluent-kafka; install it: pip install 'gixi_bluesky[kafka]' ({error})"
        )
        raise ConfigError(message) from error
    if settings.bootstrap is None:
        message = "no Kafka broker is configured; give --bootstrap HOST:PORT or kafka.bootstrap"
        raise ConfigError(message)
    whole = {
        "bootstrap.servers": settings.bootstrap,
        "client.id": "gixi-bluesky",
        "reconnect.backoff.max.ms": 2000,
        "log_level": 2,  # what goes wrong comes through the callbacks too
        **options,
        **settings.options,
        **_security(settings),
    }
    try:
        return build(whole)
    # librdkafka's messages name the option and never its value.
    except Exception as error:
        message = f"Kafka refuses the settings: {error}"
        raise ConfigError(message) from error


def _security(settings: KafkaSettings) -> dict[str, Any]:
    options: dict[str, Any] = {"security.protocol": settings.protocol}
    if settings.sasl_mechanism is not None:
        options["sasl.mechanism"] = settings.sasl_mechanism
    username = settings.sasl_username or os.environ.get("KAFKA_SASL_USERNAME")
    if username is not None:
        options["sasl.username"] = username
    secrets = {
        "sasl.password": _secret("KAFKA_SASL_PASSWORD", settings.sasl_password_file),
        "ssl.key.password": _secret("KAFKA_SSL_KEY_PASSWORD", None),
    }
    options |= {key: value.get_secret_value() for key, value in secrets.items() if value}
    for key, path in (
        ("ssl.ca.location", settings.ssl_ca_file),
        ("ssl.certificate.location", settings.ssl_certificate_file),
        ("ssl.key.location", settings.ssl_key_file),
    ):
        if path is not None:
            options[key] = str(path)
    return options


def _secret(variable: str, path: Path | None) -> SecretStr | None:
    if path is None:
        value = os.environ.get(variable)
        return None if value is None else SecretStr(value)
    try:
        return SecretStr(path.read_text(encoding="utf-8").strip())
    except OSError as error:
        message = f"cannot read the password file {path}: {error.strerror}"
        raise ConfigError(message) from error
