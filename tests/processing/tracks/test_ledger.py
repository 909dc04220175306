"""What is kept of a run gives the phases that all its rows give."""

import numpy as np
import pandas as pd
import pytest

from gixi_bluesky.processing.tables import Matches, MatchPeaks
from gixi_bluesky.processing.tracks.ledger import CourseBins, Ledger
from gixi_bluesky.processing.tracks.phase_tables import phase_table, track_table

N = 40


def run_of_two_phases(rng):
    """Rows of peaks, matches, match_peaks and courses: three tracks of `a`, two of `b`."""
    peaks, matches, lines, courses = [], [], [], []
    for frame in range(N):
        amount = {"a": min(max(frame - 9.5, 0) / 8, 1), "b": 1.0}
        for phase, value in amount.items():
            probability = 0.95 if value > 0.1 else 0.02
            matches.append({"frame": frame, "phase": phase, "probability": probability})
        seen = 0
        for track in range(5):
            phase = "a" if track < 3 else "b"
            intensity = 50.0 * (track + 1) * amount[phase]
            courses.append(
                {
                    "frame": frame,
                    "track": track,
                    "intensity": intensity + rng.normal(),
                    "intensity_error": 1.0,
                }
            )
            if intensity > 5:
                peaks.append({"frame": frame, "peak": seen, "track": track, "q": 1.0 + track,
                              "phi": 40.0, "kind": "ring", "intensity": intensity})  # fmt: skip
                named = "b" if track == 2 and frame % 5 == 0 else phase
                lines.append({"frame": frame, "peak": seen, "phase": named, "h": track, "k": 0,
                              "l": 1})  # fmt: skip
                seen += 1
    return [pd.DataFrame(rows) for rows in (peaks, matches, lines, courses)]


def ledger_of(peaks, matches, lines, courses):
    ledger = Ledger()
    for frame in range(N):
        mine = [table[table["frame"] == frame] for table in (peaks, matches, lines)]
        ledger.add_frame(
            mine[0]["track"].to_numpy(np.int64),
            Matches.from_columns(
                phase=mine[1]["phase"].to_numpy(object),
                probability=mine[1]["probability"].to_numpy(float),
            ),
            MatchPeaks.from_columns(
                **{name: mine[2][name].to_numpy() for name in ("peak", "phase", "h", "k", "l")}
            ),
        )
    values = [courses[name].to_numpy() for name in courses]
    ledger.courses.add(*values)
    return ledger


def test_phases_are_those_of_the_tables():
    tables = run_of_two_phases(np.random.default_rng(4))
    times = {frame: 10.0 * frame for frame in range(N)}
    peaks, matches, lines, courses = tables
    expected = phase_table(track_table(peaks, lines, matches), courses, matches, times)
    found = ledger_of(*tables).phases(times)
    pd.testing.assert_frame_equal(found, expected)
    assert found["onset_frame"].tolist() == [10.0, 0.0]


@pytest.mark.parametrize("n", [100, 1000])
def test_long_courses_are_averaged_over_more_and_more_frames(n):
    rng = np.random.default_rng(2)
    frames = np.arange(n)
    error = rng.uniform(0.5, 2.0, n)
    value = rng.normal(3.0, error)
    bins = CourseBins(most=16)
    for part in np.array_split(rng.permutation(n), 7):
        bins.add(frames[part], np.full(len(part), 2), value[part], error[part])
    width = bins.width
    assert n / 16 <= width < n / 4
    first, intensity, stated = bins.matrix([2, 9])
    assert first.tolist() == list(range(0, n, width))
    assert intensity.shape == (1, len(first))
    weight = error**-2.0
    for i, begin in enumerate(first):
        part = slice(begin, begin + width)
        mean = (weight[part] * value[part]).sum() / weight[part].sum()
        assert intensity[0, i] == pytest.approx(mean)
        assert stated[0, i] == pytest.approx(weight[part].sum() ** -0.5)
