"""Peaks that only means of frames show: tracks of their own, measured in every frame."""

import numpy as np
import pandas as pd
import pytest

from gixi_bluesky.processing.detector import find_weights
from gixi_bluesky.processing.settings import DetectorSettings
from gixi_bluesky.processing.simulation import ChangingPhase, Growth, Halo, Series, SeriesGrid
from gixi_bluesky.processing.structures.cif_files import read_structure, shipped_cifs
from gixi_bluesky.processing.tables import Peaks
from gixi_bluesky.processing.tracks.course_plan import FIRST_SUM_TRACK
from gixi_bluesky.processing.tracks.courses import CourseFold
from gixi_bluesky.processing.tracks.phase_tables import track_table, with_sum_tracks
from gixi_bluesky.processing.tracks.places import Places, coincide
from gixi_bluesky.processing.tracks.sum_search import search_of_means, search_with
from gixi_bluesky.processing.tracks.sums import MeanImage, SumTracks
from gixi_bluesky.processing.types import Detections

N = 12


@pytest.fixture(scope="module")
def series():
    """A weak powder that lasts."""
    structure = read_structure(shipped_cifs()["CsPbBr3"], 2.6)
    return Series(
        n_frames=N,
        phases=(ChangingPhase(structure, 6.0, Growth()),),
        grid=SeriesGrid(2.6, (72, 320)),
        halo=Halo(1.3, 0.6, 3.0),
        flat=4.0,
        seed=9,
    )


def listed(*rows):
    return Peaks.from_rows(
        [
            {
                "q": q,
                "q_error": 1e-3,
                "phi": phi,
                "fwhm_q": 0.02,
                "fwhm_phi": 30.0,
                "snr": snr,
                "intensity": snr,
                "intensity_error": 1.0,
            }
            for q, phi, snr in rows
        ]
    )


def places(*rows):
    table = listed(*((q, phi, 1.0) for q, phi in rows))
    return Places(table.q, table.phi, table.fwhm_q, table.fwhm_phi)


def test_the_mean_of_a_block_leaves_out_what_has_no_data():
    mean = MeanImage(4)
    images = [np.full((2, 3), float(i), np.float32) for i in range(4)]
    images[3][0, 0] = np.nan
    for image in images[1:]:
        image[1, 1] = np.nan
    assert [mean.add(image, 0.2) for image in images[:3]] == [None] * 3
    found = mean.add(images[3], 0.2)
    assert found[0, 0] == 1.0
    assert np.isnan(found[1, 1])  # data in one of four frames
    assert found[1, 0] == 1.5
    assert mean.add(images[0], 0.2) is None  # the next block


def test_a_block_begins_again_when_the_angle_changes():
    mean = MeanImage(3)
    image = np.ones((2, 2), np.float32)
    assert mean.add(image, 0.2) is None
    assert mean.add(image, 0.2) is None
    assert mean.add(image, 0.3) is None
    assert mean.add(image, 0.3) is None
    assert mean.add(image, 0.3) is not None


def test_what_is_followed_or_was_found_before_is_not_found_again():
    answers = iter(
        [listed((1.0, 45.0, 20.0), (1.5, 45.0, 20.0), (1.7, 45.0, 0.5)),
         listed((1.5, 44.0, 20.0), (2.0, 45.0, 20.0))]
    )  # fmt: skip
    sums = SumTracks(lambda polar: next(answers), 1)
    axes = (np.linspace(0, 3, 80), np.linspace(0, 90, 70))
    image = np.ones((70, 80), np.float32)
    tracks, found = sums.add(image, 0.2, axes, places((1.001, 45.0)))
    assert (tracks.tolist(), found.q.tolist()) == ([FIRST_SUM_TRACK], [1.5])
    tracks, found = sums.add(image, 0.2, axes, places((1.001, 45.0)))
    assert (tracks.tolist(), found.q.tolist()) == ([FIRST_SUM_TRACK + 1], [2.0])


def test_places_coincide_along_both_axes_only():
    here = places((1.0, 20.0))
    assert coincide(here, places((1.01, 25.0))).all()
    assert not coincide(here, places((1.05, 20.0))).any()
    assert not coincide(here, places((1.0, 60.0))).any()
    assert coincide(here, places()).tolist() == [False]


@pytest.mark.parametrize("also", [False, True])
def test_a_weak_line_is_measured_in_every_frame(series, also):
    """With a stronger one beside it that is followed, or alone."""
    truth = series.truth(0)
    line = int(np.argmin(np.abs(truth.peaks.snr - 12)))
    q = float(truth.peaks.q[line])
    width = float(truth.fwhm_q[line])

    def search(polar):
        return Peaks.from_rows(
            [{"q": q, "phi": 40.0, "fwhm_q": width, "fwhm_phi": 60.0, "snr": 30.0}]
        )

    fold = CourseFold()
    for frame in range(N):
        fold.step(frame, listed((0.5, 40.0, 30.0)) if also else Peaks.empty())
    fold.find_in_means(SumTracks(search, 6), lambda frame: (series.polar(frame), 0.2))
    courses = pd.DataFrame(dict(fold.measure(series.polar).items()))
    mine = courses[courses["track"] == FIRST_SUM_TRACK].sort_values("frame")
    assert mine["frame"].tolist() == list(range(N))
    assert (mine["place_q"] == q).all()
    assert (mine["detected"] == 0).all()
    snr = mine["intensity"] / mine["intensity_error"]
    assert 5 < snr.mean() < 40
    assert snr.std() < 2.0
    assert fold.complete
    table = with_sum_tracks(
        track_table(*(pd.DataFrame(columns=c) for c in (
            ["frame", "peak", "track"], ["frame", "peak"], ["frame", "phase"]))), courses
    )  # fmt: skip
    (row,) = table.to_dict("records")
    assert (row["track"], row["kind"], row["n_detections"]) == (FIRST_SUM_TRACK, "sum", 0)
    assert row["q"] == q
    assert row["n_frames"] >= N - 2


class _Found:
    """A detector of three boxes with their scores."""

    device = engine = precision = sha256 = ""

    def __init__(self, name):
        self.name = name

    def prepare(self, polar):
        return polar

    def __call__(self, images):
        boxes = np.array([[50 * n, 10, 50 * n + 6, 60] for n in (1, 2, 3)], np.float32)
        return [Detections(boxes, np.array([0.9, 0.2, 0.05], np.float32))]


@pytest.mark.parametrize(
    ("name", "threshold", "n"), [("light-2026", 0.5, 2), ("light-2026", 0.2, 3), ("other", 0.5, 1)]
)
def test_means_are_searched_for_boxes_of_lower_scores(series, name, threshold, n):
    settings = DetectorSettings(score_threshold=threshold)
    image = series.polar(0)
    assert len(search_with(_Found(name), settings)(image)) == (1 if threshold == 0.5 else 2)
    assert len(search_of_means(_Found(name), settings)(image)) == n


def test_the_weights_that_ship_are_those_whose_threshold_of_means_is_known():
    assert find_weights("default")[0].name == "light-2026"
