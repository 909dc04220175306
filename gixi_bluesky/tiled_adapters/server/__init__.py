"""A Tiled server with the adapters of this package: embedded, or as its configuration says."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gixi_bluesky.tiled_adapters.server.embedded import embedded_server

__all__ = ["embedded_server"]


def __getattr__(name: str) -> Any:
    # Lazy, so that the configuration of a server can be made without loading Tiled.
    if name == "embedded_server":
        return getattr(import_module(f"{__name__}.embedded"), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
