"""`serve`: a Tiled server over the results."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from pathlib import Path
from typing import Annotated

import typer

from gixi_bluesky.cli.console import say

__all__ = ["serve"]


def serve(
    directory: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the server's state and of the results.")
    ] = Path("results"),
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Default: 8000, or as in the configuration file."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="A configuration of Tiled, as for PostgreSQL and Redis (examples/server.yml).",
        ),
    ] = None,
    heartbeats: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of consumers' heartbeats, for the live view."),
    ] = None,
    operate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Let those operate from the live view who may write to Tiled; FILE is the "
            "configuration of the analysis.",
        ),
    ] = None,
    operations: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="With --operate: configurations, record and jobs; every Slurm node must see it. "
            "Default: DIR/operations.",
        ),
    ] = None,
) -> None:
    """Serve runs and results with Tiled, and the live view, on this machine only, until Ctrl-C.

    The key comes from TILED_SINGLE_USER_API_KEY; without it a new one is generated and printed
    once.
    """
    from gixi_bluesky.tiled_adapters.server.configuration import KEY_VARIABLE
    from gixi_bluesky.tiled_adapters.server.embedded import configured_server, embedded_server
    from gixi_bluesky.tiled_adapters.server.state_folder import is_new
    from gixi_bluesky.web import LiveView, Watched, page_address

    with contextlib.ExitStack() as stack:
        operation = None
        if operate is not None:
            from gixi_bluesky.web.operate import Operation

            operation = Operation(operate, operations or directory / "operations")
            stack.callback(operation.close)
            heartbeats = heartbeats or operation.jobs.consumers_folder
        watched = Watched(heartbeats, directory if config is None else None)
        around = functools.partial(LiveView, watched=watched, operation=operation)
        if config is None and is_new(directory.absolute()):
            say(f"{directory} holds no results of a server yet; an empty catalogue is made there")
        server = stack.enter_context(
            configured_server(config, port, around=around)
            if config is not None
            else embedded_server(directory, port or 8000, around=around)
        )
        say(f"Tiled serves {config or server.directory} at {server.uri}")
        say(f"live view: {page_address(server.base, server.api_key)}")
        if operation is not None:
            operation.serve_at(server.uri)
            say(f"operators sign in there with a key that may write; record: {operation.folder}")
        if server.api_key and KEY_VARIABLE not in os.environ:
            say(f"with the key {server.api_key}; set {KEY_VARIABLE} to keep one")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
