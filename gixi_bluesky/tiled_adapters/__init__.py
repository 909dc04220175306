"""Storage of derived runs: in Tiled, in NeXus files, with server and client."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gixi_bluesky.tiled_adapters.client import queries
    from gixi_bluesky.tiled_adapters.client.run import GIXIRun
    from gixi_bluesky.tiled_adapters.files.parts import PartWriter
    from gixi_bluesky.tiled_adapters.store.writer import DerivedRunStore, RunState

__all__ = ["DerivedRunStore", "GIXIRun", "PartWriter", "RunState", "queries"]

# Lazy, so that settings and schema do not load Tiled or HDF5.
_HOMES = {
    "DerivedRunStore": "store.writer",
    "GIXIRun": "client.run",
    "PartWriter": "files.parts",
    "RunState": "store.writer",
}


def __getattr__(name: str) -> Any:
    if name == "queries":
        return import_module(f"{__name__}.client.queries")
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted(__all__)
