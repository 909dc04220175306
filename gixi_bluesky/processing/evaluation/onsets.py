"""Quality of onsets on simulated crystallisations that are tracked and measured like a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from gixi_bluesky.processing.simulation.films import Series
from gixi_bluesky.processing.simulation.peak_lists import FALSE, PeakList
from gixi_bluesky.processing.tables import Matches, MatchPeaks
from gixi_bluesky.processing.tracks.courses import CourseFold
from gixi_bluesky.processing.tracks.ledger import Ledger
from gixi_bluesky.processing.tracks.scatter import with_scatter
from gixi_bluesky.processing.types import PolarImage

__all__ = ["OnsetReport", "PhaseOnset", "phase_onsets", "summarise_onsets"]

_STRONG_SNR = 50.0  # of the strongest line at its best
_FEWEST_LINES = 3  # of a phase that a matching would name in a frame


@dataclass(frozen=True, slots=True)
class PhaseOnset:
    """The onset of one simulated phase; frames, NaN = none was found.

    strongest_snr: of the best line in the best frame
    """

    phase: str
    true: int
    strongest_snr: float
    frame: float
    low: float
    high: float

    @property
    def found(self) -> bool:
        """True if an onset was found."""
        return math.isfinite(self.frame)

    @property
    def inside(self) -> bool:
        """True if the true onset lies within the interval."""
        return self.low <= self.true <= self.high


@dataclass(frozen=True, slots=True)
class OnsetReport:
    """Onsets of several series.

    within: share of the true onsets in their 95 % intervals, of the onsets found
    median_error: |found - true| in frames, of phases whose strongest line is above SNR 50
    median_width: of the intervals, frames
    """

    phases: int
    found: int
    strong: int
    within: float
    within_strong: float
    median_error: float
    mean_error: float
    median_width: float

    def summary(self) -> dict[str, Any]:
        """Return the numbers by name."""
        return asdict(self)


def phase_onsets(series: Series, lists: Sequence[PeakList]) -> list[PhaseOnset]:
    """Follow peak lists, measure the tracks in the images and return the onset of each phase.

    Phases that are there from the beginning are left out. Which phase a peak belongs to is known
    from the simulation; noise is estimated from the images, as in a run.
    """
    fold, ledger = CourseFold(), Ledger()
    strongest: dict[str, float] = {}
    for frame, listed in enumerate(lists):
        truth = series.truth(frame)
        names = dict(zip(truth.reflection.tolist(), truth.peaks.phase, strict=True))
        for phase, snr in zip(truth.peaks.phase, truth.peaks.snr.tolist(), strict=True):
            strongest[phase] = max(strongest.get(phase, 0.0), snr)
        tracks = fold.step(frame, listed.peaks)
        ledger.add_frame(tracks, *_explained(listed, names))
    courses = fold.measure(lambda frame: _as_stored(series, frame))
    ledger.courses.add(courses.frame, courses.track, courses.intensity, courses.intensity_error)
    rows = {str(row["phase"]): row for row in ledger.phases({}).to_dict("records")}
    return [
        _onset(name, phase.growth.first_frame, strongest.get(name, 0.0), rows.get(name, {}))
        for phase in series.phases
        if (name := phase.structure.slug) and 0 < phase.growth.first_frame < series.n_frames
    ]


def summarise_onsets(onsets: Iterable[PhaseOnset]) -> OnsetReport:
    """Return shares and errors of many onsets."""
    every = list(onsets)
    found = [one for one in every if one.found]
    strong = [one for one in found if one.strongest_snr >= _STRONG_SNR]
    errors = [abs(one.frame - one.true) for one in strong]
    return OnsetReport(
        phases=len(every),
        found=len(found),
        strong=len(strong),
        within=_mean([one.inside for one in found]),
        within_strong=_mean([one.inside for one in strong]),
        median_error=float(np.median(errors)) if errors else math.nan,
        mean_error=_mean(errors),
        median_width=float(np.median([one.high - one.low for one in found])) if found else math.nan,
    )


def _explained(listed: PeakList, names: dict[int, str]) -> tuple[Matches, MatchPeaks]:
    """Return the result of a perfect matching: phases of several lines, and their peaks."""
    rows = [
        {"peak": peak, "phase": names[reflection], "h": reflection, "k": 0, "l": 0}
        for peak, reflection in enumerate(listed.reflection.tolist())
        if reflection != FALSE and reflection in names
    ]
    counts = pd.Series([row["phase"] for row in rows], dtype=object).value_counts()
    matches = [
        {"phase": str(phase), "probability": 0.95 if n >= _FEWEST_LINES else 0.02}
        for phase, n in counts.items()
    ]
    return Matches.from_rows(matches), MatchPeaks.from_rows(rows)


def _as_stored(series: Series, frame: int) -> PolarImage:
    polar = series.polar(frame)
    return with_scatter(polar.intensity, polar.q, polar.phi)


def _onset(name: str, true: int, snr: float, row: dict[Any, Any]) -> PhaseOnset:
    found = (float(row.get(f"onset_frame{bound}", math.nan)) for bound in ("", "_low", "_high"))
    return PhaseOnset(name, true, snr, *found)


def _mean(values: Sequence[float | bool]) -> float:
    return float(np.mean(values)) if values else math.nan
