"""`check`: tests each part of a configuration and says how to fix what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gixi_bluesky.checks.parts import DECIDING, PLACES, Found, Part, finding
from gixi_bluesky.cli.console import say
from gixi_bluesky.cli.findings import show
from gixi_bluesky.cli.images import first_image
from gixi_bluesky.cli.options import JsonLines

if TYPE_CHECKING:
    from gixi_bluesky.config import Config

__all__ = ["check"]


def check(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="The configuration, YAML."),
    ] = None,
    image: Annotated[
        str | None, typer.Argument(metavar="[IMAGE]", help="Also analyse this image.")
    ] = None,
    run: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="TILED_URI UID", help="Inspect a stored run instead."),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --run: write a configuration to start from."),
    ] = None,
    bootstrap: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Also try Kafka there, with kafka.topics."),
    ] = None,
    topic: Annotated[
        list[str] | None, typer.Option(metavar="TOPIC", help="Replaces kafka.topics.")
    ] = None,
    consumers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Planned number of consumers that share the topics."),
    ] = None,
    json: JsonLines = False,
) -> None:
    """Try each part of the set-up: geometry, mask, CIFs, weights, folders, Tiled, Kafka.

    With --run, print which key of a stored run is the image, what geometry its documents hold and
    what is missing. The exit status is 1 when a part has a problem.
    """
    if run is not None:
        _check_run(*run, write, json=json)
        return
    if config is None:
        raise typer.BadParameter("give --config FILE, or --run TILED_URI UID")
    findings = []
    kafka = (bootstrap, topic, consumers)
    for part, attempt in _attempts(config, image, kafka):
        findings.append(finding(part, attempt))
        show(findings[-1], json=json)
        if part == "configuration" and not findings[-1].ok:
            break
    if not all(one.ok for one in findings):
        raise typer.Exit(1)


def _check_run(uri: str, uid: str, write: Path | None, *, json: bool) -> None:
    from gixi_bluesky.cli.run_report import findings_of, read_run, starter_config

    found = read_run(uri, uid)
    findings = findings_of(found)
    for one in findings:
        show(one, json=json)
    if write is not None:
        with write.open("x", encoding="utf-8") as file:  # never overwrites a file
            file.write(starter_config(found))
        say(f"wrote {write}")
    if not all(one.ok for one in findings):
        raise typer.Exit(1)


_Kafka = tuple[str | None, list[str] | None, int | None]


def _attempts(
    file: Path, image: str | None, kafka: _Kafka
) -> list[tuple[str, Callable[[], Found]]]:
    """Return the tests of the parts in order; each raises an error if the part has a fault.

    Each returns what was found, or that and warnings.
    """
    from gixi_bluesky.config import load_config

    loaded: list[Config] = []

    def configuration() -> str:
        loaded.append(load_config(file))
        return str(file)

    parts: list[Part] = [
        *DECIDING,
        *PLACES,
        ("Kafka", lambda config: _kafka(config, image, kafka)),
    ]
    if image is not None:
        parts.append(("image", lambda config: _image(config, image)))
    attempts = [(name, lambda part=part: part(loaded[0])) for name, part in parts]
    return [("configuration", configuration), *attempts]


def _kafka(config: Config, image: str | None, asked: _Kafka) -> Found:
    from gixi_bluesky.callbacks.kafka.broker_checks import kafka_warnings
    from gixi_bluesky.cli.consume import with_kafka

    bootstrap, topics, consumers = asked
    config = with_kafka(config, bootstrap=bootstrap, topics=topics)
    if config.kafka.bootstrap is None:
        return "none; `consume` needs kafka.bootstrap or --bootstrap"
    nbytes = None if image is None else int(first_image(config, image)[1].nbytes)
    return kafka_warnings(config, consumers=consumers, image_bytes=nbytes)


def _image(config: Config, name: str) -> Found:
    from gixi_bluesky.callbacks import with_fetched_dark
    from gixi_bluesky.checks.image import check_image

    return check_image(with_fetched_dark(config), *first_image(config, name))
