"""The panels of the overview figure, and those that show one image."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from gixi_bluesky.plurals import counted
from gixi_bluesky.tiled_adapters.drawing.styles import (
    COLOUR_MAP,
    NO_DATA,
    SMALL,
    UNKNOWN,
    Styles,
    hkl_label,
    seen_q,
)
from gixi_bluesky.tiled_adapters.drawing.time_panels import (
    draw_intensity,
    draw_lattice,
    draw_lines,
    draw_waterfall,
)

if TYPE_CHECKING:
    from gixi_bluesky.tiled_adapters.drawing.overview import OverviewData

__all__ = ["draw_panels"]

Float64 = NDArray[np.float64]

# Distinct for colour-blind readers and from the colour map; markers repeat the distinction.
_PHASE_COLOURS = ("#56B4E9", "#F0E442", "#5CE0B0", "#E69F00", "#C3A6FF", "#FFFFFF")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_STYLE: dict[Any, Any] = {
    "font.size": 7.5,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "legend.fontsize": 7,
    "mathtext.default": "regular",
}
_OUTLINE = [withStroke(linewidth=1.4, foreground="black")]


def draw_panels(figure: Figure, data: OverviewData) -> None:
    """Draw the overview into an empty figure."""
    with mpl.rc_context(_STYLE):
        intensity, waterfall, lines, polar, cartesian, bar, lattice = _axes(figure)
        styles = _styles(data)
        norm = _norm(*data.profiles.values(), *([] if data.image is None else [data.image]))
        draw_intensity(intensity, data, styles)
        draw_lattice(lattice, data, styles)
        draw_waterfall(waterfall, data, norm, styles)
        draw_lines(lines, data, styles)
        if data.image is None:
            for axis in (polar, cartesian):
                axis.text(0.5, 0.5, "no image yet", ha="center", transform=axis.transAxes)
        else:
            _polar(polar, data, data.image, norm, styles)
            _cartesian(cartesian, data, data.image, norm, styles)
        colour_bar = figure.colorbar(ScalarMappable(norm, COLOUR_MAP), cax=bar, extend="both")
        colour_bar.set_label("mean counts per pixel")
        panels = (intensity, lattice, waterfall, polar, cartesian)
        for letter, axis in zip("abcde", panels, strict=True):
            axis.set_title(f"({letter})", loc="left", fontsize=8.5, fontweight="bold", pad=3)
        figure.align_ylabels([intensity, lattice, waterfall])
        figure.text(0.01, 0.992, data.title, fontsize=8.5, va="top")


def _axes(figure: Figure) -> list[Axes]:
    """Return the axes at fixed places: a layout that adapts costs half of the drawing time."""
    left = figure.add_gridspec(
        3,
        2,
        left=0.085,
        right=0.52,
        bottom=0.068,
        top=0.942,
        height_ratios=(1.0, 0.5, 2.1),
        width_ratios=(1.0, 0.19),
        hspace=0.17,
        wspace=0.03,
    )
    right = figure.add_gridspec(
        2,
        2,
        left=0.585,
        right=0.925,
        bottom=0.068,
        top=0.942,
        height_ratios=(1.09, 1.0),
        width_ratios=(1.0, 0.045),
        hspace=0.26,
        wspace=0.06,
    )
    waterfall = figure.add_subplot(left[2, 0])
    return [
        figure.add_subplot(left[0, 0], sharex=waterfall),
        waterfall,
        figure.add_subplot(left[2, 1], sharey=waterfall),
        figure.add_subplot(right[0, 0]),
        figure.add_subplot(right[1, 0], anchor="W"),
        figure.add_subplot(right[:, 1]),
        figure.add_subplot(left[1, 0], sharex=waterfall),
    ]


def _styles(data: OverviewData) -> Styles:
    """Return colour and marker of each phase found, and of peaks that none explains ("")."""
    pairs = zip(cycle(_PHASE_COLOURS), cycle(_MARKERS), strict=True)
    return dict(zip(data.onset, pairs, strict=False)) | {"": UNKNOWN}


def _norm(*arrays: Any) -> LogNorm:
    """Return a logarithmic scale between robust ends of all arrays."""
    values = np.concatenate([np.ravel(array) for array in arrays]) if arrays else np.empty(0)
    positive = values[np.isfinite(values) & (values > 0)]
    if positive.size == 0:
        return LogNorm(1.0, 10.0)
    low, high = np.percentile(positive, (3.0, 99.8))
    return LogNorm(max(low, high * 1e-3), max(high, low * 2))


def _polar(
    axis: Axes,
    data: OverviewData,
    image: NDArray[np.float32],
    norm: LogNorm,
    styles: Styles,
) -> None:
    """Draw the polar image with the boxes of the frame."""
    axis.set_facecolor(NO_DATA)
    extent = (*_ends(data.q), *_ends(data.phi))
    axis.imshow(
        _shown(image, norm),
        extent=extent,
        origin="lower",
        aspect="auto",
        cmap=COLOUR_MAP,
        norm=norm,
        interpolation="nearest",
    )
    shown = data.peaks[data.peaks["frame"] == data.frame]
    if data.searched == "polar":
        _boxes(axis, shown, styles, (data.q, data.phi))
    _box_labels(axis, shown, styles, seen_q(data))
    axis.set_xlim(seen_q(data))
    axis.set_ylim(0.0, 90.0)
    axis.set_yticks((0, 30, 60, 90))
    axis.set_xlabel("|q| (Å$^{-1}$)")
    axis.set_ylabel(r"$\phi$ (deg)")


def _boxes(axis: Axes, shown: pd.DataFrame, styles: Styles, axes: tuple[Float64, Float64]) -> None:
    """Draw the boxes; axes: values of the columns and rows that they count."""
    (left, x_step), (low, y_step) = ((values[0], values[1] - values[0]) for values in axes)
    for _, peak in shown.iterrows():
        colour, _ = styles.get(peak["phase"], UNKNOWN)
        corner = (left + peak["x0"] * x_step, low + peak["y0"] * y_step)
        width = (peak["x1"] - peak["x0"]) * x_step
        height = (peak["y1"] - peak["y0"]) * y_step
        axis.add_patch(Rectangle(corner, width, height, fill=False, ec=colour, lw=0.6))


def _box_labels(
    axis: Axes, shown: pd.DataFrame, styles: Styles, limits: tuple[float, float]
) -> None:
    """Write hkl above the boxes, each line once, apart from one another."""
    known = shown.dropna(subset="phase").sort_values("q").drop_duplicates(["phase", "h", "k", "l"])
    at = -np.inf
    for _, peak in known.iterrows():
        at = max(peak["q"], at + 0.042 * (limits[1] - limits[0]))
        axis.annotate(
            hkl_label(peak["h"], peak["k"], peak["l"]),
            (at, 88.0),
            ha="center",
            va="top",
            rotation=90,
            fontsize=SMALL,
            color=styles[peak["phase"]][0],
            path_effects=_OUTLINE,
        )


def _cartesian(
    axis: Axes,
    data: OverviewData,
    image: NDArray[np.float32],
    norm: LogNorm,
    styles: Styles,
) -> None:
    """Draw the image over (q_xy, q_z) with the detected peaks; grey is what is not seen."""
    axis.set_facecolor(NO_DATA)
    _, q_max = seen_q(data)
    q_xy, values = _reciprocal(image, data, q_max)
    axis.imshow(
        _shown(values, norm),
        extent=(*_ends(q_xy), *_ends(q_xy)),
        origin="lower",
        cmap=COLOUR_MAP,
        norm=norm,
        interpolation="nearest",
    )
    shown = data.peaks[data.peaks["frame"] == data.frame]
    if data.searched == "cartesian":  # its rows and columns end where |q| does
        _boxes(axis, shown, styles, (data.q, np.linspace(0.0, data.q[-1], len(data.phi))))
    for phase, rows in shown.groupby(shown["phase"].fillna("")):
        colour, marker = styles.get(str(phase), UNKNOWN)
        axis.plot(
            rows["q_xy"],
            rows["q_z"],
            marker,
            ls="",
            ms=4.0,
            mfc="none",
            mec=colour,
            mew=1.0,
            path_effects=_OUTLINE,
            label=f"{phase or 'unexplained'} ({counted(len(rows), 'peak')})",
        )
    if len(shown):
        axis.legend(loc="upper right", handletextpad=0.1, borderpad=0.3, facecolor="0.25",
                    labelcolor="white", framealpha=0.85, edgecolor="none")  # fmt: skip
    axis.set_xlim(0.0, q_max)
    axis.set_ylim(0.0, q_max)
    axis.set_aspect("equal")
    axis.set_xlabel("|$q_{xy}$| (Å$^{-1}$)")
    axis.set_ylabel("$q_z$ (Å$^{-1}$)")


def _shown(image: NDArray[np.float32], norm: LogNorm) -> NDArray[np.float32]:
    """Return the image with its dark end drawn, where a logarithm would leave a hole like NaN."""
    return np.maximum(image, np.float32(norm.vmin or 0.0))


def _reciprocal(
    image: NDArray[np.float32], data: OverviewData, q_max: float
) -> tuple[Float64, NDArray[np.float32]]:
    """Return the polar image on a regular (q_xy, q_z) grid, nearest bin, NaN outside."""
    axis = np.linspace(0.0, q_max, 700)
    q_xy, q_z = np.meshgrid(axis, axis)
    column = np.rint((np.hypot(q_xy, q_z) - data.q[0]) / (data.q[1] - data.q[0])).astype(int)
    angle = np.degrees(np.arctan2(q_z, q_xy))
    row = np.rint((angle - data.phi[0]) / (data.phi[1] - data.phi[0])).astype(int)
    inside = (column < image.shape[1]) & (row >= 0) & (row < image.shape[0])
    values = image[np.where(inside, row, 0), np.where(inside, column, 0)]
    return axis, np.where(inside, values, np.float32(np.nan))


def _ends(centres: Float64) -> tuple[float, float]:
    half = 0.5 * (centres[1] - centres[0])
    return float(centres[0] - half), float(centres[-1] + half)
