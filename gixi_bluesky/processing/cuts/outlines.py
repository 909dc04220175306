"""The outline of a cut in the plane of q_xy and q_z, to draw it where it lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.cuts.settings import CutSettings
from gixi_bluesky.processing.types import Cut

__all__ = ["outline"]

Float64 = NDArray[np.float64]

_POINTS = 60


def outline(cut: Cut, settings: CutSettings) -> tuple[Float64, Float64]:
    """Return q_xy and q_z, (n,) each, of the closed line around a cut, 1/angstrom."""
    seen = cut.axis[np.isfinite(cut.intensity)]
    first, last = (seen[0], seen[-1]) if len(seen) else (cut.axis[0], cut.axis[-1])
    low, high = settings.across_range or (0.0, 90.0)
    along = np.linspace(first, last, _POINTS)
    across = np.linspace(low, high, _POINTS)
    ends = np.full(_POINTS, first), np.full(_POINTS, last)
    a = np.concatenate([along, ends[1], along[::-1], ends[0]])
    b = np.concatenate([np.full(_POINTS, low), across, np.full(_POINTS, high), across[::-1]])
    if settings.along in ("q_xy", "q_z"):
        return (a, b) if settings.along == "q_xy" else (b, a)
    q, phi = (a, b) if settings.along == "q" else (b, a)
    side = np.where(phi < 0, -1.0, 1.0)
    return side * q * np.cos(np.radians(phi)), q * np.sin(np.radians(np.abs(phi)))
