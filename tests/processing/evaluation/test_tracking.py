"""The scores of tracks, and ours on simulated series."""

import numpy as np
import pytest

from gixi_bluesky.errors import ConfigError
from gixi_bluesky.processing.evaluation.series_scorecard import SERIES_SEED
from gixi_bluesky.processing.evaluation.tracking import (
    NearestTracker,
    compare_trackers,
    evaluation_series,
    score_tracks,
)
from gixi_bluesky.processing.simulation.peak_lists import FALSE, PeakList, peak_list
from gixi_bluesky.processing.tables import Peaks


def lists(*owners):
    return [
        PeakList(Peaks.from_rows([{"peak": i} for i in range(len(one))]), np.array(one))
        for one in owners
    ]


def score(owners, tracks):
    given = iter(tracks)
    return score_tracks(lists(*owners), lambda frame, peaks: np.array(next(given)))


def test_right_tracks_are_perfect_whatever_they_are_called():
    one = score([[0, 1], [0, 1], [1, 0]], [[7, 3], [7, 3], [3, 7]])
    assert (one.idf1, one.switches, one.whole, one.purity) == (1.0, 0, 1.0, 1.0)


def test_a_switch_in_the_middle_costs_half():
    one = score([[0]] * 4, [[0], [0], [1], [1]])
    assert (one.idf1, one.switches, one.whole) == (0.5, 1, 0.0)


def test_a_second_peak_of_a_reflection_is_a_double_and_no_switch():
    one = score([[0], [0, 0], [0, 0], [0]], [[1], [2, 1], [1, 2], [1]])
    assert (one.switches, one.doubles, one.whole) == (0, 2, 1.0)
    assert one.idf1 == pytest.approx(2 * 4 / (4 + 6))


def test_a_reflection_whose_track_passes_to_its_second_peak_has_a_switch():
    one = score([[0], [0, 0], [0], [0]], [[1], [1, 2], [2], [1]])
    assert (one.switches, one.doubles, one.whole) == (2, 1, 0.0)


def test_a_track_of_two_reflections_is_not_pure():
    one = score([[0], [0], [1], [1]], [[0]] * 4)
    assert one.idf1 == 0.5
    assert one.purity == 0.0


def test_false_peaks_with_a_track_count_and_without_one_do_not():
    assert score([[0, FALSE]], [[0, 1]]).idf1 == pytest.approx(2 / 3)
    assert score([[0, FALSE]], [[0, -1]]).idf1 == 1.0


def test_a_peak_without_track_is_missed():
    assert score([[0], [0]], [[-1], [0]]).idf1 == pytest.approx(2 / 3)


def test_seeds_of_training_are_refused():
    with pytest.raises(ConfigError, match="910000"):
        next(evaluation_series(1, 2))


def test_the_nearest_peak_is_followed_within_half_a_width():
    def at(q):
        return Peaks.from_rows(
            [{"q": q, "q_error": 1e-4, "phi": 40.0, "fwhm_q": 0.02, "fwhm_phi": 5.0}]
        )

    tracker = NearestTracker()
    assert [tracker.step(f, at(q)).tolist() for f, q in enumerate((1.0, 1.009, 1.03))] == [
        [0],
        [0],
        [1],
    ]


@pytest.mark.slow
def test_our_tracks_beat_the_nearest_peak_on_series_that_are_kept_apart():
    scores = [
        compare_trackers([peak_list(series, frame) for frame in range(series.n_frames)])
        for series in evaluation_series(SERIES_SEED, 3)
    ]
    ours, nearest = (np.mean([one[k].idf1 for one in scores]) for k in ("tracks", "nearest"))
    assert ours > 0.92 > 0.87 > nearest
