"""A picture of one analysed frame: raw, polar and in (q_xy, q_z), with peaks and cuts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from matplotlib.patheffects import AbstractPathEffect, withStroke
from numpy.typing import NDArray

from gixi_bluesky.processing.cuts.outlines import outline
from gixi_bluesky.processing.cuts.settings import CutSettings
from gixi_bluesky.processing.pictures.cut_picture import draw_cut
from gixi_bluesky.processing.pictures.style import AXES, CUT_COLOURS, STYLE, intensity_scale
from gixi_bluesky.processing.types import CartesianImage, FrameResult

__all__ = ["FramePicture", "frame_figure"]

_MAP, _NO_DATA = "magma", "#B8B8B8"
_EXPLAINED, _UNEXPLAINED = "#56B4E9", "#FFFFFF"
_PRESENT = 0.5
_OUTLINE: list[AbstractPathEffect] = [withStroke(linewidth=1.4, foreground="black")]
_INCHES, _CUT_INCHES = (10.0, 3.4), 2.3


@dataclass(frozen=True, slots=True)
class FramePicture:
    """The content of the picture.

    frame: (rows, columns) counts after `orient`; q_map: the same on (q_xy, q_z)
    cuts: the settings of the cuts that `result` holds
    """

    title: str
    frame: NDArray[Any]
    result: FrameResult
    q_map: CartesianImage
    cuts: Mapping[str, CutSettings]

    def save(self, path: str | Path) -> None:
        """Write the picture as PNG, PDF or SVG, as the name of the file says."""
        frame_figure(self).savefig(path, dpi=160)


def frame_figure(picture: FramePicture) -> Figure:
    """Return the figure: three images, and below them the cuts."""
    with mpl.rc_context(STYLE):
        n_cuts = len(picture.result.cuts)
        height = _INCHES[1] + (_CUT_INCHES if n_cuts else 0.0)
        figure = Figure(figsize=(_INCHES[0], height), layout="constrained")
        FigureCanvasAgg(figure)
        ratios = [_INCHES[1], _CUT_INCHES] if n_cuts else [1.0]
        rows = figure.subfigures(len(ratios), 1, height_ratios=ratios, squeeze=False)[:, 0]
        raw, polar, cartesian = rows[0].subplots(1, 3)
        scale = intensity_scale(picture.result.polar_image)
        _raw(raw, picture.frame, scale)
        _polar(polar, picture, scale)
        _cartesian(cartesian, picture, scale)
        if n_cuts:
            axes = rows[1].subplots(1, n_cuts, squeeze=False)[0]
            for axis, cut in zip(axes, picture.result.cuts.values(), strict=True):
                draw_cut(axis, cut)
                axis.set_title(cut.name, loc="left", fontweight="bold")
        figure.suptitle(picture.title, x=0.01, ha="left", fontsize=9)
        return figure


def _raw(axis: Axes, frame: NDArray[Any], scale: LogNorm) -> None:
    axis.set_facecolor(_NO_DATA)
    axis.imshow(frame, origin="lower", norm=scale, cmap=_MAP, interpolation="nearest")
    axis.set(xlabel="column", ylabel="row", title="detector")


def _polar(axis: Axes, picture: FramePicture, scale: LogNorm) -> None:
    result = picture.result
    axis.set_facecolor(_NO_DATA)
    extent = (result.q[0], result.q[-1], result.phi[0], result.phi[-1])
    axis.imshow(
        result.polar_image, origin="lower", extent=extent, norm=scale, cmap=_MAP, aspect="auto"
    )
    axis.set(xlabel=AXES["q"], ylabel=AXES["phi"], title="polar")
    if result.cartesian is None:
        per_column, per_row = result.q[1] - result.q[0], result.phi[1] - result.phi[0]
        for peak in _labelled(result).to_dict("records"):
            colour = _EXPLAINED if peak["label"] else _UNEXPLAINED
            size = (peak["x1"] - peak["x0"]) * per_column, (peak["y1"] - peak["y0"]) * per_row
            corner = peak["x0"] * per_column, peak["y0"] * per_row
            axis.add_patch(Rectangle(corner, *size, fill=False, ec=colour, lw=0.7))
            _write(axis, peak["q"], min(corner[1] + size[1], 88.0), peak["label"], colour)
    for colour, (q_xy, q_z) in _outlines(picture):
        points = np.hypot(q_xy, q_z), np.degrees(np.arctan2(q_z, np.abs(q_xy)))
        axis.add_patch(Polygon(np.stack(points, 1), fill=False, ec=colour, lw=1.0, ls="--"))
    axis.set(xlim=extent[:2], ylim=extent[2:])


def _cartesian(axis: Axes, picture: FramePicture, scale: LogNorm) -> None:
    image = picture.q_map
    axis.set_facecolor(_NO_DATA)
    extent = (image.q_xy[0], image.q_xy[-1], image.q_z[0], image.q_z[-1])
    axis.imshow(image.intensity, origin="lower", extent=extent, norm=scale, cmap=_MAP)
    axis.set(xlabel=AXES["q_xy"], ylabel=AXES["q_z"], title="reciprocal space", aspect="equal")
    peaks = _labelled(picture.result)
    peaks = peaks[peaks["kind"] != "ring"]
    explained = peaks["label"] != ""
    for chosen, colour in ((explained, _EXPLAINED), (~explained, _UNEXPLAINED)):
        axis.plot(
            peaks.loc[chosen, "q_xy"], peaks.loc[chosen, "q_z"], "o", mfc="none", mec=colour, ms=5
        )
    for colour, points in _outlines(picture):
        axis.add_patch(Polygon(np.stack(points, 1), fill=False, ec=colour, lw=1.0, ls="--"))
    axis.set(xlim=extent[:2], ylim=extent[2:])


def _labelled(result: FrameResult) -> pd.DataFrame:
    """Return the peaks with the hkl of the most probable phase that explains each, else ""."""
    present = result.matches[result.matches["probability"] >= _PRESENT]
    lines = result.match_peaks.merge(present[["phase", "probability"]], on="phase")
    best = lines.sort_values("probability", ascending=False).drop_duplicates("peak")
    labels = {
        line["peak"]: f"{line['h']}{line['k']}{line['l']}" for line in best.to_dict("records")
    }
    peaks = result.peaks
    return peaks.assign(label=[labels.get(peak, "") for peak in peaks["peak"]])


def _outlines(picture: FramePicture) -> list[tuple[str, tuple[NDArray[Any], NDArray[Any]]]]:
    return [
        (colour, outline(cut, picture.cuts[name]))
        for colour, (name, cut) in zip(
            cycle(CUT_COLOURS), picture.result.cuts.items(), strict=False
        )
    ]


def _write(axis: Axes, x: float, y: float, text: str, colour: str) -> None:
    axis.text(
        x, y, text, color=colour, fontsize=6, rotation=90, ha="center", va="top"
    ).set_path_effects(_OUTLINE)
