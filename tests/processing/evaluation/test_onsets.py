"""Onsets of simulated phases against the true ones, and whose the peaks of a detector are."""

import math

import numpy as np
import pytest

from gixi_bluesky.processing.evaluation.onsets import PhaseOnset, phase_onsets, summarise_onsets
from gixi_bluesky.processing.evaluation.rendered_lists import on_detector_grid, owners
from gixi_bluesky.processing.simulation import ChangingPhase, Growth, Halo, Series, SeriesGrid
from gixi_bluesky.processing.simulation.peak_lists import FALSE, peak_list
from gixi_bluesky.processing.structures.cif_files import read_structure, shipped_cifs


@pytest.fixture(scope="module")
def series():
    growing, substrate = (
        read_structure(shipped_cifs()[name], 2.2) for name in ("CsPbBr3", "FAPbI3")
    )
    return Series(
        n_frames=16,
        phases=(
            ChangingPhase(growing, 80.0, Growth(onset=6.4, rise=4.0, order=1.5)),
            ChangingPhase(substrate, 30.0, Growth()),
        ),
        grid=SeriesGrid(2.2, (48, 256)),
        halo=Halo(1.3, 0.6, 3.0),
        flat=4.0,
        seed=3,
    )


def test_the_onset_of_a_growing_phase_is_found_and_the_substrate_has_none(series):
    (found,) = phase_onsets(series, [peak_list(series, frame) for frame in range(16)])
    assert found.phase == "CsPbBr3"
    assert found.true == 7
    assert found.strongest_snr > 50
    assert found.inside


def test_a_phase_without_peaks_has_no_onset(series):
    nothing = [replace_peaks(peak_list(series, frame)) for frame in range(16)]
    (missed,) = phase_onsets(series, nothing)
    assert not missed.found
    assert not missed.inside


def replace_peaks(listed):
    """Return the list without its peaks."""
    return type(listed)(type(listed.peaks).empty(), np.empty(0, np.int64))


def test_the_report_counts_what_was_found():
    onsets = [
        PhaseOnset("a", 10, 80.0, 11.0, 9.0, 12.0),
        PhaseOnset("b", 10, 80.0, 14.0, 12.0, 15.0),
        PhaseOnset("c", 10, 20.0, 10.0, 8.0, 12.0),
        PhaseOnset("d", 10, 20.0, math.nan, math.nan, math.nan),
    ]
    report = summarise_onsets(onsets)
    assert (report.phases, report.found, report.strong) == (4, 3, 2)
    assert report.within == pytest.approx(2 / 3)
    assert report.within_strong == 0.5
    assert report.median_error == 2.5
    assert report.median_width == 3.0


def test_peaks_belong_to_the_reflections_they_lie_on(series):
    listed, truth = peak_list(series, 15), series.truth(15)
    found = owners(listed.peaks, truth)
    real = listed.reflection != FALSE
    assert real.sum() > 5
    assert (found == listed.reflection)[real].mean() > 0.9
    far = type(listed.peaks).from_rows([{"q": 0.2, "phi": 40.0, "fwhm_q": 0.01, "fwhm_phi": 5.0}])
    assert owners(far, truth).tolist() == [FALSE]


def test_the_grid_of_detectors_holds_as_many_counts(series):
    shown = on_detector_grid(series)
    ratio = shown.grid.pixels.sum() / series.grid.pixels.sum()
    assert ratio == pytest.approx(1.0, abs=0.1)
