"""Where a group begins that has committed nothing."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any, Literal

from gixi_bluesky.errors import ConfigError
from gixi_bluesky.log import get_logger

__all__ = ["StartAt", "start_offsets"]

_REACH_S = 30.0
_log = get_logger()


@dataclass(frozen=True, slots=True)
class StartAt:
    """The end or the beginning of a topic, or a time (seconds since 1970)."""

    where: Literal["latest", "earliest"] | float

    @classmethod
    def parse(cls, text: str) -> StartAt:
        """Return what latest, earliest or an ISO 8601 time means. Raises ConfigError.

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
    """Return the partitions with their offsets: what the group committed, else as `start_at`."""
    if not partitions:
        return []
    from confluent_kafka import TopicPartition

    committed = client.committed(partitions, timeout=_REACH_S)
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
