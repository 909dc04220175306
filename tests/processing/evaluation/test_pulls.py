"""Pulls of measured peaks: the simulated truth is right, and the summary counts what it says."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from gixi_bluesky.processing.evaluation.known_peaks import CLASSES, known_frames
from gixi_bluesky.processing.evaluation.pulls import QUANTITIES, measured_pulls, summarise
from gixi_bluesky.processing.tables import Peaks


@pytest.mark.slow
def test_known_intensity_is_what_the_remapped_image_sums_to():
    """Strong rings alone, against a sum over the bins with the background beside taken off."""
    ratios = []
    for frame in known_frames(3, 4):
        polar = frame.polar
        for i, peak in enumerate(frame.peaks):
            if not (peak.ring and peak.strength == "strong" and not peak.paired):
                continue
            profile = np.nanmean(polar.intensity, axis=0)
            off = abs(polar.q - peak.q) / peak.fwhm_q
            level = profile[(off > 1.5) & (off < 3)].mean()
            height = (profile - level)[off < 1.5].sum() * (polar.q[1] - polar.q[0])
            core = abs(polar.q - peak.q) < peak.fwhm_q / 2
            seen = np.flatnonzero(np.isfinite(polar.intensity[:, core]).any(axis=1))
            extent = (seen[-1] - seen[0] + 1) * (polar.phi[1] - polar.phi[0])
            ratios.append(height * extent / frame.intensity(i))
    assert len(ratios) >= 2
    assert np.median(ratios) == pytest.approx(1, abs=0.02)


@pytest.mark.slow
def test_every_class_is_drawn_alone_and_in_pairs_one_fwhm_apart():
    peaks = [peak for frame in known_frames(5, 12) for peak in frame.peaks]
    assert {(p.strength, p.paired) for p in peaks} == {(s, b) for s in CLASSES for b in (0, 1)}
    pairs = [(a, b) for a, b in itertools.pairwise(peaks) if a.paired and b.q > a.q]
    assert any(abs(b.q - a.q - a.fwhm_q) < 1e-9 for a, b in pairs)


def measuring(bias: float):
    """Return a stand-in that knows the truth and errs as it says it does, but for the bias."""
    rng = np.random.default_rng(1)

    def measure(polar, boxes):
        n, error = len(boxes), 1e-3
        truth = {
            name: np.array([getattr(p, name) for p in measure.frame.peaks])
            for name in QUANTITIES
            if name != "intensity"
        }
        truth["intensity"] = np.array([measure.frame.intensity(i) for i in range(n)])
        columns = {
            name: values + error * (rng.normal(size=n) + bias) for name, values in truth.items()
        }
        columns |= {f"{name}_error": np.full(n, error) for name in QUANTITIES}
        return Peaks.from_columns(**columns, fit_flags=np.zeros(n, int))

    return measure


@pytest.mark.slow
@pytest.mark.parametrize("bias", [0.0, 3.0])
def test_true_errors_give_widths_of_one_and_a_bias_shows_in_the_median(bias):
    measure = measuring(bias)
    tables = []
    for frame in known_frames(7, 8):
        measure.frame = frame
        tables.append(measured_pulls([frame], measure))
    report = summarise(pd.concat(tables))
    assert report.peaks > 150
    many = [pull for pull in report.pulls if pull.count >= 20]
    assert np.median([pull.width for pull in many]) == pytest.approx(1, abs=0.15)
    assert np.median([pull.median for pull in many]) == pytest.approx(bias, abs=0.2)
    assert report.summary()["pulls"][0]["strength"] == "weak"
