"""Weak peaks of a series: followed in single frames, or found in their mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from gixi_bluesky.processing.detector import Detector
from gixi_bluesky.processing.evaluation.rendered_lists import (
    on_detector_grid,
    owners,
    rendered_list,
)
from gixi_bluesky.processing.settings import DetectorSettings
from gixi_bluesky.processing.simulation.films import Series
from gixi_bluesky.processing.simulation.growth import Growth
from gixi_bluesky.processing.simulation.random_series import FILMS, random_series
from gixi_bluesky.processing.simulation.seeds import EVALUATION, require_within
from gixi_bluesky.processing.tables import Peaks
from gixi_bluesky.processing.tracks.courses import CourseFold
from gixi_bluesky.processing.tracks.places import Places
from gixi_bluesky.processing.tracks.sum_search import search_of_means
from gixi_bluesky.processing.tracks.sums import SumTracks

__all__ = ["SUMS_SEED", "WeakPeaks", "lasting_series", "weak_peaks"]

SUMS_SEED = 970_000  # the first that no setting was chosen on
N_FRAMES = 20
_WEAK = (5.0, 15.0)  # SNR in one frame
_LEAST_VISIBLE = 0.25
_DIMMER = 0.15  # of the counts of random series, so that many peaks are weak


@dataclass(frozen=True, slots=True)
class WeakPeaks:
    """Weak peaks of series of twenty frames.

    recall: share of the peaks of SNR 5 to 15 in one frame that have a track; recall_single: without
        those that only the mean shows
    precision: share of all tracks that lie on a reflection
    """

    series: int
    weak: int
    recall: float
    recall_single: float
    tracks: int
    tracks_of_means: int
    precision: float

    def summary(self) -> dict[str, Any]:
        """Return the numbers by name."""
        return asdict(self)


def weak_peaks(seed: int, count: int, detector: Detector) -> WeakPeaks:
    """Return what `detector` and tracks find in `count` series from `seed` on."""
    hits = hits_single = weak = right = n_tracks = n_means = 0
    for series in lasting_series(seed, count):
        single, means = _places(series, detector)
        truth = series.truth(0)
        asked = (truth.peaks.snr >= _WEAK[0]) & (truth.peaks.snr < _WEAK[1])
        asked &= truth.peaks.visible > _LEAST_VISIBLE
        wanted = set(truth.reflection[asked].tolist())
        of_single, of_means = (owners(_as_peaks(places), truth) for places in (single, means))
        both = np.concatenate([of_single, of_means])
        weak += len(wanted)
        hits += len(wanted & set(both.tolist()))
        hits_single += len(wanted & set(of_single.tolist()))
        right += int((both >= 0).sum())
        n_tracks += len(both)
        n_means += len(of_means)
    return WeakPeaks(
        series=count,
        weak=weak,
        recall=hits / max(weak, 1),
        recall_single=hits_single / max(weak, 1),
        tracks=n_tracks,
        tracks_of_means=n_means,
        precision=right / max(n_tracks, 1),
    )


def lasting_series(seed: int, count: int) -> Iterator[Series]:
    """Yield series of twenty frames in which nothing changes but the noise, on the detectors' grid.

    Raises ConfigError for seeds that are not kept for evaluation.
    """
    for i, number in enumerate(require_within(seed, count, EVALUATION)):
        series = random_series(number, FILMS[i % len(FILMS)], N_FRAMES)
        phases = tuple(
            replace(
                phase,
                growth=Growth(),
                expansion=0.0,
                mosaic_deg=phase.mosaic_deg[:1] * 2,
                size_angstrom=phase.size_angstrom[:1] * 2,
                counts=_DIMMER * phase.counts,
            )
            for phase in series.phases
        )
        yield on_detector_grid(replace(series, phases=phases))


def _places(series: Series, detector: Detector) -> tuple[Places, Places]:
    """Return the places of tracks of single frames, and of those that only the mean shows."""
    fold = CourseFold()
    sums = SumTracks(search_of_means(detector, DetectorSettings()), N_FRAMES)
    found = Places.none()
    for frame in range(series.n_frames):
        fold.step(frame, rendered_list(series, frame, detector).peaks)
        image = series.polar(frame).intensity
        new = sums.add(image, 0.0, (series.grid.q, series.grid.phi), fold.places)
        if new is not None:
            found = found.joined(new[1])
    return fold.places, found


def _as_peaks(places: Places) -> Peaks:
    table: Peaks = Peaks.from_columns(
        q=places.q, phi=places.phi, fwhm_q=places.fwhm_q, fwhm_phi=places.fwhm_phi
    )
    return table
