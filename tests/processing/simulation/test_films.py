"""Simulated series: growth laws, images and truth that agree with each other."""

import math

import numpy as np
import pytest

from gixi_bluesky.processing.simulation import Growth, random_series
from gixi_bluesky.processing.simulation.peak_lists import FALSE, peak_list
from gixi_bluesky.processing.simulation.random_series import FILMS


@pytest.mark.parametrize("law", ["avrami", "ramp"])
def test_there_is_nothing_before_the_onset_and_after_the_end(law):
    growth = Growth(onset=4.5, rise=5.0, order=1.5, law=law, end=30.2, fall=6.0)
    amount = growth.amount(np.arange(40.0))
    assert (amount[:5] == 0).all()
    assert amount[growth.first_frame] > 0
    assert growth.first_frame == 5
    assert amount[int(growth.end_frame)] > 0
    assert (amount[int(growth.end_frame) + 1 :] == 0).all()
    assert (np.diff(amount[5:12]) >= 0).all()


def test_avrami_reaches_what_it_should_after_its_rise():
    assert Growth(onset=0.0, rise=7.0, order=3.0).amount(7.0) == pytest.approx(1 - math.exp(-1))


def test_a_phase_without_onset_is_there_at_once():
    growth = Growth()
    assert growth.first_frame == 0
    assert growth.amount(0.0) == 1.0


@pytest.mark.parametrize("film", FILMS)
def test_the_same_seed_is_the_same_series(film):
    one, other = random_series(11, film, 30), random_series(11, film, 30)
    np.testing.assert_array_equal(one.polar(20).intensity, other.polar(20).intensity)
    np.testing.assert_array_equal(peak_list(one, 20).peaks.q, peak_list(other, 20).peaks.q)


@pytest.mark.parametrize("film", FILMS)
def test_the_images_hold_what_the_truth_says(film):
    """Sums over boxes minus the smooth background are the stated integrals, over many peaks."""
    series = random_series(5, film, 30)
    truth, polar = series.truth(29), series.polar(29)
    chosen = np.flatnonzero((truth.peaks.snr > 30) & (truth.peaks.visible > 0.8))
    step = polar.q[1] * polar.phi[1]
    ratios = []
    for i in chosen:
        x0, y0, x1, y1 = truth.peaks.boxes[i]
        rows = slice(int(np.rint(y0)), int(np.rint(y1)) + 1)
        columns = slice(int(np.rint(x0)), int(np.rint(x1)) + 1)
        inside = polar.intensity[rows, columns] - truth.background[i]
        ratios.append(np.nansum(inside) * step / truth.intensity[i])
    assert len(ratios) >= 3
    # Half maximum to half maximum holds 76 %; neighbours add and bins are coarse.
    assert 0.6 < np.median(ratios) < 1.0


def test_reflections_keep_their_numbers_and_false_peaks_have_none():
    series = random_series(3, "fibre", 40)
    lists = [peak_list(series, frame) for frame in (30, 35, 39)]
    numbers = [set(one.reflection.tolist()) - {FALSE} for one in lists]
    assert len(numbers[0] & numbers[1] & numbers[2]) > 5
    by_number = {}
    for frame in (30, 39):
        truth = series.truth(frame)
        for number, phase, hkl in zip(
            truth.reflection, truth.peaks.phase, truth.peaks.hkl, strict=True
        ):
            assert by_number.setdefault(int(number), (phase, hkl)) == (phase, hkl)


def test_what_there_is_not_yet_is_not_in_the_truth():
    series = random_series(3, "powder", 40)
    phase = max(series.phases, key=lambda p: p.growth.onset)
    before = series.truth(phase.growth.first_frame - 1)
    assert phase.structure.slug not in before.peaks.phase
    assert phase.structure.slug in series.truth(series.n_frames - 1).peaks.phase
