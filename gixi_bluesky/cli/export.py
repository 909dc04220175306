"""`export`: a derived run as CSV or NeXus files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gixi_bluesky.cli.console import say, working
from gixi_bluesky.cli.options import ResultsDirectory, ServerUri, StoreConfigFile

if TYPE_CHECKING:
    from gixi_bluesky.tiled_adapters.client.readable_runs import ReadableRun

__all__ = ["export", "found_run"]


def export(
    uid: Annotated[
        str, typer.Argument(help="Uid of the derived run; on a server also of the raw run.")
    ],
    csv: Annotated[bool, typer.Option("--csv", help="Write one CSV file a table.")] = False,
    cuts: Annotated[
        bool, typer.Option("--cuts", help="Write each cut of each frame in three columns.")
    ] = False,
    nexus: Annotated[
        bool, typer.Option("--nexus", help="Write one NeXus file with tables and images.")
    ] = False,
    tiled: ServerUri = None,
    config: StoreConfigFile = None,
    directory: ResultsDirectory = Path("results"),
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the files.")] = Path(),
) -> None:
    """Write the peaks, phases and images of a run to self-contained files."""
    from gixi_bluesky.tiled_adapters.client.export import write_csv, write_cuts, write_nexus

    if not (csv or nexus or cuts):
        raise typer.BadParameter("give --csv, --cuts, --nexus or several of them")
    run = found_run(uid, tiled, config, directory)
    if cuts and not run.cuts:
        message = f"run {run.start['uid']} has no cuts: its configuration names none; omit --cuts"
        raise typer.BadParameter(message)
    with working(f"exporting {run.start['uid']}"):
        paths = write_csv(run, out) if csv else []
        if cuts:
            paths += write_cuts(run, out)
        if nexus:
            paths.append(write_nexus(run, out / f"{run.start['uid']}.nxs"))
    for path in paths:
        say(f"wrote {path}")


def found_run(uid: str, tiled: str | None, config: Path | None, directory: Path) -> ReadableRun:
    """Return a run of a server, or of the results directory where none is named."""
    from gixi_bluesky.config import load_config
    from gixi_bluesky.tiled_adapters.client.readable_runs import FileRun, TiledRun, derived_run
    from gixi_bluesky.tiled_adapters.connection import derived_catalogue
    from gixi_bluesky.tiled_adapters.settings import TiledSettings

    settings = TiledSettings()
    if config is not None:
        loaded = load_config(config)
        settings, directory = loaded.tiled, loaded.output.directory
    if tiled is not None:
        settings = settings.model_copy(update={"uri": tiled})
    if settings.uri is None:
        return FileRun(directory, uid)
    return TiledRun(derived_run(derived_catalogue(settings), uid))
