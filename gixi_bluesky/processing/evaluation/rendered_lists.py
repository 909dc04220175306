"""Peak lists of simulated series as a detector makes them: found in images and measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from gixi_bluesky.processing.detector import Detector
from gixi_bluesky.processing.measure.peaks import surely_seen
from gixi_bluesky.processing.settings import DetectorSettings
from gixi_bluesky.processing.simulation.films import Series, SeriesTruth
from gixi_bluesky.processing.simulation.peak_lists import FALSE, PeakList
from gixi_bluesky.processing.tables import Peaks
from gixi_bluesky.processing.tracks.sum_search import search_with

__all__ = ["on_detector_grid", "owners", "rendered_list"]

_SHAPE = (512, 1024)  # of the images that networks are trained on
_APART_FWHM, _LEAST_OVERLAP = 1.0, 0.2
_IMPOSSIBLE = 1e6  # distance of what is not a pair


def on_detector_grid(series: Series) -> Series:
    """Return the series on the grid that detectors expect, with as many counts in all."""
    rows, columns = (new / old for new, old in zip(_SHAPE, series.grid.shape, strict=True))
    share, old = 1 / (rows * columns), series.grid
    grid = replace(old, shape=_SHAPE, density=old.density * share, least=old.least * share)
    hot = tuple((round(row * rows), round(column * columns)) for row, column in series.hot)
    return replace(series, grid=grid, hot=hot)


def rendered_list(series: Series, frame: int, detector: Detector) -> PeakList:
    """Return the peaks that a detector finds in a frame, with their reflections."""
    polar = series.polar(frame)
    peaks = surely_seen(search_with(detector, DetectorSettings())(polar))
    return PeakList(peaks, owners(peaks, series.truth(frame)))


def owners(peaks: Peaks, truth: SeriesTruth) -> NDArray[np.int64]:
    """Return the reflection of each peak, (m,), FALSE = of none.

    A pair lies within one FWHM along |q| and overlaps by a fifth of the narrower one along phi.
    Peaks and reflections are first paired one to one, as many as possible with the least total
    distance: along |q| in FWHM, and one minus the intersection over union of the arcs, which keeps
    a ring and an arc on it apart. A second peak of a reflection is its double and has the same
    owner.
    """
    owner = np.full(len(peaks), FALSE, np.int64)
    if not len(peaks) or not len(truth.reflection):
        return owner
    cost = _distance(peaks, truth)
    possible = np.isfinite(cost)
    rows, columns = linear_sum_assignment(np.where(possible, cost, _IMPOSSIBLE))
    paired = possible[rows, columns]
    owner[rows[paired]] = truth.reflection[columns[paired]]
    others = np.flatnonzero((owner == FALSE) & possible.any(axis=1))
    owner[others] = truth.reflection[np.argmin(cost[others], axis=1)]
    return owner


def _distance(peaks: Peaks, truth: SeriesTruth) -> NDArray[np.float64]:
    """Return the distance of each peak from each reflection, (m, n), inf = not a pair."""
    width = np.maximum(np.nan_to_num(peaks.fwhm_q)[:, None], truth.fwhm_q)
    apart = np.abs(peaks.q[:, None] - truth.peaks.q) / width
    half, true_half = np.nan_to_num(peaks.fwhm_phi)[:, None] / 2, truth.fwhm_phi / 2
    low = np.maximum(peaks.phi[:, None] - half, truth.peaks.phi - true_half)
    high = np.minimum(peaks.phi[:, None] + half, truth.peaks.phi + true_half)
    shared = np.maximum(high - low, 0.0)
    narrower = np.maximum(2 * np.minimum(half, true_half), 1e-9)
    union = np.maximum(2 * (half + true_half) - shared, 1e-9)
    good = (apart < _APART_FWHM) & (shared / narrower > _LEAST_OVERLAP)
    return np.where(good, apart + 1.0 - shared / union, np.inf)
