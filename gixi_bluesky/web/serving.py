"""The live view of a Tiled server elsewhere, on a port of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from gixi_bluesky.errors import ConfigError
from gixi_bluesky.tiled_adapters.server.listening import LOOPBACK, serving_app
from gixi_bluesky.web.live_view import LiveView, page_address
from gixi_bluesky.web.proxy import TiledProxy

__all__ = ["proxied_live_view"]

_KEY_VARIABLE = "TILED_API_KEY"


@contextlib.contextmanager
def proxied_live_view(uri: str, port: int) -> Iterator[str]:
    """Serve the live view of the server or container at `uri` on loopback; yield its address.

    With TILED_API_KEY in the environment the address holds a key that opens the page. Raises
    ConfigError for an address that is none, StoreError when the port is taken.
    """
    base, node = _split(uri)
    key = os.environ.get(_KEY_VARIABLE, "")
    with serving_app(LiveView(TiledProxy(base), key), LOOPBACK, port) as listening:
        yield page_address(f"http://{LOOPBACK}:{listening}", key, node)


def _split(uri: str) -> tuple[str, str]:
    """Return the root of a server and the path of a node: `http://h/api/v1/metadata/a/b`."""
    parts = urlsplit(uri)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
        message = (
            f"got {uri!r} as the address of a Tiled server; expected http://HOST:PORT or the "
            "address of a container, the key in TILED_API_KEY"
        )
        raise ConfigError(message)
    root, _, rest = parts.path.partition("/api/v1")
    node = rest.removeprefix("/metadata").strip("/")
    return f"{parts.scheme}://{parts.netloc}{root.rstrip('/')}", node
