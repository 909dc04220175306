"""`register`: result files made without a server, brought into Tiled."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from gixi_bluesky.cli.console import complain, print_json, say
from gixi_bluesky.cli.options import JsonLines

__all__ = ["register"]


def register(
    tiled_uri: Annotated[
        str, typer.Argument(metavar="TILED_URI", help="Server; the key is in TILED_API_KEY.")
    ],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Results directory.")],
    catalogue: Annotated[
        str, typer.Option(metavar="PATH", help="Catalogue of derived runs on the server.")
    ] = "gixi",
    json: JsonLines = False,
) -> None:
    """Bring finished results (`<uid>.nxs`) into Tiled; images stay in their files.

    Runs that are there already are left as they are. The exit status is 1 when a file could not be
    registered.
    """
    from gixi_bluesky.callbacks.offline import register_result, result_uids
    from gixi_bluesky.errors import GixiError, RunCompleteError, UnavailableError
    from gixi_bluesky.tiled_adapters.connection import catalogue_at, connect
    from gixi_bluesky.tiled_adapters.settings import TiledSettings

    uids = result_uids(directory)
    if not uids:
        message = f"there are no finished results (<uid>.nxs) in {directory}"
        raise UnavailableError(message)
    root = connect(TiledSettings(uri=tiled_uri))
    all_ok = True
    with contextlib.closing(root.context):
        client = catalogue_at(root, catalogue)
        for uid in uids:
            status, reason = "registered", ""
            try:
                register_result(directory, uid, client)
            except RunCompleteError:
                status = "there already"
            except GixiError as error:
                all_ok, status, reason = False, "failed", str(error)
                complain(f"{uid}: {error}")
            if json:
                print_json({"uid": uid, "status": status, "reason": reason})
            else:
                say(f"{uid}: {status}")
    if not all_ok:
        raise typer.Exit(1)
