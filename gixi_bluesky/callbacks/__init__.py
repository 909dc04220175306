"""Bluesky documents in, derived runs out: beside a RunEngine, from Kafka or from a replay."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gixi_bluesky.callbacks.analysis import Analysis
    from gixi_bluesky.callbacks.runengine import subscribe
    from gixi_bluesky.callbacks.runs.dark_runs import with_fetched_dark

__all__ = ["Analysis", "subscribe", "with_fetched_dark"]

# Lazy, so that importing the settings does not load Tiled or HDF5.
_HOMES = {
    "Analysis": "analysis",
    "subscribe": "runengine",
    "with_fetched_dark": "runs.dark_runs",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted(__all__)
