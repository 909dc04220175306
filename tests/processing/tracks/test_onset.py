"""Onsets and ends of courses whose answer is known."""

import math

import numpy as np
import pytest

from gixi_bluesky.processing.simulation import Growth
from gixi_bluesky.processing.tracks.common_course import Course, common_course
from gixi_bluesky.processing.tracks.onset import end_of, onset_of

N = 50


def course(growth, snr, seed=0, n=N):
    rng = np.random.default_rng(seed)
    frames = np.arange(n)
    amount = growth.amount(frames.astype(float))
    noise = np.full(n, 1 / snr)
    return Course(frames, amount + rng.normal(0, noise), noise)


def test_a_strong_step_is_found_to_the_frame():
    found = onset_of(course(Growth(onset=20.5, rise=0.1), 60))
    assert found.frame == 21
    assert 20 <= found.low <= found.high == 21


def test_a_phase_that_is_there_at_the_beginning_has_the_first_frame():
    found = onset_of(course(Growth(), 20))
    assert (found.frame, found.low, found.high) == (0, 0, 0)


def test_noise_has_no_onset():
    rng = np.random.default_rng(1)
    noise = Course(np.arange(N), rng.normal(0, 1, N), np.ones(N))
    assert onset_of(noise) is None
    assert end_of(noise) is None


def test_a_phase_that_stays_has_no_end_and_one_that_dissolves_has():
    assert end_of(course(Growth(onset=10, rise=5), 40)) is None
    gone = Growth(onset=10, rise=5, end=33.4, fall=4.0)
    found = end_of(course(gone, 60))
    assert found.low <= gone.end_frame <= found.high
    assert onset_of(course(gone, 60)).low <= gone.first_frame <= onset_of(course(gone, 60)).high


@pytest.mark.parametrize("snr", [10.0, 50.0])
def test_nine_of_ten_onsets_lie_within_their_intervals(snr):
    rng = np.random.default_rng(5)
    inside, errors = [], []
    for i in range(60):
        growth = Growth(
            onset=float(rng.uniform(6, 30)),
            rise=float(rng.uniform(2, 15)),
            order=float(rng.choice([1.0, 1.5, 2.0, 3.0])),
            law="avrami" if rng.random() < 0.7 else "ramp",
        )
        found = onset_of(course(growth, snr, seed=i))
        inside.append(found.low <= growth.first_frame <= found.high)
        errors.append(abs(found.frame - growth.first_frame))
    assert np.mean(inside) >= 0.88  # 0.9 within the error of 60
    if snr == 50:
        assert np.median(errors) < 1


def test_frames_that_are_missing_do_not_move_the_onset():
    whole = course(Growth(onset=20.5, rise=4.0, order=1.5), 60)
    keep = ~np.isin(whole.frames, (5, 6, 27, 33))
    part = Course(whole.frames[keep], whole.amount[keep], whole.error[keep])
    assert abs(onset_of(part).frame - onset_of(whole).frame) <= 1


def test_lines_of_one_phase_have_its_course_and_a_stranger_among_them_is_left_out():
    rng = np.random.default_rng(3)
    frames = np.arange(N)
    amount = Growth(onset=15.2, rise=8.0).amount(frames.astype(float))
    scale = np.array([100.0, 40.0, 20.0, 8.0])
    clean = scale[:, None] * amount
    stranger = np.full((1, N), 60.0)
    error = np.ones((5, N))
    error[2, 30:40] = np.nan
    intensity = np.concatenate([clean, stranger]) + rng.normal(0, 1, (5, N))
    found = common_course(frames, intensity, error)
    assert len(found) == N
    assert np.abs(found.amount - amount / amount.max()).max() < 0.08
    assert onset_of(found).low <= math.floor(15.2) + 1 <= onset_of(found).high


def test_lines_without_data_have_no_course():
    empty = np.full((2, N), np.nan)
    assert common_course(np.arange(N), empty, empty) is None
