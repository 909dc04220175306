"""The four panels of the overview figure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gixi_bluesky.tiled_adapters.drawing.overview import OverviewData

__all__ = ["draw_panels"]

Float64 = NDArray[np.float64]
Styles = Mapping[str, tuple[str, str]]

# Distinct for colour-blind readers and from the colour map; markers repeat the distinction.
_PHASE_COLOURS = ("#56B4E9", "#F0E442", "#5CE0B0", "#E69F00", "#C3A6FF", "#FFFFFF")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_UNKNOWN = ("#D0D0D0", "x")
_MAP = "magma"
_NO_DATA = "#B8B8B8"
_SMALL = 6.5
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
        intensity, waterfall, lines, polar, cartesian, bar = _axes(figure)
        styles = _styles(data)
        norm = _norm(*data.profiles.values(), *([] if data.image is None else [data.image]))
        _intensity(intensity, data, styles)
        _waterfall(waterfall, data, norm, styles)
        _lines(lines, data, styles)
        if data.image is None:
            for axis in (polar, cartesian):
                axis.text(0.5, 0.5, "no image yet", ha="center", transform=axis.transAxes)
        else:
            _polar(polar, data, data.image, norm, styles)
            _cartesian(cartesian, data, data.image, norm, styles)
        colour_bar = figure.colorbar(ScalarMappable(norm, _MAP), cax=bar, extend="both")
        colour_bar.set_label("mean counts per pixel")
        for letter, axis in zip("abcd", (intensity, waterfall, polar, cartesian), strict=True):
            axis.set_title(f"({letter})", loc="left", fontsize=8.5, fontweight="bold", pad=3)
        figure.align_ylabels([intensity, waterfall])
        figure.text(0.01, 0.992, data.title, fontsize=8.5, va="top")


def _axes(figure: Figure) -> list[Axes]:
    """Return the axes at fixed places: a layout that adapts costs half of the drawing time."""
    left = figure.add_gridspec(
        2,
        2,
        left=0.085,
        right=0.52,
        bottom=0.068,
        top=0.942,
        height_ratios=(1.0, 2.6),
        width_ratios=(1.0, 0.19),
        hspace=0.14,
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
    waterfall = figure.add_subplot(left[1, 0])
    return [
        figure.add_subplot(left[0, 0], sharex=waterfall),
        waterfall,
        figure.add_subplot(left[1, 1], sharey=waterfall),
        figure.add_subplot(right[0, 0]),
        figure.add_subplot(right[1, 0], anchor="W"),
        figure.add_subplot(right[:, 1]),
    ]


def _styles(data: OverviewData) -> Styles:
    """Return colour and marker of each phase found, and of peaks that none explains ("")."""
    pairs = zip(cycle(_PHASE_COLOURS), cycle(_MARKERS), strict=True)
    return dict(zip(data.onset, pairs, strict=False)) | {"": _UNKNOWN}


def _norm(*arrays: Any) -> LogNorm:
    """Return a logarithmic scale between robust ends of all arrays."""
    values = np.concatenate([np.ravel(array) for array in arrays]) if arrays else np.empty(0)
    positive = values[np.isfinite(values) & (values > 0)]
    if positive.size == 0:
        return LogNorm(1.0, 10.0)
    low, high = np.percentile(positive, (3.0, 99.8))
    return LogNorm(max(low, high * 1e-3), max(high, low * 2))


def _intensity(axis: Axes, data: OverviewData, styles: Styles) -> None:
    """Draw the intensity of all peaks and of each phase over time."""
    time = data.time_of(data.frames["frame"])
    total = data.frames["total_intensity"].to_numpy(dtype=float)
    scale = np.nanmax(total) if len(total) and np.nanmax(total) > 0 else 1.0
    axis.plot(time, total / scale, color="0.45", lw=1.0, label="all scattering")
    sums = data.peaks.groupby(["phase", "frame"])["intensity"].sum()
    top = float(sums.max()) if len(sums) else 1.0
    for phase in data.onset:
        if phase not in sums.index.get_level_values(0):
            continue
        colour, onset = _darker(styles[phase][0]), data.onset[phase]
        series = sums[phase].reindex(data.frames["frame"], fill_value=0.0)
        label = f"{phase} peaks, from {onset:.0f} s"
        axis.plot(time, series / top, color=colour, lw=1.5, label=label)
        axis.axvline(onset, color=colour, lw=0.9, ls=(0, (3, 2)))
    axis.set_ylim(-0.04, 1.08)
    axis.set_ylabel("relative intensity")
    axis.tick_params(labelbottom=False)
    if len(total):
        axis.legend(loc="best", frameon=False, handlelength=1.4, borderaxespad=0.2)
    axis.spines[["top", "right"]].set_visible(False)


def _darker(colour: str) -> tuple[float, float, float]:
    """Return a phase's colour darkened for text on white."""
    red, green, blue = (0.72 * part for part in to_rgb(colour))
    return red, green, blue


def _waterfall(axis: Axes, data: OverviewData, norm: LogNorm, styles: Styles) -> None:
    """Draw the radial profiles over time with the detected peaks."""
    axis.set_facecolor(_NO_DATA)
    frames = list(data.profiles)
    if frames:
        profiles = np.stack([data.profiles[frame] for frame in frames], axis=1)
        edges = _edges(data.time_of(frames))
        axis.pcolormesh(edges, _edges(data.q), profiles, cmap=_MAP, norm=norm, rasterized=True)
        axis.set_xlim(edges[0], edges[-1])
    for phase, rows in data.peaks.groupby(data.peaks["phase"].fillna("")):
        colour, marker = styles.get(str(phase), _UNKNOWN)
        times = data.time_of(rows["frame"])
        axis.plot(times, rows["q"], marker, ls="", ms=1.4, mew=0.3, color=colour, alpha=0.8)
    axis.set_ylim(_seen_q(data))
    axis.set_xlabel("time (s)")
    axis.set_ylabel("|q| (Å$^{-1}$)")


def _lines(axis: Axes, data: OverviewData, styles: Styles) -> None:
    """Draw the lines of the phases found, with hkl, beside the waterfall."""
    axis.set_xlim(0.0, 1.0)
    axis.spines[:].set_visible(False)
    axis.tick_params(left=False, labelleft=False, bottom=False, labelbottom=False)
    low, high = _seen_q(data)
    known = data.peaks.dropna(subset="phase")
    known = known.assign(line=known["q"] - known["dq"])
    lines = known.groupby(["phase", "h", "k", "l"])["line"].median().reset_index()
    label_at = -np.inf
    for line in lines.sort_values("line").to_dict("records"):
        colour, q = _darker(styles[line["phase"]][0]), line["line"]
        axis.plot((0.0, 0.3), (q, q), color=colour, lw=1.4, clip_on=False)
        label_at = max(q, label_at + 0.028 * (high - low))
        axis.plot((0.3, 0.42), (q, label_at), color="0.6", lw=0.4)
        axis.text(
            0.46, label_at, _hkl(line["h"], line["k"], line["l"]), va="center", fontsize=_SMALL
        )


def _polar(
    axis: Axes,
    data: OverviewData,
    image: NDArray[np.float32],
    norm: LogNorm,
    styles: Styles,
) -> None:
    """Draw the polar image with the boxes of the frame."""
    axis.set_facecolor(_NO_DATA)
    extent = (*_ends(data.q), *_ends(data.phi))
    axis.imshow(
        _shown(image, norm),
        extent=extent,
        origin="lower",
        aspect="auto",
        cmap=_MAP,
        norm=norm,
        interpolation="nearest",
    )
    shown = data.peaks[data.peaks["frame"] == data.frame]
    if data.searched == "polar":
        _boxes(axis, shown, styles, (data.q, data.phi))
    _box_labels(axis, shown, styles, _seen_q(data))
    axis.set_xlim(_seen_q(data))
    axis.set_ylim(0.0, 90.0)
    axis.set_yticks((0, 30, 60, 90))
    axis.set_xlabel("|q| (Å$^{-1}$)")
    axis.set_ylabel(r"$\phi$ (deg)")


def _boxes(axis: Axes, shown: pd.DataFrame, styles: Styles, axes: tuple[Float64, Float64]) -> None:
    """Draw the boxes; axes: values of the columns and rows that they count."""
    (left, x_step), (low, y_step) = ((values[0], values[1] - values[0]) for values in axes)
    for _, peak in shown.iterrows():
        colour, _ = styles.get(peak["phase"], _UNKNOWN)
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
            _hkl(peak["h"], peak["k"], peak["l"]),
            (at, 88.0),
            ha="center",
            va="top",
            rotation=90,
            fontsize=_SMALL,
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
    axis.set_facecolor(_NO_DATA)
    _, q_max = _seen_q(data)
    q_xy, values = _reciprocal(image, data, q_max)
    axis.imshow(
        _shown(values, norm),
        extent=(*_ends(q_xy), *_ends(q_xy)),
        origin="lower",
        cmap=_MAP,
        norm=norm,
        interpolation="nearest",
    )
    shown = data.peaks[data.peaks["frame"] == data.frame]
    if data.searched == "cartesian":  # its rows and columns end where |q| does
        _boxes(axis, shown, styles, (data.q, np.linspace(0.0, data.q[-1], len(data.phi))))
    for phase, rows in shown.groupby(shown["phase"].fillna("")):
        colour, marker = styles.get(str(phase), _UNKNOWN)
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
            label=f"{phase or 'unexplained'} ({len(rows)} peaks)",
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


def _seen_q(data: OverviewData) -> tuple[float, float]:
    """Return the range of |q| in which anything was seen."""
    if data.image is None:
        return float(data.q[0]), float(data.q[-1])
    seen = data.q[np.isfinite(data.image).any(axis=0)]
    return (0.0, float(seen[-1])) if seen.size else (0.0, float(data.q[-1]))


def _hkl(h: float, k: float, l: float) -> str:  # noqa: E741 - the field's name
    """Return hkl as text, negative indices with a bar."""
    indices = [int(h), int(k), int(l)]
    if max(map(abs, indices)) < 10:
        return "".join(rf"$\bar{{{-i}}}$" if i < 0 else str(i) for i in indices)
    return " ".join(map(str, indices))


def _edges(centres: Any) -> Float64:
    """Return the borders of cells around increasing centres."""
    centres = np.asarray(centres, dtype=float)
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = 0.5 * (centres[1:] + centres[:-1])
    first, last = centres[0] - (middle[0] - centres[0]), 2 * centres[-1] - middle[-1]
    return np.concatenate([[first], middle, [last]])


def _ends(centres: Float64) -> tuple[float, float]:
    half = 0.5 * (centres[1] - centres[0])
    return float(centres[0] - half), float(centres[-1] + half)
