"""`check`: tests each part of a configuration and says how to fix what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gixi_bluesky.checks.findings import Finding
from gixi_bluesky.cli.console import say
from gixi_bluesky.cli.findings import show
from gixi_bluesky.cli.images import first_image
from gixi_bluesky.cli.options import JsonLines
from gixi_bluesky.errors import GeometryError

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
    from gixi_bluesky.errors import GixiError

    if run is not None:
        _check_run(*run, write, json=json)
        return
    if config is None:
        raise typer.BadParameter("give --config FILE, or --run TILED_URI UID")
    findings = []
    kafka = (bootstrap, topic, consumers)
    for part, attempt in _attempts(config, image, kafka):
        warnings: list[str] = []
        try:
            detail, ok = attempt(), True
            if not isinstance(detail, str):
                detail, warnings = detail
        except (GixiError, OSError) as error:
            detail, ok = str(error), False
        findings.append(Finding(part, ok, detail, tuple(warnings)))
        show(findings[-1], json=json)
        if part == "configuration" and not ok:
            break
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def _check_run(uri: str, uid: str, write: Path | None, *, json: bool) -> None:
    from gixi_bluesky.cli.run_report import findings_of, read_run, starter_config

    found = read_run(uri, uid)
    findings = findings_of(found)
    for finding in findings:
        show(finding, json=json)
    if write is not None:
        with write.open("x", encoding="utf-8") as file:  # never overwrites a file
            file.write(starter_config(found))
        say(f"wrote {write}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


_Found = str | tuple[str, list[str]]
_Kafka = tuple[str | None, list[str] | None, int | None]


def _attempts(
    file: Path, image: str | None, kafka: _Kafka
) -> list[tuple[str, Callable[[], _Found]]]:
    """Return the tests of the parts in order; each raises an error if the part has a fault.

    Each returns what was found, or that and warnings.
    """
    from gixi_bluesky.config import load_config

    loaded: list[Config] = []

    def configuration() -> str:
        loaded.append(load_config(file))
        return str(file)

    parts: list[tuple[str, Callable[[Config], _Found]]] = [
        ("geometry", _geometry),
        ("mask", _mask),
        ("corrections", _corrections),
        ("structures", _structures),
        ("weights", _weights),
        ("input roots", _roots),
        ("results directory", _results),
        ("Tiled", _tiled),
        ("Kafka", lambda config: _kafka(config, image, kafka)),
    ]
    if image is not None:
        parts.append(("image", lambda config: _image(config, image)))
    attempts = [(name, lambda part=part: part(loaded[0])) for name, part in parts]
    return [("configuration", configuration), *attempts]


def _geometry(config: Config) -> _Found:
    from gixi_bluesky.checks.geometry_numbers import doubtful_numbers
    from gixi_bluesky.processing.geometry.instrument import Geometry
    from gixi_bluesky.processing.settings import GivenPerFrame

    if keys := config.geometry.changes_per_frame:
        return f"each frame has its own, from {', '.join(keys)} of the documents"
    geometry = Geometry.from_settings(config.geometry)
    q_max = config.grid.q_max_inv_angstrom
    doubts = doubtful_numbers(geometry, config.geometry)
    try:
        geometry.require_q(q_max)
    except GeometryError as error:
        raise GeometryError("; ".join((str(error), *doubts))) from error
    angle = config.geometry.incidence_angle_deg
    where = f"from {angle}" if isinstance(angle, GivenPerFrame) else f"{angle:g} deg"
    detail = (
        f"{geometry.wavelength_angstrom:.4f} angstrom, {geometry.distance_m * 1e3:.1f} mm, "
        f"incidence {where}, |q| up to {q_max:g} of {2 * geometry.wavenumber:.2f} 1/angstrom"
    )
    return detail, doubts


def _mask(config: Config) -> _Found:
    from gixi_bluesky.processing.pixels.masks import mask_of_any_size, mask_warning

    named = config.geometry.mask_file
    if named is None:
        return "none; only what the detector itself marks is left out"
    mask = mask_of_any_size(named)
    warning = mask_warning(mask)
    rows, columns = mask.shape
    detail = f"{named.file} leaves out {mask.mean():.1%} of {rows} x {columns} pixels"
    return detail, [warning] if warning else []


def _corrections(config: Config) -> str:
    from gixi_bluesky.callbacks import with_fetched_dark
    from gixi_bluesky.callbacks.documents.value_sources import DarkStream

    corrections = with_fetched_dark(config).corrections
    parts = []
    if isinstance(corrections.dark, DarkStream):
        parts.append(f"dark from the stream {corrections.dark.stream!r} of each run")
    for name, path in (("dark", corrections.dark_file), ("flat", corrections.flat)):
        if path is not None:
            with path.open("rb") as file:
                file.read(1)
            parts.append(f"{name} {path} is there")
    if corrections.sum_frames > 1:
        parts.append(f"{corrections.sum_frames} images a frame")
    return "; ".join(parts) or "no dark, no flat"


def _structures(config: Config) -> _Found:
    from gixi_bluesky.processing.structures.cif_files import read_candidates

    found = read_candidates(config.matching.cif, q_max=config.grid.q_max_inv_angstrom)
    if not found.structures:
        return "none; peaks are found but no phases: give matching.cif"
    doubts = [f"{one.name}: {doubt}" for one in found.structures for doubt in one.doubts]
    doubts += [f"left out: {reason}" for reason in found.left_out]
    named = ", ".join(f"{one.name} ({len(one.reflections.q)} lines)" for one in found.structures)
    return named, doubts


def _weights(config: Config) -> _Found:
    from gixi_bluesky.processing.detector import load_detector
    from gixi_bluesky.processing.detector.engines import faster_engine
    from gixi_bluesky.processing.detector.networks.light_detector import LightDetector

    settings = config.detector
    detector = load_detector(
        settings.weights, settings.device, settings.engine, space=config.grid.space
    )
    found = f"{detector.name}, sha256 {detector.sha256[:12]}, on {detector.device}"
    light = isinstance(detector, LightDetector)
    advice = faster_engine(detector.engine, detector.device) if light else None
    return f"{found} ({detector.engine})", [advice] if advice else []


def _roots(config: Config) -> str:
    for root in config.input.roots:
        next(root.iterdir(), None)
    if not config.input.roots:
        return "none; files are read wherever this process may read"
    return ", ".join(str(root) for root in config.input.roots)


def _results(config: Config) -> str:
    import shutil
    import tempfile

    directory = config.output.directory
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory):
        free = shutil.disk_usage(directory).free / 2**30
    return f"{directory}, {free:.1f} GiB free"


def _tiled(config: Config) -> str:
    if config.tiled.uri is None:
        return "none; results go to the results directory only: give tiled.uri"
    from gixi_bluesky.tiled_adapters.connection import derived_catalogue
    from gixi_bluesky.tiled_adapters.store.probe import probe_store

    probe_store(derived_catalogue(config.tiled), config.output, config.tiled)
    return f"{config.tiled.uri} takes, serves and removes runs in {config.tiled.derived!r}"


def _kafka(config: Config, image: str | None, asked: _Kafka) -> _Found:
    from gixi_bluesky.callbacks.kafka.broker_checks import kafka_warnings
    from gixi_bluesky.cli.consume import with_kafka

    bootstrap, topics, consumers = asked
    config = with_kafka(config, bootstrap=bootstrap, topics=topics)
    if config.kafka.bootstrap is None:
        return "none; `consume` needs kafka.bootstrap or --bootstrap"
    nbytes = None if image is None else int(first_image(config, image)[1].nbytes)
    return kafka_warnings(config, consumers=consumers, image_bytes=nbytes)


def _image(config: Config, name: str) -> _Found:
    from gixi_bluesky.callbacks import with_fetched_dark
    from gixi_bluesky.checks.image import check_image

    return check_image(with_fetched_dark(config), *first_image(config, name))
