"""Options that several commands share, and their effect on the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gixi_bluesky.cli.console import keep_stdout_for_json

if TYPE_CHECKING:
    from gixi_bluesky.config import Config

__all__ = [
    "Again",
    "Cifs",
    "ConfigFile",
    "IncidenceAngle",
    "JsonLines",
    "ResultsDirectory",
    "ServerUri",
    "StoreConfigFile",
    "configured_for_files",
    "stored_before",
    "with_steps",
]

ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", metavar="FILE", help="The configuration, YAML.")
]
Cifs = Annotated[
    list[Path] | None,
    typer.Option(metavar="PATH", help="CIF file or folder; replaces the configured ones."),
]
IncidenceAngle = Annotated[
    float | None, typer.Option(metavar="DEG", min=0, max=90, help="Replaces the configured angle.")
]
ServerUri = Annotated[
    str | None, typer.Option(metavar="URI", help="Server; the key is in TILED_API_KEY.")
]
StoreConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Configuration that names the server or the directory.",
    ),
]


def _with_runs(directory: Path) -> Path:
    """Return the directory, or its `results` if the runs are there, as in the demo's folder."""
    below = directory / "results"
    return below if not any(directory.glob("*-*")) and any(below.glob("*-*")) else directory


ResultsDirectory = Annotated[
    Path,
    typer.Option(
        metavar="DIR",
        help="Results directory, or the demo's folder, when there is no server.",
        callback=_with_runs,
    ),
]
Again = Annotated[
    bool,
    typer.Option(
        "--again", help="Analyse once more what was analysed with the same settings before."
    ),
]
JsonLines = Annotated[
    bool,
    typer.Option("--json", help="Machine-readable lines on stdout.", callback=keep_stdout_for_json),
]


def configured_for_files(
    file: Path, cif: Sequence[Path], incidence_angle_deg: float | None
) -> Config:
    """Load a configuration for image files, which have no documents.

    Structures and an angle from the command line replace the configured ones. Raises ConfigError
    when the angle is to be looked up in documents.
    """
    from gixi_bluesky.callbacks.documents.value_sources import FromDocument
    from gixi_bluesky.config import load_config
    from gixi_bluesky.errors import ConfigError

    config = load_config(file)
    if cif:
        matching = config.matching.model_copy(update={"cif": tuple(p.absolute() for p in cif)})
        config = config.model_copy(update={"matching": matching})
    if incidence_angle_deg is not None:
        geometry = config.geometry.model_copy(update={"incidence_angle_deg": incidence_angle_deg})
        config = config.model_copy(update={"geometry": geometry})
    angle = config.geometry.incidence_angle_deg
    if isinstance(angle, FromDocument):
        message = (
            f"{file} takes the incidence angle from {angle}, which image files do not "
            "have; give --incidence-angle"
        )
        raise ConfigError(message)
    if keys := config.geometry.changes_per_frame:
        message = (
            f"{file} takes wavelength or distance from {', '.join(keys)}, which image files do "
            "not have; give numbers"
        )
        raise ConfigError(message)
    return config


def stored_before(what: str, stored: str, place: str) -> str:
    """Return the message that `what` was analysed with the same settings before.

    stored: uid of that derived run; place: the option of `export` that leads to it
    """
    return (
        f"{what} was analysed with the same settings before: run {stored} "
        f"(`gixi-bluesky export {stored[:8]} --csv {place}`); --again analyses it once more"
    )


def with_steps(config: Config, named: Sequence[str]) -> Config:
    """Return the configuration with steps that the command line names as FILE::CLASS.

    Raises ConfigError for a name of another form.
    """
    from gixi_bluesky.errors import ConfigError
    from gixi_bluesky.processing.steps.settings import StepSettings

    steps = list(config.steps)
    for name in named:
        file, separator, class_name = name.partition("::")
        if not (file and separator and class_name):
            message = f"got --step {name}; expected FILE.py::CLASS"
            raise ConfigError(message)
        steps.append(StepSettings.of_file(Path(file), class_name))
    return config.model_copy(update={"steps": tuple(steps)})
