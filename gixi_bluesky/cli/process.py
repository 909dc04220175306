"""`process`: analyse image files, or follow a folder that grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gixi_bluesky.cli.console import output, print_json, progress, say
from gixi_bluesky.cli.file_results import FileResult, ResultFile
from gixi_bluesky.cli.options import (
    Again,
    Cifs,
    ConfigFile,
    IncidenceAngle,
    JsonLines,
    configured_for_files,
    with_steps,
)
from gixi_bluesky.cli.peak_table import Shown
from gixi_bluesky.cli.stored_results import (
    free_path,
    images_sha256,
    stored_records,
    stored_tables_of,
)
from gixi_bluesky.errors import GixiError, RefusedPathError, UnavailableError

if TYPE_CHECKING:
    import pandas as pd

    from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
    from gixi_bluesky.callbacks.images.locations import FrameRef
    from gixi_bluesky.callbacks.worker.jobs import Job, Outcome
    from gixi_bluesky.cli.records import FrameRecord
    from gixi_bluesky.cli.series import Film
    from gixi_bluesky.config import Config

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
    cif: Cifs = None,
    incidence_angle: IncidenceAngle = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.h5", help="Write a NeXus file of all frames.")
    ] = None,
    stop_after: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0.1,
            help="With --watch: end when no image arrived for so many seconds.",
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(metavar="N", help="With --watch: Prometheus metrics on this loopback port."),
    ] = None,
    series: Annotated[
        bool,
        typer.Option(
            "--series", help="Analyse the images as one film: track its peaks and phases."
        ),
    ] = False,
    step: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE::CLASS", help="Your own analysis step, run after the matching."),
    ] = None,
    all_peaks: Annotated[
        bool, typer.Option("--all-peaks", help="Also show failed fits and weak peaks.")
    ] = False,
    min_snr: Annotated[
        float, typer.Option(metavar="SNR", min=0, help="Show peaks from this snr on.")
    ] = 2.0,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Write all peaks of all images.")
    ] = None,
    again: Again = False,
    json: JsonLines = False,
) -> None:
    """Find the peaks and phases of image files.

    Images that FILE.h5, or a complete run of the folder, holds already, analysed with the same
    settings, are shown from there.

    An image that cannot be analysed gets its status and reason, and the others go on; the exit
    status is then 1.
    """
    # `--cif A.cif B.cif` reads the second as an image; its suffix shows that it is a structure.
    named = images or []
    structures = [*(cif or []), *(Path(name) for name in named if name.lower().endswith(".cif"))]
    named = [name for name in named if not name.lower().endswith(".cif")]
    if bool(named) == (watch is not None):
        raise typer.BadParameter("give image files, or --watch and a folder")
    settings = with_steps(configured_for_files(config, structures, incidence_angle), step or [])
    if series and (watch is not None or out is not None):
        raise typer.BadParameter("--series takes image files, without --watch and --out")
    film: Film | None = None
    if series:
        from gixi_bluesky.cli.series import Film

        film = Film(settings, named)
        records = film.records()
    elif watch is None:
        records = _analysed(settings, named, out, again=again)
    else:
        from gixi_bluesky.cli.watch import watched

        records = watched(settings, watch, stop_after, metrics_port, again=again)
    all_ok = True
    with _peaks_as_csv(csv) as add:
        for record in records:
            all_ok &= record.status == "ok"
            add(record)
            if json:
                print_json(record.as_json())
            else:
                record.show(output, Shown(all_peaks, min_snr))
    if film is not None:
        film.print_json() if json else film.show()
    if not all_ok:
        raise typer.Exit(1)


def _analysed(
    config: Config, names: Sequence[str], out: Path | None, *, again: bool
) -> Iterator[FrameRecord]:
    """Analyse the images in several processes, in order, and write them to `out` as they come."""
    from gixi_bluesky.callbacks import with_fetched_dark
    from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
    from gixi_bluesky.callbacks.worker.pool import ProcessPool
    from gixi_bluesky.callbacks.worker.sequence import analyse_in_order

    config = with_fetched_dark(config)
    # Files named on the command line may be read; what they link to stays below the roots.
    access = FileAccess.for_named(config.input, names)
    files: set[Path] = set()
    images = list(_summed(_named(names, access, files), config.corrections.sum_frames))
    workers = 1 if len(images) == 1 else None
    if out is not None and again:
        out = free_path(out)
    identity = "" if out is None else images_sha256(names, files)
    with (
        ResultFile(out, names, len(images)) as file,
        ProcessPool(config, workers=workers, access=access) as pool,
    ):
        provenance = pool.start().provenance
        if out is not None:
            decided = provenance.result_hash
            stored = stored_tables_of(out, decided, identity, len(images))
            if stored is not None:
                yield from _from_file(out, stored, images)
                return
        file.begin(provenance.as_dict(), identity)
        jobs = (_job(index, image, keep_image=out is not None) for _, index, image in images)
        outcomes = zip(images, analyse_in_order(pool, jobs), strict=True)
        for (label, index, _), outcome in progress(outcomes, len(images)):
            file.add(label, outcome)
            yield _record(label, index, outcome)


def _from_file(
    path: Path, tables: Mapping[str, pd.DataFrame], images: Sequence[_Named]
) -> Iterator[FrameRecord]:
    """Yield the results of images from the file that holds them, and say so."""
    import pandas as pd

    say(
        f"{path} holds these images, analysed with the same settings; they are shown from there. "
        f"--again analyses them once more, into {free_path(path)}"
    )
    numbered = ((number, label, index) for number, (label, index, _) in enumerate(images))
    yield from stored_records(tables, numbered, lambda _: pd.DataFrame())


@contextmanager
def _peaks_as_csv(path: Path | None) -> Iterator[Callable[[FrameRecord], None]]:
    """Yield a function that appends peaks to a CSV file, which is opened at once."""
    if path is None:
        yield lambda _: None
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        header = True

        def add(record: FrameRecord) -> None:
            nonlocal header
            rows = record.rows()
            if len(rows):
                rows.to_csv(file, index=False, header=header)
                header = False

        yield add
    say(f"wrote {path}")


_Named = tuple[str, int, "FrameRef | GixiError"]


def _named(names: Sequence[str], access: FileAccess, files: set[Path]) -> Iterator[_Named]:
    """Yield the name of each image, its number within the file, and its location or the error.

    files: the files that were read are added to it
    """
    from gixi_bluesky.cli.images import announced

    given = frozenset(Path(name.split("::")[0]).resolve() for name in names)
    files |= given
    for name in names:
        try:
            found = announced(name, access)
        except GixiError as error:
            yield name, 0, error
            continue
        if found.file.other_files and found.file.other_files <= given:
            say(f"{name}: left out, as it only leads to images of the other files that are given")
            continue
        files |= found.file.other_files
        for index, (label, reference) in enumerate(found.references()):
            yield label, index, reference


def _summed(images: Iterator[_Named], n: int) -> Iterator[_Named]:
    """Yield sums of `n` images each, named after their first; the last sum may have fewer."""
    from gixi_bluesky.callbacks.images.locations import SummedImages

    while chosen := list(islice(images, n)):
        label, index, first = chosen[0]
        problem = next((image for _, _, image in chosen if isinstance(image, GixiError)), None)
        parts = tuple(image for _, _, image in chosen if not isinstance(image, GixiError))
        yield label, index, problem or (SummedImages(parts) if n > 1 else first)


def _job(index: int, image: FrameRef | GixiError, *, keep_image: bool) -> Job | Outcome:
    from gixi_bluesky.callbacks.worker.jobs import Job, Outcome
    from gixi_bluesky.processing.geometry.conditions import Conditions

    if isinstance(image, GixiError):
        refused = isinstance(image, UnavailableError | RefusedPathError)
        return Outcome("unavailable" if refused else "failed", str(image))
    return Job("files", index, image, Conditions(), deadline=0.0, keep_image=keep_image)


def _record(label: str, index: int, outcome: Outcome) -> FrameRecord:
    from gixi_bluesky.cli.records import FrameRecord

    if outcome.result is None:
        return FrameRecord(label, outcome.status, outcome.reason)
    for warning in outcome.result.warnings:
        say(f"{label}: {warning}")
    result = FileResult(outcome.result, index)
    return FrameRecord(
        label,
        peaks=result.peaks,
        matches=result.matches,
        match_peaks=result.match_peaks,
        textures=result.textures,
        steps=result.steps,
    )
