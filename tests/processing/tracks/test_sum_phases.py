"""Phases of tracks that only means show."""

import numpy as np
import pandas as pd
import pytest

from gixi_bluesky.processing.tracks.course_plan import FIRST_SUM_TRACK
from gixi_bluesky.processing.tracks.phase_tables import TRACK_COLUMNS, phase_courses
from gixi_bluesky.processing.tracks.sum_phases import (
    PhaseLines,
    stored_lines,
    with_phases_of_sums,
)

A = PhaseLines(
    "a",
    np.array([1.0, 1.5, 2.5]),
    np.array([[1, 0, 0], [1, 1, 0], [2, 1, 0]]),
    np.array([1.0, 0.2, 1e-4]),
)
B = PhaseLines("b", np.array([1.502]), np.array([[0, 0, 2]]), np.ones(1))


def tracks(*rows):
    filled = [
        {**dict.fromkeys(TRACK_COLUMNS, 0), "track": track, "q": q, "phase": "", "hkl": ""}
        for track, q in rows
    ]
    return pd.DataFrame(filled)


def matches(**phases):
    """Return two frames with (probability, lattice scale) of each phase."""
    return pd.DataFrame(
        [
            {"frame": frame, "phase": name, "probability": p, "lattice_scale": scale}
            for name, (p, scale) in phases.items()
            for frame in (0, 1)
        ]
    )


def named(q, lines=(A, B), **phases):
    table = with_phases_of_sums(tracks((FIRST_SUM_TRACK, q)), matches(**phases), lines)
    return table["phase"].item(), table["hkl"].item()


def test_a_track_has_the_phase_and_the_line_at_its_place():
    assert named(1.501, a=(0.9, 1.0)) == ("a", "1 1 0")


def test_lines_are_where_the_lattice_was_found():
    """A lattice that is 1 % larger has its lines at 1 % less."""
    assert named(1.5 / 1.01, a=(0.9, 1.01)) == ("a", "1 1 0")
    assert named(1.5, a=(0.9, 1.01)) == ("", "")


def test_a_line_that_two_phases_have_names_none():
    assert named(1.501, a=(0.9, 1.0), b=(0.9, 1.0)) == ("", "")
    assert named(1.0, a=(0.9, 1.0), b=(0.9, 1.0)) == ("a", "1 0 0")


def test_improbable_phases_and_the_weakest_lines_name_none():
    assert named(1.5, a=(0.4, 1.0)) == ("", "")
    assert named(2.5, a=(0.9, 1.0)) == ("", "")
    once = matches(a=(0.9, 1.0)).head(1)
    table = with_phases_of_sums(tracks((FIRST_SUM_TRACK, 1.0)), once, [A])
    assert table["phase"].item() == ""


def test_tracks_of_single_frames_are_left_alone():
    table = with_phases_of_sums(
        tracks((0, 1.0), (FIRST_SUM_TRACK, 1.5)), matches(a=(0.9, 1.0)), [A]
    )
    assert table["phase"].tolist() == ["", "a"]


def test_a_lattice_that_is_not_known_is_that_of_the_cif():
    assert named(1.0, a=(0.9, np.nan)) == ("a", "1 0 0")


def test_lines_come_from_the_start_document():
    searched = [
        {"slug": "a", "lines": {"q": [1.0], "hkl": [[1, 0, 0]], "intensity": [1.0]}},
        {"slug": "old", "lines": {}},
    ]
    (one,) = stored_lines(searched)
    assert (one.slug, one.q.tolist(), one.hkl.tolist()) == ("a", [1.0], [[1, 0, 0]])


@pytest.mark.parametrize("track", [0, FIRST_SUM_TRACK])
def test_the_amount_of_a_phase_is_that_of_its_matched_tracks_alone(track):
    table = tracks((track, 1.0)).assign(phase="a")
    frames = np.arange(12)
    courses = pd.DataFrame(
        {"frame": frames, "track": track, "intensity": 1.0 * frames, "intensity_error": 0.1}
    )
    assert bool(len(phase_courses(table, courses, ["a"]))) == (track == 0)
