"""Tracks on peak lists whose answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gixi_bluesky.processing.tables import Peaks
from gixi_bluesky.processing.tracks.tracker import Tracker


def peaks(*rows, snr=30.0):
    """Return peaks of (q, phi, fwhm_q, fwhm_phi) or (q, phi), with an intensity if a fifth."""
    filled = [(*row, *(0.02, 8.0, 10.0)[len(row) - 2 :]) for row in rows]
    return Peaks.from_rows(
        [
            {
                "peak": i,
                "q": q,
                "q_error": 0.0005,
                "phi": phi,
                "fwhm_q": fwhm,
                "fwhm_phi": width,
                "intensity": intensity,
                "intensity_error": intensity / snr,
                "snr": snr,
                "kind": "segment",
            }
            for i, (q, phi, fwhm, width, intensity) in enumerate(filled)
        ]
    )


def follow(lists):
    tracker = Tracker()
    return [tracker.step(frame, one).tolist() for frame, one in lists]


def test_a_peak_keeps_its_number_whatever_its_place_in_the_list():
    first, second = (1.0, 20.0), (1.4, 60.0)
    assert follow([(0, peaks(first, second)), (1, peaks(second, first))]) == [[0, 1], [1, 0]]


def test_a_peak_that_comes_back_after_a_long_gap_continues_its_track():
    frames = [(f, peaks((1.0, 20.0))) for f in (0, 1, 2, 60)]
    assert follow(frames) == [[0]] * 4


def test_a_weak_peak_has_a_number_once_a_second_one_follows_it():
    frames = [(f, peaks((1.0, 20.0), snr=6.0)) for f in (0, 2, 3)]
    assert follow(frames) == [[-1], [0], [0]]


def test_a_weak_peak_that_nothing_follows_is_forgotten():
    assert follow([(f, peaks((1.0, 20.0), snr=6.0)) for f in (0, 10)]) == [[-1], [-1]]


def test_a_drift_of_many_widths_is_followed():
    q = 1.2 + 0.0006 * np.arange(80)
    assert (
        follow([(f, peaks((value, 40.0, 0.012, 8.0))) for f, value in enumerate(q)]) == [[0]] * 80
    )


def test_lines_that_cross_keep_their_numbers():
    frames = np.arange(41)
    lists = [
        (f, peaks((1.20 + 0.001 * f, 40.0, 0.015, 80.0, 10.0), (1.22, 40.0, 0.02, 80.0, 60.0)))
        for f in frames
    ]
    hidden = [f for f in frames if abs(0.001 * f - 0.02) < 0.006]  # within half a width: one peak
    for f in hidden:
        lists[f] = (f, peaks((1.22, 40.0, 0.02, 80.0, 70.0)))
    numbers = follow(lists)
    assert numbers[0] == numbers[-1] == [0, 1]
    assert all(numbers[f] == [1] for f in hidden)


def test_two_tracks_that_become_one_peak_are_followed_as_the_longer_one():
    apart, near = (1.02, 42.0, 0.02, 10.0), (1.003, 41.0, 0.02, 10.0)
    first = (1.0, 40.0, 0.02, 10.0)
    lists = [(0, peaks(first)), *((f, peaks(apart, first)) for f in (1, 2))]
    way = [(1.015, 42.0, 0.02, 10.0), (1.010, 41.5, 0.02, 10.0), (1.006, 41.0, 0.02, 10.0)]
    lists += [(3 + f, peaks(place, first)) for f, place in enumerate(way)]
    lists += [(6, peaks(near, first)), (7, peaks(first))]
    numbers = follow(lists)
    assert numbers[:3] == [[0], [1, 0], [1, 0]]
    assert numbers[6:] == [[-1, 0], [0]]


def test_a_spot_does_not_take_the_track_of_a_ring_at_the_same_q():
    ring, spot = (1.0, 45.0, 0.02, 80.0), (1.0, 10.0, 0.02, 5.0)
    assert follow([(0, peaks(ring)), (1, peaks(spot)), (2, peaks(ring, spot))]) == [
        [0],
        [1],
        [0, 1],
    ]


def test_a_double_of_a_followed_peak_has_no_track():
    one, double = (1.0, 20.0), (1.002, 20.5)
    assert follow([(0, peaks(one)), (1, peaks(one, double))]) == [[0], [0, -1]]


def test_peaks_without_a_place_have_no_track():
    assert follow([(0, peaks((np.nan, 20.0), (1.0, np.nan), (1.0, 20.0)))]) == [[-1, -1, 0]]


def test_frames_out_of_order_are_an_error():
    tracker = Tracker()
    tracker.step(3, peaks((1.0, 20.0)))
    with pytest.raises(ValueError, match="got frame 3 after frame 3; expected frames in order"):
        tracker.step(3, peaks((1.0, 20.0)))


def test_stored_tracks_that_do_not_follow_are_an_error():
    with pytest.raises(ValueError, match="do not follow from the frames before it"):
        Tracker().resume(0, peaks((1.0, 20.0)), np.array([7]))


places = st.lists(
    st.tuples(st.floats(0.3, 2.0), st.floats(5, 80), st.floats(0.01, 0.05), st.floats(2, 80)),
    max_size=6,
)


@given(st.lists(places, min_size=2, max_size=8), st.data())
@settings(max_examples=60, deadline=None)
def test_a_restart_between_any_two_frames_gives_the_same_tracks(lists, data):
    numbers, whole = [], Tracker()
    for frame, rows in enumerate(lists):
        numbers.append(whole.step(frame, peaks(*rows, snr=9.0 + 4 * len(rows))))
    cut = data.draw(st.integers(0, len(lists) - 1))
    resumed = Tracker()
    for frame, rows in enumerate(lists[:cut]):
        resumed.resume(frame, peaks(*rows, snr=9.0 + 4 * len(rows)), numbers[frame])
    for frame in range(cut, len(lists)):
        rows = lists[frame]
        again = resumed.step(frame, peaks(*rows, snr=9.0 + 4 * len(rows)))
        assert again.tolist() == numbers[frame].tolist()


@given(st.lists(places, min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_no_two_peaks_of_a_frame_share_a_track(lists):
    for numbers in follow((frame, peaks(*rows)) for frame, rows in enumerate(lists)):
        given = [number for number in numbers if number >= 0]
        assert len(given) == len(set(given))
