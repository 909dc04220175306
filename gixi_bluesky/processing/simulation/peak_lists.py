"""Simulated peak lists, as detector and fits would return them, without an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.simulation.films import Series, SeriesTruth
from gixi_bluesky.processing.simulation.truth import kind_of
from gixi_bluesky.processing.tables import Peaks

__all__ = ["FALSE", "PeakList", "peak_list"]

FALSE = -1  # the reflection of a false peak

_HALF_SNR, _SNR_WIDTH = 6.0, 1.2  # half of the peaks of this SNR are found
_BEST_RECALL, _DOUBLED = 0.985, 0.02
_FALSE_SHARE, _HOT_RECALL = 0.06, 0.3
_LEAST_VISIBLE = 0.25


@dataclass(frozen=True, slots=True)
class PeakList:
    """The peaks of one frame and their reflections: (m,) numbers, FALSE = a false peak."""

    peaks: Peaks
    reflection: NDArray[np.int64]


def peak_list(series: Series, frame: int) -> PeakList:
    """Draw the peak list of a frame: misses, doubles, false peaks, and errors of every value."""
    rng = np.random.default_rng([series.seed, 3, frame])
    truth = series.truth(frame)
    recall = _BEST_RECALL / (1 + np.exp(-(truth.peaks.snr - _HALF_SNR) / _SNR_WIDTH))
    found = (rng.random(len(recall)) < recall) & (truth.peaks.visible > _LEAST_VISIBLE)
    doubled = found & (rng.random(len(recall)) < _DOUBLED)
    index = np.flatnonzero(found | doubled)
    index = np.sort(np.concatenate([index, np.flatnonzero(doubled)]))
    rows = [_seen(truth, int(i), rng) for i in index]
    reflection = list(truth.reflection[index])
    n_false = rng.poisson(_FALSE_SHARE * max(len(index), 3))
    places = [(rng.uniform(0.1, 1) * series.grid.q_max, rng.uniform(2, 85)) for _ in range(n_false)]
    for row, column in series.hot:
        if rng.random() < _HOT_RECALL:
            places.append((float(series.grid.q[column]), float(series.grid.phi[row])))
    rows += [_false(q, phi, series, rng) for q, phi in places]
    reflection += [FALSE] * len(places)
    order = rng.permutation(len(rows))
    table: Peaks = Peaks.from_rows([{**rows[i], "peak": number} for number, i in enumerate(order)])
    return PeakList(table, np.asarray(reflection, np.int64)[order])


def _seen(truth: SeriesTruth, i: int, rng: np.random.Generator) -> dict[str, float | str | int]:
    snr = max(float(truth.peaks.snr[i]), 2.0)
    fwhm_q = float(truth.fwhm_q[i] * np.exp(rng.normal(0, min(0.9 / snr + 0.03, 0.4))))
    width = float(truth.fwhm_phi[i] * np.exp(rng.normal(0, min(1.2 / snr + 0.06, 0.5))))
    q_error = float(np.hypot(truth.fwhm_q[i] / 2.355 / snr * 1.2, 2e-4))
    phi = float(truth.peaks.phi[i] + rng.normal(0, width * (0.5 / snr + 0.03)))
    intensity = float(truth.intensity[i])
    return _row(
        (float(truth.peaks.q[i] + rng.normal(0, q_error)), q_error, phi),
        (fwhm_q, width),
        (intensity + float(rng.normal(0, intensity / snr)), intensity / snr),
        float(truth.background[i]),
    )


def _false(
    q: float, phi: float, series: Series, rng: np.random.Generator
) -> dict[str, float | str | int]:
    fwhm_q = float(np.exp(rng.uniform(np.log(0.008), np.log(0.08))))
    width = float(np.exp(rng.uniform(np.log(1.5), np.log(20.0))))
    error = series.flat * fwhm_q * width * 0.2
    return _row(
        (q + float(rng.normal(0, 1e-3)), fwhm_q / 8, phi),
        (fwhm_q, width),
        (error * float(rng.uniform(2, 9)), error),
        series.flat,
    )


def _row(
    place: tuple[float, float, float],
    widths: tuple[float, float],
    intensity: tuple[float, float],
    background: float,
) -> dict[str, float | str | int]:
    q, q_error, phi = place
    return {
        "q": q,
        "q_error": q_error,
        "phi": phi,
        "q_xy": q * np.cos(np.radians(phi)),
        "q_z": q * np.sin(np.radians(phi)),
        "fwhm_q": widths[0],
        "fwhm_phi": widths[1],
        "score": 0.8,
        "snr": intensity[0] / intensity[1],
        "intensity": intensity[0],
        "intensity_error": intensity[1],
        "background": background,
        "kind": kind_of(widths[1] / 0.59),
        "fit_flags": 0,
    }
