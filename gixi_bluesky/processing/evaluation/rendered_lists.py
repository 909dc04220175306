"""Peak lists of simulated series as a detector makes them: found in images and measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.detector import Detector
from gixi_bluesky.processing.settings import DetectorSettings
from gixi_bluesky.processing.simulation.films import Series, SeriesTruth
from gixi_bluesky.processing.simulation.peak_lists import FALSE, PeakList
from gixi_bluesky.processing.tables import Peaks
from gixi_bluesky.processing.tracks.sum_search import search_with

__all__ = ["on_detector_grid", "owners", "rendered_list"]

_SHAPE = (512, 1024)  # of the images that networks are trained on
_APART_FWHM, _LEAST_OVERLAP = 1.0, 0.2


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
    peaks = search_with(detector, DetectorSettings())(polar)
    return PeakList(peaks, owners(peaks, series.truth(frame)))


def owners(peaks: Peaks, truth: SeriesTruth) -> NDArray[np.int64]:
    """Return the reflection of each peak, (m,), FALSE = of none; the nearest pairs first.

    A pair lies within one FWHM along |q| and overlaps by a fifth of the narrower one along phi. A
    second peak of a reflection is its double and has the same owner.
    """
    owner = np.full(len(peaks), FALSE, np.int64)
    for peak, reflection in _pairs(peaks, truth):
        if owner[peak] == FALSE:
            owner[peak] = truth.reflection[reflection]
    return owner


def _pairs(peaks: Peaks, truth: SeriesTruth) -> Iterator[tuple[int, int]]:
    width = np.maximum(np.nan_to_num(peaks.fwhm_q)[:, None], truth.fwhm_q)
    apart = np.abs(peaks.q[:, None] - truth.peaks.q) / width
    half, true_half = np.nan_to_num(peaks.fwhm_phi)[:, None] / 2, truth.fwhm_phi / 2
    low = np.maximum(peaks.phi[:, None] - half, truth.peaks.phi - true_half)
    high = np.minimum(peaks.phi[:, None] + half, truth.peaks.phi + true_half)
    shared = (high - low) / np.maximum(2 * np.minimum(half, true_half), 1e-9)
    good = (apart < _APART_FWHM) & (shared > _LEAST_OVERLAP)
    cost = apart + (1 - np.minimum(shared, 1.0))
    pairs = np.argwhere(good)
    for row in pairs[np.argsort(cost[good], kind="stable")]:
        yield int(row[0]), int(row[1])
