"""`consume`: the Kafka consumer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gixi_bluesky.cli.console import complain
from gixi_bluesky.cli.options import ConfigFile

if TYPE_CHECKING:
    from gixi_bluesky.config import Config

__all__ = ["consume", "with_kafka"]


def consume(
    ctx: typer.Context,
    config: ConfigFile,
    bootstrap: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Brokers; instead of kafka.bootstrap."),
    ] = None,
    topic: Annotated[
        list[str] | None,
        typer.Option(metavar="TOPIC", help="May be given again; instead of kafka.topics."),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Consumers of one group share the partitions."),
    ] = None,
    tiled: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Server for the results; its key is in TILED_API_KEY."),
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="latest|earliest|TIME",
            help="Where a group starts that has no committed offsets.",
        ),
    ] = "latest",
    heartbeat: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the consumer's status to this file every second."),
    ] = None,
) -> None:
    """Analyse the runs of Kafka topics until SIGTERM, SIGUSR1 or Ctrl-C, then shut down in order.

    A second Ctrl-C stops at once. The next consumer reads again what was not stored.
    """
    import sys

    from gixi_bluesky.callbacks.kafka.offsets import StartAt
    from gixi_bluesky.config import load_config
    from gixi_bluesky.errors import BrokerError
    from gixi_bluesky.log import configure_logging

    common = ctx.find_root().params
    if not common["debug"] and common["log_level"] == "warning":
        configure_logging("info", json=not sys.stderr.isatty())
    settings = with_kafka(
        load_config(config), bootstrap=bootstrap, topics=topic, group=group, tiled=tiled
    )
    if heartbeat is not None:
        kafka = settings.kafka.model_copy(update={"heartbeat_file": heartbeat.absolute()})
        settings = settings.model_copy(update={"kafka": kafka})
    start_at = StartAt.parse(start)

    from gixi_bluesky.callbacks.kafka.service import Service, asked_to_stop

    service = Service(settings, start_at)
    try:
        with asked_to_stop() as stopping:
            service.run(stopping)
    except BrokerError as error:
        if not service.served:
            raise
        # Status 2 means a wrong set-up, after which a supervisor does not restart the consumer.
        complain(str(error))
        raise typer.Exit(1) from error


def with_kafka(
    config: Config,
    *,
    bootstrap: str | None = None,
    topics: list[str] | None = None,
    group: str | None = None,
    tiled: str | None = None,
) -> Config:
    """Return the configuration with the options of the command line. Raises ConfigError."""
    from pydantic import ValidationError

    from gixi_bluesky.callbacks.kafka.settings import KafkaSettings
    from gixi_bluesky.errors import ConfigError

    given: dict[str, Any] = {"bootstrap": bootstrap, "topics": topics, "group": group}
    options = {key: value for key, value in given.items() if value}
    try:
        kafka = KafkaSettings.model_validate(config.kafka.model_dump() | options)
    except ValidationError as error:
        message = "; ".join(problem["msg"] for problem in error.errors(include_url=False))
        raise ConfigError(message) from error
    update: dict[str, Any] = {"kafka": kafka}
    if tiled is not None:
        update["tiled"] = config.tiled.model_copy(update={"uri": tiled})
    return config.model_copy(update=update)
