"""Colours, markers and labels that the panels of the overview have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_rgb

if TYPE_CHECKING:
    from gixi_bluesky.tiled_adapters.drawing.overview import OverviewData

__all__ = [
    "COLOUR_MAP",
    "NO_DATA",
    "SMALL",
    "UNKNOWN",
    "Styles",
    "darker",
    "hkl_label",
    "seen_q",
]

Styles = Mapping[str, tuple[str, str]]

UNKNOWN = ("#D0D0D0", "x")
COLOUR_MAP = "magma"
NO_DATA = "#B8B8B8"
SMALL = 6.5


def darker(colour: str) -> tuple[float, float, float]:
    """Return a phase's colour darkened for text on white."""
    red, green, blue = (0.72 * part for part in to_rgb(colour))
    return red, green, blue


def seen_q(data: OverviewData) -> tuple[float, float]:
    """Return the range of |q| in which anything was seen."""
    if data.image is None:
        return float(data.q[0]), float(data.q[-1])
    seen = data.q[np.isfinite(data.image).any(axis=0)]
    return (0.0, float(seen[-1])) if seen.size else (0.0, float(data.q[-1]))


def hkl_label(h: float, k: float, l: float) -> str:  # noqa: E741 - the field's name
    """Return hkl as text, negative indices with a bar."""
    indices = [int(h), int(k), int(l)]
    if max(map(abs, indices)) < 10:
        return "".join(rf"$\bar{{{-i}}}$" if i < 0 else str(i) for i in indices)
    return " ".join(map(str, indices))
