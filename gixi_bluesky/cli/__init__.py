"""The command line `gixi-bluesky`; each command loads what it needs only when it runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from gixi_bluesky.cli.bench import bench
from gixi_bluesky.cli.check import check
from gixi_bluesky.cli.config_command import config_app
from gixi_bluesky.cli.console import complain
from gixi_bluesky.cli.consume import consume
from gixi_bluesky.cli.cut import cut
from gixi_bluesky.cli.demo import demo
from gixi_bluesky.cli.evaluate import evaluate
from gixi_bluesky.cli.export import export
from gixi_bluesky.cli.list_runs import list_runs
from gixi_bluesky.cli.live_view import live
from gixi_bluesky.cli.mask import mask
from gixi_bluesky.cli.plot import plot
from gixi_bluesky.cli.process import process
from gixi_bluesky.cli.publish import publish
from gixi_bluesky.cli.register import register
from gixi_bluesky.cli.reprocess import reprocess
from gixi_bluesky.cli.reproduce import reproduce
from gixi_bluesky.cli.serve import serve
from gixi_bluesky.cli.slurm import slurm_app
from gixi_bluesky.cli.train import train
from gixi_bluesky.cli.weights import weights_app
from gixi_bluesky.errors import GixiError

__all__ = ["app", "main"]

LogFormat = Literal["console", "json"]


class _Commands(TyperGroup):
    """Shows errors of this package and of the operating system as one message each."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except (GixiError, OSError) as error:
            if ctx.params["debug"]:
                raise
            complain(str(error))
            raise typer.Exit(2) from error


app = typer.Typer(
    name="gixi-bluesky",
    help="Real-time analysis of grazing-incidence X-ray diffraction inside Bluesky and Tiled.",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from gixi_bluesky import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "warning",
    log_format: Annotated[
        LogFormat, typer.Option(help="Format of the log: console or JSON lines.")
    ] = "console",
    version: Annotated[  # noqa: ARG001 - its callback acts
        bool, typer.Option("--version", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    from gixi_bluesky.log import configure_logging

    configure_logging("DEBUG" if debug else log_level, json=log_format == "json")


app.command()(demo)
app.command()(process)
app.command()(cut)
app.command()(plot)
app.command("list")(list_runs)
app.command()(consume)
app.command()(reprocess)
app.command()(register)
app.command()(serve)
app.command()(live)
app.command()(export)
app.command()(publish)
app.command()(reproduce)
app.command()(check)
app.command()(mask)
app.command()(train)
app.command()(evaluate)
app.command()(bench)
app.add_typer(config_app)
app.add_typer(slurm_app)
app.add_typer(weights_app)


def main() -> None:
    """Run the command line; an error ends with status 2, Ctrl-C with 130."""
    app()
