"""The panels of the overview over time: intensities, lattices, and |q| with the tracks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from numpy.typing import NDArray

from gixi_bluesky.tiled_adapters.drawing.styles import (
    COLOUR_MAP,
    NO_DATA,
    SMALL,
    UNKNOWN,
    Styles,
    darker,
    hkl_label,
    seen_q,
)

if TYPE_CHECKING:
    from gixi_bluesky.tiled_adapters.drawing.overview import OverviewData

__all__ = ["draw_intensity", "draw_lattice", "draw_lines", "draw_waterfall"]

Float64 = NDArray[np.float64]

_SHORTEST_TRACK = 3  # frames
_LARGEST_ERROR = 0.003  # of a lattice that is drawn


def draw_intensity(axis: Axes, data: OverviewData, styles: Styles) -> None:
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
        colour, onset = darker(styles[phase][0]), data.onset[phase]
        series = sums[phase].reindex(data.frames["frame"], fill_value=0.0)
        label = f"{phase} peaks, from {onset.time:.0f} s"
        if onset.high > onset.low:
            label += f" ({onset.low:.0f} to {onset.high:.0f} s)"
            axis.axvspan(onset.low, onset.high, color=colour, alpha=0.18, lw=0)
        axis.plot(time, series / top, color=colour, lw=1.5, label=label)
        axis.axvline(onset.time, color=colour, lw=0.9, ls=(0, (3, 2)))
    axis.set_ylim(-0.04, 1.08)
    axis.set_ylabel("relative intensity")
    axis.tick_params(labelbottom=False)
    if len(total):
        axis.legend(loc="best", frameon=False, handlelength=1.4, borderaxespad=0.2)
    axis.spines[["top", "right"]].set_visible(False)


def draw_lattice(axis: Axes, data: OverviewData, styles: Styles) -> None:
    """Draw the lattice of each phase over time, relative to its CIF."""
    present = data.matches[data.matches["probability"] >= 0.5]
    for phase in data.onset:
        rows = present[present["phase"] == phase].sort_values("frame")
        scale = 100 * (rows["lattice_scale"].to_numpy(float) - 1)
        error = 100 * rows["lattice_scale_error"].to_numpy(float)
        known = np.isfinite(scale) & (error < 100 * _LARGEST_ERROR)
        if not known.any():
            continue
        time = data.time_of(rows["frame"])[known]
        colour = darker(styles[phase][0])
        axis.plot(time, scale[known], color=colour, lw=1.0)
        low, high = (scale[known] + sign * error[known] for sign in (-1, 1))
        axis.fill_between(time, low, high, color=colour, alpha=0.25, lw=0)
    axis.set_ylabel("lattice (%)")
    axis.margins(y=0.2)
    axis.tick_params(labelbottom=False)
    axis.spines[["top", "right"]].set_visible(False)


def draw_waterfall(axis: Axes, data: OverviewData, norm: LogNorm, styles: Styles) -> None:
    """Draw the radial profiles over time, the detected peaks, and a line through each track."""
    axis.set_facecolor(NO_DATA)
    frames = list(data.profiles)
    if frames:
        profiles = np.stack([data.profiles[frame] for frame in frames], axis=1)
        edges = _edges(data.time_of(frames))
        axis.pcolormesh(
            edges, _edges(data.q), profiles, cmap=COLOUR_MAP, norm=norm, rasterized=True
        )
        axis.set_xlim(edges[0], edges[-1])
    for phase, rows in data.peaks.groupby(data.peaks["phase"].fillna("")):
        colour, marker = styles.get(str(phase), UNKNOWN)
        times = data.time_of(rows["frame"])
        axis.plot(times, rows["q"], marker, ls="", ms=1.4, mew=0.3, color=colour, alpha=0.8)
    _tracks(axis, data, styles)
    axis.set_ylim(seen_q(data))
    axis.set_xlabel("time (s)")
    axis.set_ylabel("|q| (Å$^{-1}$)")


def _tracks(axis: Axes, data: OverviewData, styles: Styles) -> None:
    for _, rows in data.peaks[data.peaks["track"] >= 0].groupby("track"):
        if rows["frame"].nunique() < _SHORTEST_TRACK:
            continue
        names = rows["phase"].fillna("").mode()
        colour, _ = styles.get(str(names.iloc[0]), UNKNOWN)
        ordered = rows.sort_values("frame")
        times = data.time_of(ordered["frame"])
        axis.plot(times, ordered["q"], color=colour, lw=0.5, alpha=0.7)


def draw_lines(axis: Axes, data: OverviewData, styles: Styles) -> None:
    """Draw the lines of the phases found, with hkl, beside the waterfall."""
    axis.set_xlim(0.0, 1.0)
    axis.spines[:].set_visible(False)
    axis.tick_params(left=False, labelleft=False, bottom=False, labelbottom=False)
    low, high = seen_q(data)
    known = data.peaks.dropna(subset="phase")
    known = known.assign(line=known["q"] - known["dq"])
    lines = known.groupby(["phase", "h", "k", "l"])["line"].median().reset_index()
    label_at = -np.inf
    for line in lines.sort_values("line").to_dict("records"):
        colour, q = darker(styles[line["phase"]][0]), line["line"]
        axis.plot((0.0, 0.3), (q, q), color=colour, lw=1.4, clip_on=False)
        label_at = max(q, label_at + 0.028 * (high - low))
        axis.plot((0.3, 0.42), (q, label_at), color="0.6", lw=0.4)
        axis.text(
            0.46, label_at, hkl_label(line["h"], line["k"], line["l"]), va="center", fontsize=SMALL
        )


def _edges(centres: Any) -> Float64:
    """Return the borders of cells around increasing centres."""
    centres = np.asarray(centres, dtype=float)
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = 0.5 * (centres[1:] + centres[:-1])
    first, last = centres[0] - (middle[0] - centres[0]), 2 * centres[-1] - middle[-1]
    return np.concatenate([[first], middle, [last]])
