"""Images painted in the published style: smooth noise, boxes where the peaks are."""

from __future__ import annotations

import numpy as np
import pytest

from gixi_bluesky.processing.evaluation.average_precision import visible_peaks
from gixi_bluesky.processing.simulation.painted import (
    PAINTED_PER_SEED,
    painted_images,
    perlin,
)


@pytest.fixture(scope="module")
def images():
    return list(painted_images(3))


def test_perlin_noise_is_smooth_and_vanishes_at_the_corners_of_its_cells():
    noise = perlin(np.random.default_rng(0), (64, 96), (4, 6))
    assert noise.shape == (64, 96)
    np.testing.assert_allclose(noise[::16, ::16], 0, atol=1e-6)
    assert 0.1 < np.abs(noise).max() < 1.0
    assert np.abs(np.diff(noise, axis=0)).max() < 0.2 * np.ptp(noise)


def test_the_same_seed_paints_the_same(images):
    assert len(images) == PAINTED_PER_SEED
    for one, other in zip(images, painted_images(3), strict=True):
        np.testing.assert_array_equal(one.intensity, other.intensity)
        np.testing.assert_array_equal(one.truth.boxes, other.truth.boxes)


def test_boxes_are_where_the_image_is_brighter_than_beside_them(images):
    brighter = []
    for image in images:
        strong = visible_peaks(image.truth) & (image.truth.snr > 30)
        for x0, y0, x1, y1 in np.round(image.truth.boxes[strong]).astype(int):
            rows, width = slice(y0, y1 + 1), max(x1 - x0, 3)
            inside = image.intensity[rows, x0 : x1 + 1].mean()
            starts = [a for a in (x0 - 2 * width, x1 + width + 1) if 0 <= a < 512 - width]
            beside = np.mean([image.intensity[rows, a : a + width].mean() for a in starts])
            brighter.append(inside > beside)
    assert len(brighter) > 20
    assert np.mean(brighter) > 0.9


def test_lines_keep_apart(images):
    for image in images:
        boxes = image.truth.boxes[np.argsort(image.truth.boxes[:, 0])]
        centre, width = boxes[:, [0, 2]].mean(axis=1), boxes[:, 2] - boxes[:, 0]
        assert (np.diff(centre) > 1.2 * np.maximum(width[1:], width[:-1])).all()
