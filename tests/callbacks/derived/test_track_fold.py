"""Tracks of a derived run: numbers, courses, onsets, and the same after a restart."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from derived_publisher import Publisher, closed, frame
from fakes import fake_config
from waiting import wait_until

from gixi_bluesky.callbacks.courses import course_process
from gixi_bluesky.callbacks.courses.course_process import CourseProcess, MeanSearch
from gixi_bluesky.callbacks.derived.stores import LocalStore
from gixi_bluesky.callbacks.derived.track_fold import TrackFold
from gixi_bluesky.callbacks.worker.jobs import Analysed, Outcome
from gixi_bluesky.processing.settings import DetectorSettings
from gixi_bluesky.processing.simulation import ChangingPhase, Growth, Halo, Series, SeriesGrid
from gixi_bluesky.processing.simulation.peak_lists import peak_list
from gixi_bluesky.processing.structures.cif_files import read_structure, shipped_cifs
from gixi_bluesky.processing.tables import Matches, MatchPeaks, Peaks
from gixi_bluesky.processing.tracks.course_plan import FIRST_SUM_TRACK

pytestmark = pytest.mark.slow  # starts processes or networks in most tests

N_FRAMES = 18
AXES = (np.linspace(0, 2.6, 320), np.linspace(0, 90, 64))


@pytest.fixture(scope="module")
def frames():
    """What workers return of a growing powder, with hkl and phase of every peak."""
    structure = read_structure(shipped_cifs()["CsPbBr3"], 2.6)
    series = Series(
        n_frames=N_FRAMES,
        phases=(ChangingPhase(structure, 80.0, Growth(onset=6.4, rise=4.0, order=1.5)),),
        grid=SeriesGrid(2.6, (64, 320)),
        halo=Halo(1.3, 0.6, 3.0),
        flat=4.0,
        seed=5,
    )
    return [_analysed(series, f, structure.slug) for f in range(N_FRAMES)]


def _analysed(series, number, slug):
    listed, polar = peak_list(series, number), series.polar(number)
    known = np.flatnonzero(listed.reflection >= 0)
    match_peaks = MatchPeaks.from_rows(
        [{"peak": int(i), "phase": slug, "h": 1, "k": 0, "l": int(listed.reflection[i])}
         for i in known]
    )  # fmt: skip
    probability = 0.95 if len(known) > 2 else 0.02
    matches = Matches.from_rows([{"phase": slug, "probability": probability}])
    return Analysed(
        listed.peaks, matches, match_peaks, polar.q, polar.phi, polar.intensity, 0.2, 1.0
    )


def session(folder):
    store = LocalStore(fake_config(folder).output)
    return Publisher(folder, store, folds=[TrackFold(AXES)])


def feed(publisher, frames, numbers):
    for number in numbers:
        outcome = Outcome("failed", "no") if number == 9 else Outcome("ok", "", frames[number])
        publisher.run.add(frame(number), outcome)
        if number % 3 == 0:
            publisher.run.step()
    publisher.run.step()


def end(publisher):
    publisher.run.end(closed(N_FRAMES))
    while not publisher.run.complete and not publisher.run.last_error:
        publisher.run.step()
    assert publisher.run.complete, publisher.run.last_error
    (finished,) = publisher.folder.glob("*.nxs")
    with h5py.File(finished) as file:
        tables = {
            stream: pd.DataFrame({name: data[()] for name, data in file["entry"][stream].items()})
            for stream in ("peaks", "courses", "frames")
        }
    courses = tables["courses"].sort_values(["frame", "track"], ignore_index=True)
    peaks = tables["peaks"].sort_values(["frame", "peak"], ignore_index=True)
    return courses, peaks["track"].tolist(), tables["frames"]


def test_a_run_has_tracks_courses_and_an_onset(frames, tmp_path):
    publisher = Publisher(tmp_path, folds=[TrackFold(AXES)])
    feed(publisher, frames, range(N_FRAMES))
    courses, tracks, rows = end(publisher)
    assert not rows.loc[rows["frame"] != 9, "reason"].astype(bool).any()
    n_tracks = courses["track"].nunique()
    assert n_tracks >= 4
    assert len(courses) == n_tracks * N_FRAMES
    assert not courses.duplicated(["frame", "track"]).any()
    lost = courses["frame"] == 9
    assert (courses.loc[lost, "reason"] == b"the frame is failed").all()
    assert courses.loc[lost, "intensity"].isna().all()
    assert courses.loc[~lost, "intensity"].notna().all()
    assert max(tracks) == n_tracks - 1
    phase = publisher.store.stop["gixi"]["phases"]["CsPbBr3"]
    assert phase["onset_frame_low"] <= 7 <= phase["onset_frame_high"]
    assert phase["onset_time_low"] == 100.0 + phase["onset_frame_low"]


@pytest.mark.parametrize("cut", [2, 8, 13])
def test_a_killed_writer_is_resumed_to_the_same_tracks_and_courses(
    frames, undisturbed, tmp_path, cut
):
    first = session(tmp_path / "parts")
    feed(first, frames, range(cut))
    first.run.close()
    second = session(tmp_path / "parts")
    second.run.step()
    for number in range(cut):
        second.run.skip(frame(number))
    feed(second, frames, range(cut, N_FRAMES))
    courses, tracks, _ = end(second)
    assert tracks == undisturbed[1]
    pd.testing.assert_frame_equal(courses, undisturbed[0])


def kill_when_measuring(courses, sign=signal.SIGKILL):
    """Send a signal to the process that measures, as soon as it has returned rows."""
    wait_until(lambda: courses.received and courses.pid is not None)
    os.kill(courses.pid, sign)
    return courses.pid


@pytest.fixture(scope="module")
def undisturbed(frames, tmp_path_factory):
    """Courses and tracks of the whole run."""
    publisher = session(tmp_path_factory.mktemp("whole"))
    feed(publisher, frames, range(N_FRAMES))
    courses, tracks, _ = end(publisher)
    return courses, tracks


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_measures_may_die_or_hang(frames, undisturbed, tmp_path, sign):
    courses = CourseProcess(AXES, timeout_s=5.0)
    store = LocalStore(fake_config(tmp_path).output)
    publisher = Publisher(tmp_path, store, folds=[TrackFold(AXES, courses)])
    feed(publisher, frames, range(12))
    first = kill_when_measuring(courses, sign)
    feed(publisher, frames, range(12, N_FRAMES))
    found, tracks, _ = end(publisher)
    pd.testing.assert_frame_equal(found, undisturbed[0])
    assert tracks == undisturbed[1]
    assert not courses.error
    assert not Path(f"/proc/{first}").exists()


def test_frames_are_written_while_the_process_hangs(frames, undisturbed, tmp_path, monkeypatch):
    """So that what waits in memory does not overflow before the process is replaced."""
    courses = CourseProcess(AXES, timeout_s=600.0)
    store = LocalStore(fake_config(tmp_path).output)
    publisher = Publisher(tmp_path, store, folds=[TrackFold(AXES, courses)])
    feed(publisher, frames, range(12))
    stopped = kill_when_measuring(courses, signal.SIGSTOP)
    monkeypatch.setattr(course_process, "_MOST_RECORDS", 3)
    for number in range(12, N_FRAMES):
        feed(publisher, frames, [number])
        wait_until(lambda: not courses._waiting)
    assert courses.pid == stopped
    assert not courses.error
    os.kill(stopped, signal.SIGCONT)
    found, tracks, _ = end(publisher)
    pd.testing.assert_frame_equal(found, undisturbed[0])
    assert tracks == undisturbed[1]


def test_a_process_that_cannot_be_had_costs_courses_only(frames, tmp_path, monkeypatch):
    monkeypatch.setattr(course_process, "_CHILD", "gixi_bluesky.errors:missing")
    publisher = Publisher(tmp_path, folds=[TrackFold(AXES)])
    feed(publisher, frames, range(N_FRAMES))
    publisher.run.end(closed(N_FRAMES))
    while not publisher.run.complete:
        assert not publisher.run.last_error
        publisher.run.step()
    stop = publisher.store.stop["gixi"]
    assert stop["n_frames"] == N_FRAMES
    assert stop["n_tracks"] >= 4
    assert "courses are not complete" in stop["fold_errors"]["tracks"]


def test_images_that_were_not_kept_are_read_from_what_is_stored(frames, undisturbed, tmp_path):
    """As for a run with more images than the working files may hold."""
    courses = CourseProcess(AXES, most_image_bytes=0)
    store = LocalStore(fake_config(tmp_path).output)
    publisher = Publisher(tmp_path, store, folds=[TrackFold(AXES, courses)])
    feed(publisher, frames, range(N_FRAMES))
    found, tracks, _ = end(publisher)
    pd.testing.assert_frame_equal(found, undisturbed[0])
    assert tracks == undisturbed[1]


def test_means_are_searched_in_the_process_and_again_after_a_restart(frames, tmp_path):
    search = MeanSearch(DetectorSettings(weights="classical"), 6)

    def begun(folder):
        fold = TrackFold(AXES, CourseProcess(AXES, search))
        return Publisher(folder, LocalStore(fake_config(folder).output), folds=[fold])

    # The detector of single frames found nothing; of a mean it finds the strong lines.
    frames = [replace(one, peaks=Peaks.empty(), match_peaks=MatchPeaks.empty()) for one in frames]
    whole = begun(tmp_path / "whole")
    feed(whole, frames, range(N_FRAMES))
    expected, _, _ = end(whole)
    assert (expected["track"] >= FIRST_SUM_TRACK).all()
    assert len(expected) == expected["track"].nunique() * N_FRAMES > 0
    first = begun(tmp_path / "parts")
    feed(first, frames, range(11))
    first.run.close()
    second = begun(tmp_path / "parts")
    second.run.step()
    for number in range(11):
        second.run.skip(frame(number))
    feed(second, frames, range(11, N_FRAMES))
    courses, _, _ = end(second)
    pd.testing.assert_frame_equal(courses, expected)
