"""`register`: adds result files that were made without a server to Tiled."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from gixi_bluesky.cli.console import complain, print_json, progress, say
from gixi_bluesky.cli.options import JsonLines

__all__ = ["register"]


def register(
    tiled_uri: Annotated[
        str, typer.Argument(metavar="TILED_URI", help="Server; the key is in TILED_API_KEY.")
    ],
    results: Annotated[
        Path, typer.Argument(metavar="DIR|FILE", help="Results directory, or one result file.")
    ],
    catalogue: Annotated[
        str, typer.Option(metavar="PATH", help="Catalogue of derived runs on the server.")
    ] = "gixi",
    json: JsonLines = False,
) -> None:
    """Register result files in Tiled; the images stay in their files.

    A finished run (`<uid>.nxs`) becomes a run like any other; a result that holds no run (of
    `process --out`) a node in `gixi_files`. Results that are already registered are skipped. The
    exit status is 1 when a file could not be registered.
    """
    from gixi_bluesky.callbacks.derived.registration import register_result, result_files
    from gixi_bluesky.errors import GixiError, RunCompleteError, UnavailableError
    from gixi_bluesky.tiled_adapters.connection import catalogue_at, connect
    from gixi_bluesky.tiled_adapters.settings import TiledSettings

    paths = result_files(results) if results.is_dir() else [results]
    if not paths:
        message = f"there are no finished results (<uid>.nxs) in {results}"
        raise UnavailableError(message)
    root = connect(TiledSettings(uri=tiled_uri))
    all_ok = True
    with contextlib.closing(root.context):
        client = catalogue_at(root, catalogue)
        for path in progress(paths, len(paths), "files"):
            status, reason = "registered", ""
            try:
                register_result(path, client)
            except RunCompleteError:
                status = "there already"
            except GixiError as error:
                all_ok, status, reason = False, "failed", str(error)
                complain(f"{path.name}: {error}")
            if json:
                print_json({"uid": path.stem, "status": status, "reason": reason})
            else:
                say(f"{path.name}: {status}")
    if not all_ok:
        raise typer.Exit(1)
