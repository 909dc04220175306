"""Analysis of arrays: peaks and phases, independent of Bluesky, Tiled and Kafka."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gixi_bluesky.processing.detector import load_detector
    from gixi_bluesky.processing.geometry.instrument import Geometry
    from gixi_bluesky.processing.pipeline import Pipeline
    from gixi_bluesky.processing.pixels.counts import Dark
    from gixi_bluesky.processing.pixels.exposures import FrameSum
    from gixi_bluesky.processing.tables import Matches, MatchPeaks, Peaks
    from gixi_bluesky.processing.types import CartesianImage, Detections, FrameResult, PolarImage

__all__ = [
    "CartesianImage",
    "Dark",
    "Detections",
    "FrameResult",
    "FrameSum",
    "Geometry",
    "MatchPeaks",
    "Matches",
    "Peaks",
    "Pipeline",
    "PolarImage",
    "load_detector",
]

# Lazy, so that importing settings or types does not load torch.
_HOMES = {
    "CartesianImage": "types",
    "Dark": "pixels.counts",
    "FrameSum": "pixels.exposures",
    "Geometry": "geometry.instrument",
    "Pipeline": "pipeline",
    "load_detector": "detector",
    "Detections": "types",
    "FrameResult": "types",
    "MatchPeaks": "types",
    "Matches": "types",
    "Peaks": "types",
    "PolarImage": "types",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted(__all__)
