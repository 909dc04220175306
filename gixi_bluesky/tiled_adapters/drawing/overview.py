"""The overview of a derived run in one figure; read from Tiled, drawn without a display."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gixi_bluesky.errors import StoreError
from gixi_bluesky.tiled_adapters.drawing.panels import draw_panels
from gixi_bluesky.tiled_adapters.run_names import run_title

__all__ = ["Onset", "Overview", "OverviewData", "overview_figure"]

Float64 = NDArray[np.float64]

_MOST_PROFILES = 240  # columns of the waterfall; longer runs are thinned
_PRESENT = 0.5
_INCHES, _DPI = (7.4, 6.3), 200


class DerivedRun(Protocol):
    """The part of a derived run that the figure reads; GIXIRun implements it."""

    @property
    def start(self) -> Mapping[str, Any]: ...
    @property
    def summary(self) -> Mapping[str, Any]: ...
    def frames(self) -> pd.DataFrame: ...
    def peaks(self) -> pd.DataFrame: ...
    def matches(self) -> pd.DataFrame: ...
    def match_peaks(self) -> pd.DataFrame: ...
    def polar_image(self, frame: int) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class Onset:
    """When a phase begins, s, with the bounds of its 95 % interval.

    They are those of its growth where tracks gave one; else all three are the time at which its
    probability is one half for the first time.
    """

    time: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class OverviewData:
    """The content of the panels.

    seconds: time of each analysed frame by its number
    profiles: robust mean over phi of the polar image by frame number, (n_q,) each
    image: (n_phi, n_q) polar image of `frame`, None = no image is stored
    searched: polar or cartesian, the space of the boxes' pixels
    onset: of each present phase
    """

    title: str
    frames: pd.DataFrame
    peaks: pd.DataFrame
    matches: pd.DataFrame
    seconds: Mapping[int, float]
    profiles: Mapping[int, Float64]
    q: Float64
    phi: Float64
    frame: int
    image: NDArray[np.float32] | None
    onset: Mapping[str, Onset]
    searched: str = "polar"

    def time_of(self, frames: Any) -> Float64:
        """Return the time of each frame number, s."""
        return np.array([self.seconds[int(frame)] for frame in frames], dtype=float)


class Overview:
    """Draws a run again and again while it grows; every image is fetched once.

    seconds: time of each frame by its number, may grow; None = wall clock since the first frame
    """

    def __init__(self, run: DerivedRun, seconds: Mapping[int, float] | None = None) -> None:
        self.run = run
        self._seconds = seconds
        self._profiles: dict[int, Float64] = {}

    def figure(self) -> Figure:
        """Return the panels: intensity, lattice and |q| over time, polar and (q_xy, q_z) image."""
        figure = Figure(figsize=_INCHES)
        FigureCanvasAgg(figure)
        draw_panels(figure, self.data())
        return figure

    def save(self, path: Path) -> None:
        """Write the figure as a PNG file, which is replaced atomically."""
        part = path.with_name(f".{path.stem}.part{path.suffix}")
        self.figure().savefig(part, dpi=_DPI)
        os.replace(part, path)  # noqa: PTH105 - atomic on every system

    def data(self) -> OverviewData:
        """Read what the figure shows."""
        frames = self.run.frames().sort_values("frame", ignore_index=True)
        done = frames[frames["status"] == "ok"].reset_index(drop=True)
        seconds = self._times(frames)
        known = done[done["frame"].isin(list(seconds))].reset_index(drop=True)
        numbers = [int(frame) for frame in known["frame"]]
        peaks, matches = self._tables(set(numbers))
        step = max(1, -(-len(numbers) // _MOST_PROFILES))
        for frame in numbers[::step]:
            self._keep_profile(frame)
        last = numbers[-1] if numbers else -1
        image = self._image(last) if numbers else None
        q, phi = self._axes()
        return OverviewData(
            title=self._title(),
            frames=known,
            peaks=peaks,
            matches=matches,
            seconds=seconds,
            profiles={f: p for f, p in sorted(self._profiles.items()) if f in seconds},
            q=q,
            phi=phi,
            frame=last,
            image=image,
            onset=_onsets(matches, seconds, self.run.summary.get("phases", {})),
            searched=self.run.start["gixi"]["grid"].get("space", "polar"),
        )

    def _times(self, frames: pd.DataFrame) -> Mapping[int, float]:
        if self._seconds is not None:
            return self._seconds
        began = float(frames["raw_time"].min()) if len(frames) else 0.0
        return {
            int(frame): float(time) - began
            for frame, time in zip(frames["frame"], frames["raw_time"], strict=True)
        }

    def _tables(self, numbers: set[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return peaks with their most probable phase and hkl, and the matches."""
        matches = self.run.matches()
        matches = matches[matches["frame"].isin(numbers)]
        present = matches[matches["probability"] >= _PRESENT]
        lines = self.run.match_peaks().merge(
            present[["frame", "phase", "probability"]], on=["frame", "phase"]
        )
        # One name a peak: the most probable phase, and the family with the nearest line.
        lines = lines.assign(off=lines["dq"].abs()).sort_values(
            ["probability", "off"], ascending=[False, True]
        )
        lines = lines.drop_duplicates(["frame", "peak"])
        peaks = self.run.peaks()
        peaks = peaks[peaks["frame"].isin(numbers)]
        columns = ["frame", "peak", "phase", "h", "k", "l", "dq"]
        return peaks.merge(lines[columns], on=["frame", "peak"], how="left"), matches

    def _image(self, frame: int) -> NDArray[np.float32] | None:
        try:
            return np.asarray(self.run.polar_image(frame), dtype=np.float32)
        except StoreError:  # not every frame has a stored image
            return None

    def _keep_profile(self, frame: int) -> None:
        if frame in self._profiles:
            return
        image = self._image(frame)
        if image is None:
            return
        self._profiles[frame] = _profile(image)

    def _axes(self) -> tuple[Float64, Float64]:
        grid = self.run.start["gixi"]["grid"]
        n_phi, n_q = grid["shape"]
        return np.linspace(0.0, grid["q_max_inv_angstrom"], n_q), np.linspace(0.0, 90.0, n_phi)

    def _title(self) -> str:
        return run_title(self.run.start)


def overview_figure(run: DerivedRun, seconds: Mapping[int, float] | None = None) -> Figure:
    """Return the overview of a derived run; `seconds`: time of each frame, None = wall clock."""
    return Overview(run, seconds).figure()


def _profile(image: NDArray[np.float32]) -> Float64:
    """Return the mean over phi of a polar image, NaN = no data; (n_q,).

    The brightest hundredth of each column is left out, so that no hot pixel draws a line.
    """
    ordered = np.sort(image, axis=0).astype(float)  # NaN last
    kept = np.floor(0.99 * np.isfinite(image).sum(axis=0)).astype(int)
    within = np.arange(len(image))[:, None] < kept
    total = np.where(within, ordered, 0.0).sum(axis=0)
    return np.where(kept > 0, total / np.maximum(kept, 1), np.nan)


def _onsets(
    matches: pd.DataFrame, seconds: Mapping[int, float], summary: Mapping[str, Mapping[str, Any]]
) -> dict[str, Onset]:
    """Return the onset of each phase that is present, the earliest first."""
    present = matches[matches["probability"] >= _PRESENT]
    first = present.groupby("phase")["frame"].min()
    found = {}
    for phase, frame in first.items():
        known = summary.get(str(phase), {})
        bounds = [known.get(f"onset_frame{bound}") for bound in ("", "_low", "_high")]
        # A frame of the estimate may lack a row, as one that was not analysed yet.
        times = [seconds.get(bound) for bound in bounds if bound is not None]
        whole = len(times) == len(bounds) and None not in times
        given = times if whole else [seconds[int(frame)]] * 3
        found[str(phase)] = Onset(*(float(time) for time in given if time is not None))
    return dict(sorted(found.items(), key=lambda item: item[1].time))
