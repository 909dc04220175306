"""`config`: show a complete configuration, its schema, or import one from elsewhere."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from gixi_bluesky.cli.console import print_json, say
from gixi_bluesky.cli.options import JsonLines

__all__ = ["config_app"]

config_app = typer.Typer(
    name="config", help="Show, describe or import configurations.", no_args_is_help=True
)


@config_app.command()
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The configuration, YAML.")],
    json: JsonLines = False,
) -> None:
    """Validate a configuration and print it with every default."""
    import yaml

    from gixi_bluesky.config import load_config

    tree = load_config(file).model_dump(mode="json", by_alias=True)
    if json:
        print_json(tree)
    else:
        typer.echo(yaml.safe_dump(tree, sort_keys=False, default_flow_style=None), nl=False)


@config_app.command()
def schema() -> None:
    """Print the JSON schema: every key with its type, default and meaning."""
    from gixi_bluesky.config import Config

    typer.echo(json_module.dumps(Config.model_json_schema(), indent=2))


@config_app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A PONI or NeXus file, or gixi's YAML.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write here instead of stdout.")
    ] = None,
) -> None:
    """Convert a calibration (PONI, NeXus) or a configuration of gixi.

    Inferred values and keys that could not be converted are listed on stderr and in comments.
    """
    from gixi_bluesky.cli.importing import import_config

    folder = out.absolute().parent if out is not None else Path.cwd()
    text, notes = import_config(file, folder)
    for note in notes:
        say(note)
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")
        say(f"wrote {out}")
