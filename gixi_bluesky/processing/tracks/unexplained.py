"""Lines that no candidate explains, grouped by their common course over time, with cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gixi_bluesky.processing.tracks.course_plan import FIRST_SUM_TRACK
from gixi_bluesky.processing.tracks.indexing import FEWEST_LINES, propose_cells
from gixi_bluesky.processing.tracks.phase_tables import course_matrix

__all__ = ["CELL_COLUMNS", "LINE_COLUMNS", "Unexplained", "unexplained_lines"]

Float64 = NDArray[np.float64]

LINE_COLUMNS = ("group", "line", "track", "q", "q_error", "phi", "intensity", "first_frame",
                "last_frame")  # fmt: skip
CELL_COLUMNS = ("group", "system", "centring", "a", "b", "c", "figure", "decades", "n_indexed",
                "n_lines")  # fmt: skip

_FEWEST_FRAMES = 3  # with a peak, of a track that is grouped
_LEAST_SNR = 8.0  # of a course
_TEXTURE = 0.08  # by which a line may leave the common course, of its own intensity
_LARGEST_CHI2 = 3.0  # a degree of freedom, of a line that belongs to a group
_SAME_LINE = 0.003  # of q, relative: arcs of one ring
_LEAST_ERROR = 3e-4  # of a mean q, relative, with what calibration leaves


@dataclass(frozen=True, slots=True)
class Unexplained:
    """Unexplained lines, for a search for further CIFs.

    lines: a row a track; tracks of one `group` grow together, those of one `line` have one |q|;
        `q_error` is the standard error of the mean q; group -1 = alone
    cells: a row a proposed cell, see `ProposedCell`, of groups of five or more lines
    """

    lines: pd.DataFrame
    cells: pd.DataFrame


def unexplained_lines(tracks: pd.DataFrame, courses: pd.DataFrame) -> Unexplained:
    """Group the tracks without a phase, the groups with most lines first.

    tracks: as `track_table` returns them; courses: rows of `courses`
    """
    # Weak lines of known phases are among those that only means show, and none is matched.
    single = tracks[tracks["track"] < FIRST_SUM_TRACK]
    open_ones = single[(single["phase"] == "") & (single["n_frames"] >= _FEWEST_FRAMES)]
    members = _grouped(courses, open_ones["track"].to_numpy(np.int64))
    lines = []
    for number, group in enumerate(members):
        mine = open_ones[open_ones["track"].isin(group)].sort_values("q")
        label = number if len(group) > 1 else -1
        q, error = _positions(courses, mine)
        lines.append(
            mine.assign(group=label, line=_line_numbers(q), q=q, q_error=error)[list(LINE_COLUMNS)]
        )
    table = pd.concat(lines, ignore_index=True) if lines else pd.DataFrame(columns=[*LINE_COLUMNS])
    return Unexplained(table, _cells(table))


def _grouped(courses: pd.DataFrame, tracks: NDArray[np.int64]) -> list[list[int]]:
    """Return tracks whose courses are proportional; the strongest begin the groups."""
    chosen = courses[courses["track"].isin(tracks)]
    _, intensity, error = course_matrix(chosen, tracks)
    names = np.sort(chosen["track"].unique()).astype(np.int64)
    snr = np.sqrt(np.nansum(np.clip(intensity / error, 0, None) ** 2, axis=1))
    groups: list[tuple[list[int], Float64, Float64]] = []
    for row in np.argsort(-snr, kind="stable"):
        if snr[row] < _LEAST_SNR:
            break
        value, sigma = intensity[row], error[row]
        fits = [_chi2(value, sigma, *of) for _, *of in groups]
        best = int(np.argmin(fits)) if fits else -1
        if fits and fits[best] < _LARGEST_CHI2:
            groups[best][0].append(int(names[row]))
        else:
            groups.append(([int(names[row])], value, sigma))
    return sorted((members for members, *_ in groups), key=len, reverse=True)


def _chi2(value: Float64, sigma: Float64, template: Float64, spread: Float64) -> float:
    """Return chi² a degree of freedom of a course that is proportional to another one."""
    known = np.isfinite(value) & np.isfinite(template) & (sigma > 0)
    if known.sum() < 3:
        return np.inf
    v, s, t, e = value[known], sigma[known], template[known], spread[known]
    scale, variance = 0.0, s**2
    for _ in range(3):
        weight = 1 / variance
        scale = float((weight * v * t).sum() / (weight * t * t).sum())
        variance = s**2 + (scale * e) ** 2 + (_TEXTURE * scale * t) ** 2
    if scale <= 0:
        return np.inf
    return float(((v - scale * t) ** 2 / variance).sum() / (len(v) - 1))


def _positions(courses: pd.DataFrame, tracks: pd.DataFrame) -> tuple[Float64, Float64]:
    """Return the mean |q| of tracks from their courses, and its error; else that of their peaks."""
    placed = courses[courses["track"].isin(tracks["track"]) & (courses["q_error"] > 0)]
    weight = placed["q_error"] ** -2.0
    total = weight.groupby(placed["track"]).sum()
    mean = (weight * placed["q"]).groupby(placed["track"]).sum() / total
    q = tracks["track"].map(mean).fillna(tracks["q"]).to_numpy(float)
    error = tracks["track"].map(total**-0.5).fillna(0.0).to_numpy(float)
    return q, np.hypot(error, _LEAST_ERROR * q)


def _line_numbers(q: Float64) -> NDArray[np.int64]:
    """(n,) numbers of the lines of increasing q, one for those that lie together."""
    apart = np.diff(q) > _SAME_LINE * q[1:]
    return np.concatenate([[0], np.cumsum(apart)]).astype(np.int64)


def _cells(lines: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for group, mine in lines[lines["group"] >= 0].groupby("group"):
        weight = mine["q_error"] ** -2.0
        total = weight.groupby(mine["line"]).sum()
        q = ((weight * mine["q"]).groupby(mine["line"]).sum() / total).to_numpy(float)
        if len(q) < FEWEST_LINES:
            continue
        for cell in propose_cells(q, total.to_numpy(float) ** -0.5):
            values = {name: getattr(cell, name) for name in CELL_COLUMNS[1:-1]}
            rows.append({"group": group, **values, "n_lines": len(q)})
    return pd.DataFrame(rows, columns=list(CELL_COLUMNS))
