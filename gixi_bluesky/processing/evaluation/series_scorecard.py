"""Scores of tracks and onsets on simulated series."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gixi_bluesky.processing.detector import Detector
from gixi_bluesky.processing.evaluation.onsets import PhaseOnset, phase_onsets
from gixi_bluesky.processing.evaluation.rendered_lists import on_detector_grid, rendered_list
from gixi_bluesky.processing.evaluation.tracking import (
    TrackScore,
    compare_trackers,
    evaluation_series,
)
from gixi_bluesky.processing.simulation.films import Series
from gixi_bluesky.processing.simulation.peak_lists import PeakList, peak_list

__all__ = ["SERIES_SEED", "SeriesScore", "judge_series"]

SERIES_SEED = 940_000  # the first seed that was not used to choose settings of tracks or onsets


@dataclass(frozen=True, slots=True)
class SeriesScore:
    """Scores of one series: of tracks by the name of the tracker, and the onsets of its phases."""

    seed: int
    n_frames: int
    tracks: dict[str, TrackScore]
    onsets: list[PhaseOnset]


def judge_series(seed: int, count: int, detector: Detector | None = None) -> Iterator[SeriesScore]:
    """Yield the scores of `count` series from `seed` on.

    detector: finds the peaks in rendered images; None = lists of peaks with misses, doubles, false
        peaks and errors, as a detector would make them
    """
    for series in evaluation_series(seed, count):
        shown = series if detector is None else on_detector_grid(series)
        lists = [_listed(shown, frame, detector) for frame in range(shown.n_frames)]
        onsets = phase_onsets(shown, lists)
        yield SeriesScore(series.seed, series.n_frames, compare_trackers(lists), onsets)


def _listed(series: Series, frame: int, detector: Detector | None) -> PeakList:
    return peak_list(series, frame) if detector is None else rendered_list(series, frame, detector)
