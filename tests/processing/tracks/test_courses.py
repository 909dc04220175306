"""Forced measurement on simulated images, and courses through gaps and restarts."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from gixi_bluesky.processing.simulation import ChangingPhase, Growth, Halo, Series, SeriesGrid
from gixi_bluesky.processing.simulation.peak_lists import peak_list
from gixi_bluesky.processing.structures.cif_files import read_structure, shipped_cifs
from gixi_bluesky.processing.tracks.courses import CourseFold
from gixi_bluesky.processing.tracks.forced import ForcedMeasurement
from gixi_bluesky.processing.tracks.places import Places

N_FRAMES = 24
ONSET = 9.3


@pytest.fixture(scope="module")
def series():
    """A powder that grows from frame 10 on, on a substrate of another one."""
    perovskite, substrate = (
        read_structure(shipped_cifs()[name], 2.6) for name in ("CsPbBr3", "FAPbI3")
    )
    return Series(
        n_frames=N_FRAMES,
        phases=(
            ChangingPhase(perovskite, 60.0, Growth(onset=ONSET, rise=6.0, order=1.5)),
            ChangingPhase(substrate, 30.0, Growth()),
        ),
        grid=SeriesGrid(2.6, (96, 400), gaps=((1.0, 20.0, 1.05, 35.0),)),
        halo=Halo(1.4, 0.5, 8.0),
        flat=4.0,
        seed=77,
    )


def folded(series, order=range(N_FRAMES), stored=(), image=None):
    fold = CourseFold(stored)
    numbers = [fold.step(f, peak_list(series, f).peaks) for f in order]
    return fold, numbers, fold.measure(image or series.polar)


def frame_of(courses):
    table = pd.DataFrame(dict(courses.items()))
    return table.sort_values(["frame", "track"], ignore_index=True)


def strong(series):
    truth = series.truth(N_FRAMES - 1)
    chosen = np.flatnonzero((truth.peaks.snr > 15) & (truth.peaks.visible > 0.7))
    wide = truth.fwhm_phi[chosen]
    wide = np.where(wide > 45, wide / 0.59, wide)  # rings are given by their extent
    places = Places(truth.peaks.q[chosen], truth.peaks.phi[chosen], truth.fwhm_q[chosen], wide)
    return truth, chosen, places


def test_the_intensity_is_that_of_the_simulation(series):
    truth, chosen, places = strong(series)
    forced = ForcedMeasurement(series.polar(N_FRAMES - 1)).at(places)
    ratio = forced.intensity / truth.intensity[chosen]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.12)  # the wedge hides a tenth of a ring


def test_errors_are_as_large_as_the_scatter_and_nothing_is_measured_as_nothing(series):
    _, _, places = strong(series)
    images = [replace(series, seed=1000 + i).polar(4) for i in range(12)]
    forced = [ForcedMeasurement(image).at(places) for image in images]
    substrate = series.truth(4).peaks.q
    free = ~np.array([np.any(np.abs(substrate - q) < 0.04) for q in places.q])
    z = np.array([one.intensity / one.intensity_error for one in forced])[:, free]
    assert z.shape[1] >= 4
    assert np.abs(z.mean(axis=0)).max() < 1.2
    assert 0.7 < z.std() < 1.3


def test_a_place_off_the_image_and_in_a_gap_has_no_data(series):
    places = Places(*(np.array(v) for v in ([9.0, 1.025], [40.0, 27.0], [0.02] * 2, [8.0, 5.0])))
    forced = ForcedMeasurement(series.polar(3)).at(places)
    assert np.isnan(forced.intensity).all()
    assert np.isnan(forced.intensity_error).all()


def test_every_track_has_a_row_in_every_frame_and_each_only_one(series):
    fold, _, courses = folded(series)
    table = frame_of(courses)
    n_tracks = table["track"].nunique()
    assert len(table) == n_tracks * N_FRAMES
    assert not table.duplicated(["frame", "track"]).any()
    assert fold.complete


def test_a_growing_line_is_nothing_before_its_onset_and_rises_after_it(series):
    _, numbers, courses = folded(series)
    last = peak_list(series, N_FRAMES - 1)
    perovskite = [
        i
        for i, name in enumerate(series.truth(N_FRAMES - 1).peaks.phase)
        if name == series.phases[0].structure.slug
    ]
    reflection = series.truth(N_FRAMES - 1).reflection[perovskite[0]]
    track = numbers[-1][last.reflection == reflection][0]
    table = frame_of(courses)
    course = table[table["track"] == track]
    before = course[course["frame"] <= ONSET]
    assert (before["intensity"].abs() < 4 * before["intensity_error"]).all()
    assert (before["upper_limit"] > before["intensity"]).all()
    assert (before["detected"] == 0).all()
    after = course.set_index("frame")["intensity"]
    assert after[23] > after[14] > 8 * before["intensity_error"].max()
    assert course.set_index("frame")["detected"][23] == 1


def test_measuring_after_each_frame_gives_the_rows_of_measuring_at_the_end(series):
    _, _, whole = folded(series)
    fold, parts = CourseFold(), []
    for f in range(N_FRAMES):
        fold.step(f, peak_list(series, f).peaks)
        parts.append(frame_of(fold.measure(series.polar)))
    pieces = pd.concat(parts).sort_values(["frame", "track"], ignore_index=True)
    pd.testing.assert_frame_equal(pieces, frame_of(whole))


@pytest.mark.parametrize("cut", [3, 11, 17])
def test_a_restart_measures_only_what_is_missing_and_gives_the_same(series, cut):
    _, numbers, whole = folded(series)
    table = frame_of(whole)
    stored = table[(table["frame"] < cut) & (table["track"] < 9)]
    pairs = set(zip(stored["frame"], stored["track"], strict=True))
    fold = CourseFold(pairs)
    for f in range(cut):
        fold.resume(f, peak_list(series, f).peaks, numbers[f])
    for f in range(cut, N_FRAMES):
        assert fold.step(f, peak_list(series, f).peaks).tolist() == numbers[f].tolist()
    rest = frame_of(fold.measure(series.polar))
    assert not set(zip(rest["frame"], rest["track"], strict=True)) & pairs
    both = pd.concat([stored, rest]).sort_values(["frame", "track"], ignore_index=True)
    pd.testing.assert_frame_equal(both, table)


def test_a_frame_without_image_has_rows_with_the_reason(series):
    def image(frame):
        return "the frame was dropped" if frame == 5 else series.polar(frame)

    table = frame_of(folded(series, image=image)[2])
    lost = table[table["frame"] == 5]
    assert len(lost)
    assert (lost["reason"] == "the frame was dropped").all()
    assert lost["intensity"].isna().all()
    assert table.loc[table["frame"] != 5, "intensity"].notna().any()
