"""`serve`: a Tiled server over the results."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from gixi_bluesky.cli.console import say

__all__ = ["serve"]


def serve(
    directory: Annotated[
        Path, typer.Option(metavar="DIR", help="Its state, and the results it may read.")
    ] = Path("results"),
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
) -> None:
    """Serve runs and results with Tiled, on this machine only, until Ctrl-C.

    The key comes from TILED_SINGLE_USER_API_KEY; without it a fresh one is made and shown once.
    """
    from gixi_bluesky.tiled_adapters.server import KEY_VARIABLE, EmbeddedServer
    from gixi_bluesky.tiled_adapters.server import serve as serve_tiled

    def announce(server: EmbeddedServer) -> None:
        say(f"Tiled serves {server.directory} at {server.uri}")
        if KEY_VARIABLE not in os.environ:
            say(f"with the key {server.api_key}; set {KEY_VARIABLE} to keep one")

    serve_tiled(directory, port, ready=announce)
