"""`live`: the live view of another Tiled server."""

from __future__ import annotations

import contextlib
import threading
import webbrowser
from typing import Annotated, Any

import typer

from gixi_bluesky.cli.console import errors, say

__all__ = ["live", "show_live_view"]


def live(
    tiled: Annotated[
        str, typer.Option(metavar="URI", help="Server or container; the key is in TILED_API_KEY.")
    ],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the page.")] = 8010,
) -> None:
    """Serve the live view of a Tiled server, on this machine only, until Ctrl-C.

    Reads only. Without TILED_API_KEY the page asks for a key or for name and password.
    """
    from gixi_bluesky.web.serving import proxied_live_view

    with proxied_live_view(tiled, port) as address:
        say(f"live view of {tiled}: {address}")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


def show_live_view(server: Any) -> None:
    """Print the address of a server's live view, and open it if there is a display."""
    from gixi_bluesky.web import page_address

    address = page_address(server.base, server.api_key)
    say(f"live view: {address}")
    if errors.is_terminal:
        webbrowser.open(address)
