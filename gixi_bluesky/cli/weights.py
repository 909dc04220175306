"""`weights`: lists detectors, fetches published weights, exports light networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gixi_bluesky.cli.console import output, print_json, say
from gixi_bluesky.cli.options import JsonLines

__all__ = ["weights_app"]

weights_app = typer.Typer(
    name="weights",
    help="List the detectors, fetch published weights, or export light networks.",
    no_args_is_help=True,
)


@weights_app.command("list")
def list_(json: JsonLines = False) -> None:
    """List every detector by the name that `detector.weights` takes."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from gixi_bluesky.processing.detector.weights import available

    table = Table("name", "state", "space", "licence", "sha256", box=SIMPLE_HEAD)
    for weights in available():
        if json:
            print_json(
                {
                    "name": weights.name,
                    "state": weights.state,
                    "space": weights.space,
                    "licence": weights.licence,
                    "sha256": weights.sha256,
                    "path": str(weights.path) if weights.path else None,
                }
            )
        short = (weights.sha256 or "")[:12]
        table.add_row(weights.name, weights.state, weights.space, weights.licence, short)
    if not json:
        output.print(table)


@weights_app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Such as gixi-2022; `weights list` shows the names.")],
) -> None:
    """Fetch published weights with pip, verify their hash and keep them in the user's cache.

    They are GPL-3 and no part of this package.
    """
    from gixi_bluesky.processing.detector.published import fetch as fetch_published
    from gixi_bluesky.processing.detector.weights import cache_directory

    manifest = fetch_published(name)
    say(f"{manifest.name} is in {cache_directory()}, licence {manifest.licence}")
    say(f"from {manifest.source}")


@weights_app.command()
def export(
    name: Annotated[str, typer.Argument(help="default, a name, or a .safetensors file.")],
    onnx: Annotated[Path, typer.Option(metavar="FILE.onnx", help="File to write.")],
    shape: Annotated[
        tuple[int, int],
        typer.Option(metavar="N_PHI N_Q", help="The only grid.shape that the file will accept."),
    ] = (512, 1024),
) -> None:
    """Write a light network as an ONNX file with its manifest, for onnxruntime on a CPU.

    Give the file as `detector.weights`. It finds the same peaks faster; needs the extra `export`.
    """
    from gixi_bluesky.processing.detector import find_weights
    from gixi_bluesky.processing.detector.networks.onnx_graph import export_onnx

    manifest = export_onnx(*find_weights(name), onnx, shape)
    say(f"wrote {onnx}: {manifest.name}, sha256 {manifest.sha256[:12]}, for grid.shape {shape}")
