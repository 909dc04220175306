"""Checks of a Kafka set-up for settings that fail in long or large runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gixi_bluesky.callbacks.kafka.clients import new_admin, require_topics
from gixi_bluesky.callbacks.kafka.settings import KafkaConfig, KafkaSettings
from gixi_bluesky.errors import ConfigError
from gixi_bluesky.log import get_logger

__all__ = ["kafka_warnings"]

_REACH_S = 15.0
_HOUR_S = 3600.0
_log = get_logger()


def kafka_warnings(
    config: KafkaConfig, *, consumers: int | None = None, image_bytes: int | None = None
) -> tuple[str, list[str]]:
    """Return a description of the topics, and warnings.

    config: the package's Config
    consumers: how many are meant to be started; None = those that are in the group now
    image_bytes: of one image, if that is known, in case images travel inside documents
    Raises ConfigError without topics, or for topics that are not there, and BrokerError.
    """
    settings: KafkaSettings = config.kafka
    if not settings.topics:
        message = "no topic is configured; give kafka.topics"
        raise ConfigError(message)
    admin = new_admin(settings)
    partitions = require_topics(admin, settings, settings.topics)
    found = ", ".join(f"{topic} ({n} partitions)" for topic, n in partitions.items())
    warnings = [
        *_of_roots(config),
        *_of_consumers(admin, settings, sum(partitions.values()), consumers),
    ]
    for topic, options in _options(admin, settings.topics).items():
        warnings += _of_retention(topic, options, settings)
        warnings += _of_size(topic, options, image_bytes, settings)
    return found, warnings


def _of_roots(config: KafkaConfig) -> Iterator[str]:
    if not config.input.roots:
        yield "input.roots is empty: `consume` will not start, since documents may name any file"


def _of_consumers(
    admin: Any, settings: KafkaSettings, partitions: int, consumers: int | None
) -> Iterator[str]:
    n = _members(admin, settings.group) if consumers is None else consumers
    if n > partitions:
        yield (
            f"{n} consumers share {partitions} partitions, so {n - partitions} will have nothing "
            "to do; give the topics more partitions or start fewer"
        )


def _of_retention(topic: str, options: Mapping[str, str], settings: KafkaSettings) -> Iterator[str]:
    retention_s = _number(options, "retention.ms", -1) / 1000
    if 0 <= retention_s < settings.longest_run_h * _HOUR_S:
        yield (
            f"{topic} keeps messages for {retention_s / _HOUR_S:.3g} h, and a run may take "
            f"{settings.longest_run_h:g} h (kafka.longest_run_h): after a crash the start of such "
            "a run is gone; have retention.ms raised"
        )


def _of_size(
    topic: str, options: Mapping[str, str], image_bytes: int | None, settings: KafkaSettings
) -> Iterator[str]:
    if image_bytes is None:
        return
    limit = _number(options, "max.message.bytes", -1)
    if 0 <= limit < image_bytes:
        yield (
            f"{topic} takes messages of {limit} bytes and an image has {image_bytes}: events that "
            "hold images will be missing; have max.message.bytes raised, or write files"
        )
    limit = int(settings.max_message_mib * (1 << 20))
    if limit < image_bytes:
        yield f"kafka.max_message_mib allows {limit} bytes and an image has {image_bytes}; raise it"


def _members(admin: Any, group: str) -> int:
    from confluent_kafka import KafkaException

    try:
        described = admin.describe_consumer_groups([group], request_timeout=_REACH_S)[group]
        return len(described.result(_REACH_S).members)
    except KafkaException as error:
        _log.info("group_unknown", group=group, error=str(error))
        return 0


def _options(admin: Any, topics: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Return the options of each topic, as the broker reports them."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import ConfigResource, ResourceType

    asked = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
    options_of = {}
    for resource, answer in admin.describe_configs(asked, request_timeout=_REACH_S).items():
        try:
            options = answer.result(_REACH_S)
        except KafkaException as error:
            _log.warning("topic_options_unknown", topic=resource.name, error=str(error))
            continue
        options_of[resource.name] = {name: option.value for name, option in options.items()}
    return options_of


def _number(options: Mapping[str, str], name: str, unknown: int) -> int:
    try:
        return int(options[name])
    except (KeyError, TypeError, ValueError):
        return unknown
