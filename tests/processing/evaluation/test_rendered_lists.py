"""Owners of peaks that were found in rendered images."""

import numpy as np
import pytest

from gixi_bluesky.processing.evaluation.rendered_lists import owners
from gixi_bluesky.processing.simulation.films import SeriesTruth
from gixi_bluesky.processing.simulation.peak_lists import FALSE
from gixi_bluesky.processing.simulation.truth import Truth
from gixi_bluesky.processing.tables import Peaks


def truth(*rows):
    """Return reflections 10, 11, … of (q, phi, fwhm_phi), 0.02 wide in q."""
    q, phi, width = (np.array(column, float) for column in zip(*rows, strict=True))
    n = len(q)
    shown = Truth(
        boxes=np.zeros((n, 4), np.float32),
        q=q,
        phi=phi,
        snr=np.full(n, 20.0),
        visible=np.ones(n),
        phase=("a",) * n,
        hkl=(((1, 0, 0),),) * n,
        kind=("segment",) * n,
    )
    values = np.ones(n)
    return SeriesTruth(shown, 10 + np.arange(n), np.full(n, 0.02), width, values, values)


def peaks(*rows):
    return Peaks.from_rows(
        [
            {"peak": i, "q": q, "phi": phi, "fwhm_q": 0.02, "fwhm_phi": width}
            for i, (q, phi, width) in enumerate(rows)
        ]
    )


RING, ARC = (1.0, 42.0, 80.0), (1.0, 74.0, 12.0)


@pytest.mark.parametrize("q", [0.999, 1.001])
def test_a_ring_is_not_the_arc_on_it(q):
    """Of a ring and an arc at one |q|, noise alone decides which is the nearer one."""
    seen = peaks((q, 43.0, 78.0), (2.0 - q, 76.0, 15.0))
    assert owners(seen, truth(ARC, RING)).tolist() == [11, 10]


def test_a_second_peak_has_the_same_owner_and_a_far_one_has_none():
    seen = peaks((1.0, 70.0, 10.0), (1.001, 76.0, 10.0), (1.05, 74.0, 12.0), (1.0, 20.0, 12.0))
    found = owners(seen, truth(ARC))
    assert found.tolist() == [10, 10, FALSE, FALSE]


def test_peaks_and_reflections_are_paired_one_to_one_first():
    """The nearest reflection of both is 10; a greedy choice would leave 11 without a peak."""
    seen = peaks((1.004, 40.0, 10.0), (1.006, 40.0, 10.0))
    assert owners(seen, truth((1.000, 40.0, 10.0), (1.012, 40.0, 10.0))).tolist() == [10, 11]


def test_without_peaks_or_reflections_there_are_no_owners():
    assert owners(peaks((1.0, 40.0, 5.0)), truth((2.0, 40.0, 5.0))).tolist() == [FALSE]
    assert owners(Peaks.empty(), truth(ARC)).tolist() == []
