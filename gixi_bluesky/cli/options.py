"""Options that several commands share, and how they change the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gixi_bluesky.config import Config

__all__ = ["ConfigFile", "JsonLines", "configured"]

ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", metavar="FILE", help="The configuration, YAML.")
]
JsonLines = Annotated[bool, typer.Option("--json", help="Machine-readable lines on stdout.")]


def configured(
    file: Path, *, cif: Sequence[Path] = (), incidence_angle_deg: float | None = None
) -> Config:
    """Load a configuration; structures and an angle from the command line replace its own."""
    from gixi_bluesky.config import load_config

    config = load_config(file)
    if cif:
        matching = config.matching.model_copy(update={"cif": tuple(p.absolute() for p in cif)})
        config = config.model_copy(update={"matching": matching})
    if incidence_angle_deg is not None:
        geometry = config.geometry.model_copy(update={"incidence_angle_deg": incidence_angle_deg})
        config = config.model_copy(update={"geometry": geometry})
    return config
