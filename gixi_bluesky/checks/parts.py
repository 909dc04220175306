"""The parts of a configuration, each tested apart: what was found, or how to fix it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gixi_bluesky.checks.findings import Finding
from gixi_bluesky.errors import GeometryError, GixiError
from gixi_bluesky.plurals import counted

if TYPE_CHECKING:
    from gixi_bluesky.config import Config

__all__ = ["DECIDING", "PLACES", "Found", "Part", "finding"]

Found = str | tuple[str, list[str]]
Part = tuple[str, Callable[["Config"], Found]]


def finding(part: str, attempt: Callable[[], Found]) -> Finding:
    """Test one part; an error that it raises is the finding.

    attempt: returns what was found, or that and warnings
    """
    try:
        found = attempt()
    except (GixiError, OSError) as error:
        return Finding(part, ok=False, detail=str(error))
    detail, warnings = (found, []) if isinstance(found, str) else found
    return Finding(part, ok=True, detail=detail, warnings=tuple(warnings))


def _geometry(config: Config) -> Found:
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


def _mask(config: Config) -> Found:
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
        parts.append(f"{counted(corrections.sum_frames, 'image')} a frame")
    return "; ".join(parts) or "no dark, no flat"


def _structures(config: Config) -> Found:
    from gixi_bluesky.processing.structures.cif_files import read_candidates

    found = read_candidates(config.matching.cif, q_max=config.grid.q_max_inv_angstrom)
    if not found.structures:
        return "none; peaks are found but no phases: give matching.cif"
    doubts = [f"{one.name}: {doubt}" for one in found.structures for doubt in one.doubts]
    doubts += [f"left out: {reason}" for reason in found.left_out]
    named = ", ".join(
        f"{one.name} ({counted(len(one.reflections.q), 'line')})" for one in found.structures
    )
    return named, doubts


def _weights(config: Config) -> Found:
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


# The parts that decide results, and those that say where data come from and go to.
DECIDING: tuple[Part, ...] = (
    ("geometry", _geometry),
    ("mask", _mask),
    ("corrections", _corrections),
    ("structures", _structures),
    ("weights", _weights),
)
PLACES: tuple[Part, ...] = (
    ("input roots", _roots),
    ("results directory", _results),
    ("Tiled", _tiled),
)
