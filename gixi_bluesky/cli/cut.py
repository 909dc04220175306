"""`cut`: curves along q, phi, q_xy or q_z as text files of three columns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gixi_bluesky.cli.console import say
from gixi_bluesky.cli.options import ConfigFile, IncidenceAngle, configured_for_files

if TYPE_CHECKING:
    from gixi_bluesky.config import Config
    from gixi_bluesky.processing.types import Cut

__all__ = ["cut"]

Limits = tuple[float, float]


def cut(
    config: ConfigFile,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="TIFF, EDF, CBF, HDF5 or NumPy files; FILE::DATASET and FILE::NUMBER choose.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.xy", help="Three columns; of several cuts, one file each."),
    ] = None,
    sector: Annotated[
        Limits | None, typer.Option(metavar="LOW HIGH", help="Along q, between two phi in deg.")
    ] = None,
    ring: Annotated[
        Limits | None, typer.Option(metavar="LOW HIGH", help="Along phi, between two q.")
    ] = None,
    along: Annotated[
        Literal["q", "phi", "q_xy", "q_z"] | None, typer.Option(help="Along this coordinate,")
    ] = None,
    across: Annotated[
        Limits | None,
        typer.Option(metavar="LOW HIGH", help="with --along: between two values of the other one."),
    ] = None,
    limits: Annotated[
        Limits | None, typer.Option("--range", metavar="LOW HIGH", help="Ends of the curve.")
    ] = None,
    bins: Annotated[int | None, typer.Option(min=2, help="How many bins.")] = None,
    side: Annotated[
        Literal["fold", "right", "left", "both"] | None, typer.Option(help="Of the beam.")
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option("--cut", help="Only this cut of the configuration; default: all."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Also draw the curves.")
    ] = None,
    incidence_angle: IncidenceAngle = None,
) -> None:
    """Average detector pixels along a coordinate; without ranges, the configuration's cuts.

    The columns are axis, intensity in mean counts per pixel, and its standard error.
    """
    from gixi_bluesky.cli.images import named_images
    from gixi_bluesky.processing import Pipeline
    from gixi_bluesky.processing.pictures.cut_picture import save_cut_picture

    shape = {"bins": bins, "side": side}
    asked = _cut_of_options(sector, ring, along, across, limits, shape)
    settings = configured_for_files(config, (), incidence_angle)
    settings = _with_cuts(settings, asked, name or [])
    plain = settings.detector.model_copy(update={"weights": "classical"})  # no search for peaks
    matching = settings.matching.model_copy(update={"cif": ()})
    pipeline = Pipeline(settings.model_copy(update={"detector": plain, "matching": matching}))
    curves: dict[str, dict[str, Cut]] = {}
    found = [(label, pipeline.cuts(frame)) for label, frame in named_images(settings, images)]
    for label, cuts in found:
        for cut_name, curve in cuts.items():
            curves.setdefault(cut_name, {})[label] = curve
            path = _path(out, label if len(found) > 1 else "", cut_name if len(cuts) > 1 else "")
            _write(path, curve, label, settings.cuts[cut_name].model_dump(exclude_none=True))
    if plot is not None:
        save_cut_picture(plot, curves)
        say(f"wrote {plot}")


def _cut_of_options(
    sector: Limits | None,
    ring: Limits | None,
    along: str | None,
    across: Limits | None,
    limits: Limits | None,
    shape: dict[str, Any],
) -> dict[str, Any] | None:
    """Return the cut that the options define, None if they define none."""
    from gixi_bluesky.processing.cuts.settings import ACROSS

    kinds = {"--sector": sector, "--ring": ring, "--along": along}
    given = [option for option, value in kinds.items() if value is not None]
    if len(given) > 1:
        raise typer.BadParameter(f"got {' and '.join(given)}; give one of them")
    if across is not None and along is None:
        raise typer.BadParameter("--across needs --along")
    if not given:
        return None
    coordinate = along or ("q" if sector else "phi")
    cut = {
        "along": coordinate,
        ACROSS[coordinate]: sector or ring or across,  # type: ignore[index]
        coordinate: limits,
        **shape,
    }
    return {key: value for key, value in cut.items() if value is not None}


def _with_cuts(config: Config, asked: dict[str, Any] | None, names: list[str]) -> Config:
    from pydantic import ValidationError

    from gixi_bluesky.errors import ConfigError
    from gixi_bluesky.processing.cuts.settings import CutSettings

    if asked is not None:
        try:
            cuts = {"cut": CutSettings(**asked)}
        except ValidationError as error:
            problems = "; ".join(problem["msg"] for problem in error.errors(include_url=False))
            raise ConfigError(problems) from error
        return config.model_copy(update={"cuts": cuts})
    unknown = [one for one in names if one not in config.cuts]
    if unknown or not config.cuts:
        message = (
            f"the configuration has the cuts {sorted(config.cuts)}, not {unknown}"
            if unknown
            else "the configuration has no cuts; give --sector, --ring or --along and --across"
        )
        raise ConfigError(message)
    chosen = {key: value for key, value in config.cuts.items() if not names or key in names}
    return config.model_copy(update={"cuts": chosen})


def _path(out: Path | None, label: str, cut: str) -> Path | None:
    """Return the file of one curve: `out`, with the image and the cut where there are several."""
    if out is None:
        return None
    image = "".join(c if c.isalnum() or c in "-." else "_" for c in Path(label).name)
    parts = [out.stem, *(part for part in (image, cut) if part)]
    return out.with_name("_".join(parts) + out.suffix)


def _write(path: Path | None, curve: Cut, label: str, settings: dict[str, Any]) -> None:
    from gixi_bluesky import __version__
    from gixi_bluesky.processing.cuts.text_files import cut_text, write_cut

    notes = {"image": label, "gixi_bluesky": __version__, "cut": settings}
    if path is None:
        typer.echo(cut_text(curve, notes), nl=False)
        return
    write_cut(path, curve, notes)
    say(f"wrote {path}")
