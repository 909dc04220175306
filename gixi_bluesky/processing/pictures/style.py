"""The common style of all pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm

__all__ = ["AXES", "CUT_COLOURS", "STYLE", "intensity_scale"]

AXES: Mapping[str, str] = {
    "q": "|q| (1/Å)",
    "phi": "phi (deg)",
    "q_xy": "q_xy (1/Å)",
    "q_z": "q_z (1/Å)",
}
CUT_COLOURS = ("#56B4E9", "#E69F00", "#5CE0B0", "#C3A6FF", "#F0E442")
STYLE: dict[Any, Any] = {
    "font.size": 7.5,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7,
    "mathtext.default": "regular",
}


def intensity_scale(values: Any) -> LogNorm:
    """Return a logarithmic scale between robust ends of the positive values."""
    values = np.ravel(values)
    positive = values[np.isfinite(values) & (values > 0)]
    if positive.size == 0:
        return LogNorm(1.0, 10.0)
    low, high = np.percentile(positive, (3.0, 99.8))
    return LogNorm(max(low, high * 1e-3), max(high, low * 2))
