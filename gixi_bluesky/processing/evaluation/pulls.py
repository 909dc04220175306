"""Pulls of measured peaks, (measured - true) / stated error, which test the stated errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gixi_bluesky.processing.evaluation.known_peaks import CLASSES, KnownFrame
from gixi_bluesky.processing.tables import CUT, FIT_FAILED, Peaks
from gixi_bluesky.processing.types import Detections, PolarImage

__all__ = ["QUANTITIES", "MeasuringReport", "PullWidth", "measured_pulls", "summarise"]

QUANTITIES = ("q", "phi", "intensity", "fwhm_q", "fwhm_phi")
_FAR = 5.0  # standard errors; in a Gaussian one of two million lies beyond

Measure = Callable[[PolarImage, Detections], Peaks]


@dataclass(frozen=True, slots=True)
class PullWidth:
    """Pulls of one quantity in one class of peaks.

    width: half the interval that holds the middle 68.3 % of the pulls; 1 = errors are true
    median: of the pulls; far: share beyond five standard errors; count: of the pulls
    """

    strength: str
    paired: bool
    quantity: str
    width: float
    median: float
    far: float
    count: int


@dataclass(frozen=True, slots=True)
class MeasuringReport:
    """The pulls of all classes, and further figures of the measuring.

    dq_bins: median |dq| of strong peaks alone, columns of the polar image
    untrusted: share of the peaks that are flagged as failed or cut; these are left out
    """

    pulls: tuple[PullWidth, ...]
    dq_bins: float
    untrusted: float
    peaks: int

    def summary(self) -> dict[str, Any]:
        """Return what JSON can hold: None for NaN."""
        report = asdict(self)
        for pull in report["pulls"]:
            for name, value in pull.items():
                if isinstance(value, float) and math.isnan(value):
                    pull[name] = None
        return report


def measured_pulls(frames: Iterable[KnownFrame], measure: Measure) -> pd.DataFrame:
    """Measure every frame; returns a row a peak with `pull_` of each quantity and `dq_bins`."""
    tables = []
    for frame in frames:
        measured = measure(frame.polar, frame.boxes).frame()
        step = frame.polar.q[1] - frame.polar.q[0]
        rows = pd.DataFrame(
            {
                "strength": [peak.strength for peak in frame.peaks],
                "paired": [peak.paired for peak in frame.peaks],
                "kind": measured.kind,
                "fit_flags": measured.fit_flags,
            }
        )
        for quantity in QUANTITIES:
            if quantity == "intensity":
                true = np.array([frame.intensity(i) for i in range(len(frame.peaks))])
            else:
                true = np.array([getattr(peak, quantity) for peak in frame.peaks])
            rows[f"pull_{quantity}"] = (measured[quantity] - true) / measured[f"{quantity}_error"]
        rows["dq_bins"] = (measured.q - [peak.q for peak in frame.peaks]) / step
        tables.append(rows)
    return pd.concat(tables, ignore_index=True)


def summarise(rows: pd.DataFrame) -> MeasuringReport:
    """Sum up the rows of `measured_pulls`."""
    untrusted = (rows.fit_flags & (FIT_FAILED | CUT)) != 0
    kept = rows[~untrusted]
    pulls = tuple(
        _width(strength, paired, quantity, chosen[f"pull_{quantity}"].dropna().to_numpy())
        for paired in (False, True)
        for strength in CLASSES
        for chosen in [kept[(kept.strength == strength) & (kept.paired == paired)]]
        for quantity in QUANTITIES
    )
    strong = kept[(kept.strength == "strong") & ~kept.paired]
    return MeasuringReport(
        pulls=pulls,
        dq_bins=float(strong.dq_bins.abs().median()),
        untrusted=float(untrusted.mean()),
        peaks=len(rows),
    )


def _width(strength: str, paired: bool, quantity: str, pulls: NDArray[np.float64]) -> PullWidth:
    if not len(pulls):
        return PullWidth(strength, paired, quantity, math.nan, math.nan, math.nan, 0)
    low, middle, high = np.percentile(pulls, (15.865, 50, 84.135))
    far = float(np.mean(abs(pulls) > _FAR))
    half = float(high - low) / 2
    return PullWidth(strength, paired, quantity, half, float(middle), far, len(pulls))
