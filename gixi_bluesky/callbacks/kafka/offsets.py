"""The start offsets of a group that has committed nothing."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any, Literal

from gixi_bluesky.callbacks.kafka.marks import Place
from gixi_bluesky.errors import BrokerError, ConfigError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.retries import retrying

__all__ = ["StartAt", "end_of", "start_offsets"]

_REACH_S = 10.0
_PATIENCE_S = 40.0
_PAUSE_S = 0.5
_log = get_logger()


@dataclass(frozen=True, slots=True)
class StartAt:
    """The end or the beginning of a topic, or a time (seconds since 1970)."""

    where: Literal["latest", "earliest"] | float

    @classmethod
    def parse(cls, text: str) -> StartAt:
        """Return the start for `latest`, `earliest` or an ISO 8601 time. Raises ConfigError.

        A time without a zone is local.
        """
        if text == "latest":
            return cls("latest")
        if text == "earliest":
            return cls("earliest")
        try:
            return cls(datetime.datetime.fromisoformat(text).timestamp())
        except ValueError as error:
            message = (
                f"got --from {text!r}; expected latest, earliest or a time such as "
                "2026-01-31T08:00 or 2026-01-31T08:00:00+01:00"
            )
            raise ConfigError(message) from error


def start_offsets(client: Any, partitions: list[Any], start_at: StartAt) -> list[Any]:
    """Return the partitions with their offsets: what the group committed, else as `start_at`.

    Retries for a while, then raises BrokerError, since any other start would lose messages.
    """
    from confluent_kafka import KafkaException

    if not partitions:
        return []
    again = retrying(
        KafkaException,
        patience_s=_PATIENCE_S,
        longest_s=_PAUSE_S,
        before_pause=lambda error: _log.warning("offsets_unknown", error=str(error)),
    )
    try:
        return again(_offsets, client, partitions, start_at)
    except KafkaException as error:
        message = f"the broker does not return the offsets of the group: {error.args[0].str()}"
        raise BrokerError(message) from error


def end_of(client: Any, place: Place, *, cached: bool = False) -> int | None:
    """Return the offset after the last message of a partition, None while unknown.

    cached: from the last messages, without a request to the broker
    """
    from confluent_kafka import KafkaException, TopicPartition

    where = TopicPartition(place.topic, place.number)
    try:
        limits = client.get_watermark_offsets(where, timeout=_REACH_S / 2, cached=cached)
    except KafkaException:
        return None
    return None if limits is None else int(limits[1])


def _offsets(client: Any, partitions: list[Any], start_at: StartAt) -> list[Any]:
    from confluent_kafka import KafkaException, TopicPartition

    committed = client.committed(partitions, timeout=_REACH_S)
    for one in committed:
        if one.error is not None:
            raise KafkaException(one.error)
    return [
        one
        if one.offset >= 0
        else TopicPartition(one.topic, one.partition, _first(client, one, start_at))
        for one in committed
    ]


def _first(client: Any, partition: Any, start_at: StartAt) -> int:
    from confluent_kafka import TopicPartition

    low, high = client.get_watermark_offsets(partition, timeout=_REACH_S)
    if start_at.where == "latest":
        return int(high)
    if start_at.where == "earliest":
        return int(low)
    milliseconds = int(start_at.where * 1000)
    asked = TopicPartition(partition.topic, partition.partition, milliseconds)
    (found,) = client.offsets_for_times([asked], timeout=_REACH_S)
    return int(found.offset) if found.offset >= 0 else int(high)
