"""Cells of two phases that expand over simulated series, through the whole matching."""

from __future__ import annotations

import numpy as np
import pytest

from gixi_bluesky.processing.evaluation.expansion import (
    CUBIC,
    EXPANSION,
    TETRAGONAL,
    expanding_series,
    judge_expansion,
)
from gixi_bluesky.processing.structures.cif_files import read_structures, shipped_cifs


def test_a_series_holds_cells_whose_lengths_drift_apart() -> None:
    candidates = read_structures(shipped_cifs().values(), 4.0)
    frames = list(expanding_series(3, 3, candidates))
    for slug, change in ((TETRAGONAL, (1, 1, -0.6)), (CUBIC, (1, 1, 1))):
        (first, last) = (
            next(p.cell for p in frame.present if p.structure.slug == slug)
            for frame in (frames[0], frames[-1])
        )
        grown = np.array(last[:3]) / np.array(first[:3]) - 1
        np.testing.assert_allclose(grown, EXPANSION * np.array(change), rtol=1e-9)
        assert last[3:] == first[3:]
    assert len({frame.zero_error for frame in frames}) == 3


@pytest.mark.slow
def test_the_expansion_of_both_phases_is_recovered_within_its_errors() -> None:
    report = judge_expansion(20, 4, n_frames=10)
    assert report.found > 0.95
    assert report.length_error < 1e-3
    assert report.expansion_error < 0.2 * EXPANSION
    assert 0.5 < report.length_pull < 1.5
    assert report.expansion_pull < 2
