"""Lines without a phase are grouped by their courses, and groups are given cells."""

import numpy as np
import pandas as pd
import pytest

from gixi_bluesky.processing.structures.cif_files import read_structure, shipped_cifs
from gixi_bluesky.processing.tracks.unexplained import unexplained_lines

pytestmark = pytest.mark.slow

N = 30


def tables(rng, *phases):
    """Tracks and courses; phases: (|q| of the lines, amount over frames, name)."""
    tracks, courses = [], []
    for lines, amount, name in phases:
        for q in lines:
            number, height = len(tracks), float(rng.uniform(30, 200))
            tracks.append(
                {"track": number, "phase": name, "n_frames": N, "q": q, "phi": 40.0,
                 "intensity": height, "first_frame": 0, "last_frame": N - 1}
            )  # fmt: skip
            courses += [
                {"frame": frame, "track": number, "q": q + rng.normal(0, 1e-3),
                 "q_error": 1e-3, "intensity": height * amount[frame] + rng.normal(),
                 "intensity_error": 1.0}
                for frame in range(N)
            ]  # fmt: skip
    return pd.DataFrame(tracks), pd.DataFrame(courses)


def lines_of(name, count):
    lines = read_structure(shipped_cifs()[name], 3.0).reflections
    q = lines.q[np.sort(np.argsort(-lines.intensity)[:count])]
    return q[np.concatenate([[True], np.diff(q) > 0.01])]


@pytest.fixture(scope="module")
def found():
    frames = np.arange(N)
    growing = np.clip((frames - 12) / 6, 0, 1)
    constant = np.ones(N)
    fading = np.exp(-frames / 9.0)
    return unexplained_lines(
        *tables(
            np.random.default_rng(2),
            (lines_of("CsPbBr3", 7), growing, ""),
            ([0.71, 1.33, 2.05], constant, ""),
            ([1.11], fading, ""),
            (lines_of("PbI2", 6), growing, "PbI2"),
        )
    )


def test_lines_that_grow_together_are_a_group(found):
    sizes = found.lines.groupby("group").size().to_dict()
    assert sizes == {-1: 1, 0: len(lines_of("CsPbBr3", 7)), 1: 3}
    first = found.lines[found.lines["group"] == 0]
    np.testing.assert_allclose(first["q"], lines_of("CsPbBr3", 7), atol=2e-3)
    assert found.lines.loc[found.lines["group"] == -1, "q"].iloc[0] == pytest.approx(1.11, abs=1e-3)


def test_lines_of_a_phase_are_not_listed(found):
    assert set(found.lines["track"]) == set(range(len(lines_of("CsPbBr3", 7)) + 4))


def test_a_group_of_five_lines_has_a_cell_and_one_of_three_has_none(found):
    assert set(found.cells["group"]) == {0}
    best = found.cells.iloc[0]
    assert best["system"] == "cubic"
    assert best["a"] == pytest.approx(5.874, rel=2e-3)
    assert best["n_indexed"] == best["n_lines"] == len(lines_of("CsPbBr3", 7))


def test_arcs_of_one_ring_are_one_line():
    growing = np.linspace(0, 1, N)
    lines = unexplained_lines(
        *tables(np.random.default_rng(1), ([1.0, 1.001, 1.4, 1.7], growing, ""))
    ).lines
    assert lines["line"].tolist() == [0, 0, 1, 2]
    assert lines["group"].tolist() == [0] * 4


def test_a_series_without_tracks_has_no_lines():
    tracks, courses = tables(np.random.default_rng(1), ([1.0], np.ones(N), "known"))
    empty = unexplained_lines(tracks, courses)
    assert len(empty.lines) == len(empty.cells) == 0
    assert "group" in empty.lines
