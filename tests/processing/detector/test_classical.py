"""The classical detector: simulated rings, arcs and spots, and the real frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gixi_bluesky.processing.detector import load_detector
from gixi_bluesky.processing.types import Detections

SHAPE = (512, 1024)
FWHM = 2.3548
THRESHOLD = 0.5  # the configuration's default


def scene(
    seed: int,
    peaks: list[tuple[float, float, float, float, float]],
    *,
    background: float = 50.0,
    shape: tuple[int, int] = SHAPE,
) -> np.ndarray:
    """Poisson counts; peaks are (column, sigma_q, row, sigma_phi, height), inf for a full ring."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    mean = background * (0.4 + np.exp(-(((columns - 0.4 * shape[1]) / (0.25 * shape[1])) ** 2)))
    for column, sigma_q, row, sigma_phi, height in peaks:
        along = ((rows - row) / sigma_phi) ** 2
        mean = mean + height * np.exp(-0.5 * (((columns - column) / sigma_q) ** 2 + along))
    return np.random.default_rng(seed).poisson(mean).astype(np.float32)


def detect(image: np.ndarray) -> Detections:
    detector = load_detector("classical")
    (found,) = detector(detector.prepare(image[None]))
    return found.above(THRESHOLD, 300)


def box_at(found: Detections, column: float, row: float) -> np.ndarray:
    b = found.boxes
    inside = (b[:, 0] < column) & (column < b[:, 2]) & (b[:, 1] <= row) & (row <= b[:, 3])
    assert inside.sum() == 1, f"{inside.sum()} boxes at column {column}, row {row}"
    return b[inside][0]


def test_rings_arcs_and_spots_get_boxes_of_the_convention():
    peaks = [
        (300, 4.0, 0, np.inf, 15.0),  # a ring
        (500, 5.0, 250, 40.0, 30.0),  # an arc
        (700, 8.0, 400, 6.0, 60.0),  # a spot
        (850, 3.0, 100, 8.0, 60.0),
    ]
    found = detect(scene(0, peaks))
    assert len(found) == len(peaks)
    for column, sigma_q, row, sigma_phi, _ in peaks:
        q0, phi0, q1, phi1 = box_at(found, column, 250 if np.isinf(sigma_phi) else row)
        assert (q0 + q1) / 2 == pytest.approx(column, abs=0.5)
        assert q1 - q0 == pytest.approx(FWHM * sigma_q, rel=0.2)
        if np.isinf(sigma_phi):
            assert phi0 < 20
            assert phi1 > 490
        else:
            assert (phi0 + phi1) / 2 == pytest.approx(row, abs=4)
            assert phi1 - phi0 == pytest.approx(4 * sigma_phi, rel=0.35)


def test_a_spot_on_a_ring_is_a_second_peak():
    ring, spot = (400, 4.0, 0, np.inf, 20.0), (400, 4.0, 200, 6.0, 150.0)
    found = detect(scene(1, [ring, spot]))
    heights = np.sort(found.boxes[:, 3] - found.boxes[:, 1])
    assert len(found) == 2
    assert heights[0] < 40
    assert heights[1] > 450


@pytest.mark.slow
@given(seed=st.integers(0, 10_000), background=st.floats(0.5, 500))
@settings(max_examples=8, deadline=None)
def test_noise_on_a_halo_is_no_peak(seed, background):
    assert len(detect(scene(seed, [], background=background, shape=(256, 512)))) == 0


@pytest.mark.parametrize("background", [2.0, 300.0])
def test_gaps_wedge_and_edges_are_no_peaks(background):
    image = scene(2, [(600, 4.0, 0, np.inf, 3 * background**0.5)], background=background)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image[np.abs(rows + 0.5 * columns - 500) < 8] = np.nan
    image[rows > 505 - 0.08 * columns] = np.nan
    image[columns < 20 + 4000 / (rows + 10)] = np.nan
    found = detect(image)
    assert len(found) == 1
    q0, phi0, q1, phi1 = found.boxes[0]
    assert (q0 + q1) / 2 == pytest.approx(600, abs=0.5)
    assert phi0 < 20
    assert phi1 == pytest.approx(505 - 0.08 * 600, abs=6)


def test_single_hot_pixels_are_no_peaks():
    image = scene(3, [])
    rng = np.random.default_rng(3)
    image[rng.integers(0, 512, 200), rng.integers(100, 1024, 200)] = 1e5
    assert len(detect(image)) == 0


@pytest.mark.parametrize("background", [0.0, 0.002, 0.05])
def test_where_most_pixels_counted_nothing_scores_are_still_scores(background):
    image = scene(4, [(400, 5.0, 0, np.inf, 2.0)], background=background)
    image[:, 600:640] = np.nan
    found = detect(image)
    assert len(found) < 100
    assert np.all(found.scores <= 1)
    assert np.all(np.isfinite(found.boxes))


def test_the_score_rises_with_the_signal():
    scores = [
        detect(scene(4, [(500, 4.0, 0, np.inf, height)])).scores.max(initial=0)
        for height in (2.0, 4.0, 8.0, 16.0)
    ]
    assert scores == sorted(scores)
    assert scores[0] > THRESHOLD


def test_a_batch_gives_what_single_images_give():
    detector = load_detector("classical")
    images = np.stack([scene(5, [(300, 4.0, 0, np.inf, 9.0)]), scene(6, [])])
    together = detector(detector.prepare(images))
    for image, found in zip(images, together, strict=True):
        (alone,) = detector(detector.prepare(image[None]))
        np.testing.assert_array_equal(found.boxes, alone.boxes)
        np.testing.assert_array_equal(found.scores, alone.scores)


@pytest.mark.parametrize("scale", [1e-3, 1e6])
def test_the_unit_of_the_counts_does_not_matter(scale):
    image = scene(7, [(300, 4.0, 0, np.inf, 15.0)])
    np.testing.assert_allclose(detect(image * scale).boxes, detect(image).boxes, atol=0.05)


@pytest.mark.parametrize("shape", [(64, 128), (100, 333), (256, 512)])
def test_any_grid_will_do(shape):
    peaks = [(0.6 * shape[1], 3.0, 0, np.inf, 60.0)]
    found = detect(scene(8, peaks, shape=shape))
    assert len(found) == 1


@pytest.mark.parametrize("value", [np.nan, 0.0, 7.0])
def test_images_without_data_or_contrast_have_no_peaks(value):
    assert len(detect(np.full((128, 256), value, np.float32))) == 0
