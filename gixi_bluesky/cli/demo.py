"""`demo`: a simulated experiment, analysed live."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gixi_bluesky.cli.console import print_json, say
from gixi_bluesky.cli.live_view import show_live_view
from gixi_bluesky.cli.options import JsonLines

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for all output.")] = Path(
        "demo-results"
    ),
    frames: Annotated[int, typer.Option(min=1, help="Number of frames.")] = 60,
    live: Annotated[
        bool, typer.Option("--live", help="Show it in the browser, film after film, until Ctrl-C.")
    ] = False,
    json: JsonLines = False,
) -> None:
    """Watch a perovskite film crystallise on a simulated beamline.

    Runs an embedded Tiled server, a RunEngine with a simulated detector and the analysis, then
    reads the results back from Tiled. Writes overview.png, summary.json, the raw frames and the
    results.
    """
    from gixi_bluesky.demo import run_demo, run_live_demo

    if live:
        run_live_demo(out, frames, show_live_view)
        return
    summary = run_demo(out, frames)
    say(f"pictures and results are in {out}")
    if json:
        print_json(summary)
