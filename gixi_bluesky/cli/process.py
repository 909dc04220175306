"""`process`: analyse image files, or follow a folder that grows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gixi_bluesky.cli.console import output, print_json, say
from gixi_bluesky.cli.options import ConfigFile, JsonLines, configured_for_files, with_steps
from gixi_bluesky.errors import GixiError, RefusedPathError, UnavailableError

if TYPE_CHECKING:
    from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
    from gixi_bluesky.callbacks.images.locations import FrameRef
    from gixi_bluesky.callbacks.worker.pixels import ImageSource
    from gixi_bluesky.cli.records import FrameRecord
    from gixi_bluesky.config import Config
    from gixi_bluesky.processing import FrameResult, Pipeline

__all__ = ["process"]


def process(
    config: ConfigFile,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE...",
            help="TIFF, EDF, CBF, HDF5 or NumPy files; FILE::DATASET and FILE::NUMBER choose.",
        ),
    ] = None,
    watch: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Follow this growing folder instead.")
    ] = None,
    cif: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="CIF file or folder, instead of the configured ones."),
    ] = None,
    incidence_angle: Annotated[
        float | None,
        typer.Option(metavar="DEG", min=0, max=90, help="Instead of the configured one."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.h5", help="Write a NeXus file of all frames.")
    ] = None,
    stop_after: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=0.1, help="With --watch: end when no image came for so long."
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(metavar="N", help="With --watch: Prometheus metrics on this loopback port."),
    ] = None,
    step: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE::CLASS", help="A step of your own, behind the matching."),
    ] = None,
    json: JsonLines = False,
) -> None:
    """Find the peaks and phases of image files.

    An image that cannot be analysed gets its status and reason, and the others go on; the exit
    status is then 1.
    """
    # `--cif A.cif B.cif` reads the second as an image; its name tells what it is.
    named = images or []
    structures = [*(cif or []), *(Path(name) for name in named if name.lower().endswith(".cif"))]
    named = [name for name in named if not name.lower().endswith(".cif")]
    if bool(named) == (watch is not None):
        raise typer.BadParameter("give image files, or --watch and a folder")
    settings = with_steps(configured_for_files(config, structures, incidence_angle), step or [])
    if watch is None:
        records = _analysed(settings, named, out)
    else:
        from gixi_bluesky.cli.watch import watched

        records = watched(settings, watch, stop_after, metrics_port)
    all_ok = True
    for record in records:
        all_ok &= record.status == "ok"
        if json:
            print_json(record.as_json())
        else:
            record.show(output)
    if not all_ok:
        raise typer.Exit(1)


def _analysed(config: Config, names: Sequence[str], out: Path | None) -> Iterator[FrameRecord]:
    """Analyse image after image; write them to `out` at the end."""
    from gixi_bluesky.callbacks import with_fetched_dark
    from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
    from gixi_bluesky.callbacks.images.locations import FrameReader
    from gixi_bluesky.callbacks.worker.pixels import ImageSource
    from gixi_bluesky.processing import Pipeline

    config = with_fetched_dark(config)
    # Files named on the command line may be read; what they link to stays below the roots.
    access = FileAccess.for_named(config.input, names)
    source = ImageSource(FrameReader(access), config.corrections)
    pipeline = Pipeline(config)
    kept: list[FrameResult] = []
    for label, index, image in _summed(_named(names, access), config.corrections.sum_frames):
        yield _record(pipeline, source, label, index, image, kept if out is not None else None)
    if out is not None and kept:
        from gixi_bluesky.tiled_adapters.files.nexus import write_result_file

        say(f"wrote {write_result_file(out, kept, pipeline.provenance.as_dict())}")


_Named = tuple[str, int, "FrameRef | GixiError"]


def _named(names: Sequence[str], access: FileAccess) -> Iterator[_Named]:
    """Yield what each image is called, its number within the file, and where it is, if it is."""
    from gixi_bluesky.callbacks.images.detector_files import image_references

    for name in names:
        try:
            references = list(image_references(name, access))
        except GixiError as error:
            yield name, 0, error
            continue
        for index, (label, reference) in enumerate(references):
            yield label, index, reference


def _summed(images: Iterator[_Named], n: int) -> Iterator[_Named]:
    """Yield sums of `n` images each, called as their first; a last one may be of fewer."""
    from gixi_bluesky.callbacks.images.locations import SummedImages

    while chosen := list(islice(images, n)):
        label, index, first = chosen[0]
        problem = next((image for _, _, image in chosen if isinstance(image, GixiError)), None)
        parts = tuple(image for _, _, image in chosen if not isinstance(image, GixiError))
        yield label, index, problem or (SummedImages(parts) if n > 1 else first)


def _record(
    pipeline: Pipeline,
    source: ImageSource,
    label: str,
    index: int,
    image: FrameRef | GixiError,
    kept: list[FrameResult] | None,
) -> FrameRecord:
    from dataclasses import replace

    from gixi_bluesky.cli.records import FrameRecord

    if isinstance(image, GixiError):
        return FrameRecord(label, _status(image), str(image))
    try:
        frame, exposures = source.read(image, deadline=0.0)
        result = replace(pipeline(frame, exposures=exposures), index=index)
    except GixiError as error:
        return FrameRecord(label, _status(error), str(error))
    if kept is not None:
        kept.append(replace(result, index=len(kept)))
    for warning in result.warnings:
        say(f"{label}: {warning}")
    return FrameRecord(
        label,
        peaks=result.peaks,
        matches=result.matches,
        match_peaks=result.match_peaks,
        textures=result.textures,
        steps=result.steps,
    )


def _status(error: GixiError) -> str:
    """Return what a frame's row says: not to be had, or not to be analysed."""
    return "unavailable" if isinstance(error, UnavailableError | RefusedPathError) else "failed"
