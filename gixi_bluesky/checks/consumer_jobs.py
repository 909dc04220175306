"""Requirements on a configuration before consumers are submitted as jobs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gixi_bluesky.errors import ConfigError

if TYPE_CHECKING:
    from gixi_bluesky.config import Config

__all__ = ["require_complete", "require_keys"]


def require_complete(
    config: Config,
    bootstrap: str | None = None,
    topics: Sequence[str] = (),
    tiled: str | None = None,
) -> None:
    """Raise ConfigError if the consumers would not know their brokers, topics or Tiled server.

    bootstrap, topics, tiled: given apart from the configuration
    """
    wanted = (
        (bootstrap or config.kafka.bootstrap, "--bootstrap HOST:PORT or kafka.bootstrap"),
        (topics or config.kafka.topics, "--topic TOPIC or kafka.topics"),
        (tiled or config.tiled.uri, "--tiled URI or tiled.uri"),
    )
    if missing := [how for value, how in wanted if not value]:
        message = f"the consumers need more settings: give {', '.join(missing)}"
        raise ConfigError(message)


def require_keys(config: Config) -> None:
    """Raise ConfigError for a key that the jobs could not read."""
    secrets = (
        ("TILED_API_KEY", "tiled.api_key_file", config.tiled.api_key_file),
        ("KAFKA_SASL_PASSWORD", "kafka.sasl_password_file", config.kafka.sasl_password_file),
    )
    for variable, key, file in secrets:
        if file is not None and not file.is_file():
            message = f"{key} names {file}, which is not there"
            raise ConfigError(message)
        if file is None and variable in os.environ:
            message = (
                f"{variable} does not reach the jobs, whose environment is clean; put it into a "
                f"file that only you can read and every node sees, and name that in {key}"
            )
            raise ConfigError(message)
