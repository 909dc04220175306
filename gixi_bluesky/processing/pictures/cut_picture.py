"""A picture of cuts: one panel a cut, with its errors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gixi_bluesky.processing.pictures.style import AXES, STYLE
from gixi_bluesky.processing.types import Cut

__all__ = ["cut_figure", "draw_cut", "save_cut_picture"]

_WIDTH, _HEIGHT = 5.0, 2.4


def draw_cut(axis: Axes, cut: Cut, label: str = "") -> None:
    """Draw a curve with a band of one standard error."""
    (line,) = axis.plot(cut.axis, cut.intensity, lw=1.0, label=label or cut.name)
    low, high = cut.intensity - cut.error, cut.intensity + cut.error
    axis.fill_between(cut.axis, low, high, color=line.get_color(), alpha=0.3, lw=0)
    axis.set_xlabel(AXES[cut.along])
    axis.set_ylabel("mean counts per pixel")
    positive = cut.intensity[np.isfinite(cut.intensity) & (cut.intensity > 0)]
    if positive.size > 1 and np.percentile(positive, 99.5) > 20 * np.median(positive):
        axis.set_yscale("log")


def cut_figure(curves: Mapping[str, Mapping[str, Cut]]) -> Figure:
    """Return a figure of cuts by their names, each of one or more frames by their labels."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, _HEIGHT * len(curves)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(curves), 1, squeeze=False)[:, 0]
        for axis, (name, of_frames) in zip(axes, curves.items(), strict=True):
            for label, cut in of_frames.items():
                draw_cut(axis, cut, label)
            axis.set_title(name, loc="left", fontsize=8.5, fontweight="bold")
            if len(of_frames) > 1:
                axis.legend(frameon=False)
        return figure


def save_cut_picture(path: str | Path, curves: Mapping[str, Mapping[str, Cut]]) -> None:
    """Write the figure of some cuts as PNG, PDF or SVG, as the name of the file says."""
    cut_figure(curves).savefig(path, dpi=200)
