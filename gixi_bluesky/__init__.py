"""Real-time analysis of grazing-incidence X-ray diffraction inside Bluesky and Tiled."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gixi_bluesky.config import Config, load_config
    from gixi_bluesky.processing import FrameResult, Pipeline

__version__ = "0.1.0"

__all__ = ["Config", "FrameResult", "Pipeline", "__version__", "load_config"]

# Lazy, so that a Tiled client or `--help` does not wait for torch.
_HOMES = {
    "Config": "gixi_bluesky.config",
    "load_config": "gixi_bluesky.config",
    "Pipeline": "gixi_bluesky.processing",
    "FrameResult": "gixi_bluesky.processing",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted(__all__)
