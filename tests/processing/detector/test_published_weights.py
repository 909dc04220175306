"""The published weights on the real MAPbBr3 frame, remapped by ourselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from real_frames import FOREIGN_RING, MAPBBR3, MAPBBR3_RINGS, MAPBBR3_WEAK, mapbbr3, remapped

from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.detector import Detector, load_detector
from gixi_bluesky.processing.detector.published import fetch
from gixi_bluesky.processing.detector.weights import available
from gixi_bluesky.processing.types import Detections, PolarImage

pytestmark = [pytest.mark.data, pytest.mark.network]

RINGS, CUT = MAPBBR3_RINGS[:-1], MAPBBR3_RINGS[-1]


def published(name: str) -> Detector:
    """Load weights, fetching them into the user's cache the first time."""
    if not any(w.name == name and w.state == "fetched" for w in available()):
        try:
            fetch(name)
        except WeightsError as error:
            pytest.skip(str(error))
    return load_detector(name)


def seen(shared_data: Path, **grid: object) -> PolarImage:
    return remapped(mapbbr3(shared_data), MAPBBR3, **grid)


def centres(polar: PolarImage, found: Detections) -> np.ndarray:
    """Return |q| of the boxes' centres, 1/angstrom."""
    columns = (found.boxes[:, 0] + found.boxes[:, 2]) / 2
    return np.interp(columns, np.arange(len(polar.q)), polar.q)


@pytest.mark.slow
@pytest.mark.parametrize("side", ["fold", "right"])
@pytest.mark.parametrize("q_max", [3.818, 3.9])
def test_the_published_weights_find_the_rings_of_the_paper(shared_data, q_max, side):
    detector = published("gixi-2022")
    polar = seen(shared_data, q_max_inv_angstrom=q_max, side=side)
    (found,) = detector(detector.prepare(polar.intensity[None]))
    for threshold in (0.5, 0.6):
        q = centres(polar, found.above(threshold, 300))
        for ring in RINGS:
            assert np.abs(q / ring - 1).min() < 0.005, f"no box on the ring at {ring}"
        assert np.abs(q - CUT).min() < 0.012
        known = np.array([*MAPBBR3_RINGS, MAPBBR3_WEAK, FOREIGN_RING])
        off = np.abs(q[:, None] - known).min(axis=1) > 0.012
        assert off.sum() <= 2, f"boxes off any line at {q[off]}"


def test_the_segment_weights_find_the_strong_rings(shared_data):
    polar, detector = seen(shared_data, q_max_inv_angstrom=3.9), published("gixi-2022-segments")
    (found,) = detector(detector.prepare(polar.intensity[None]))
    q = centres(polar, found.above(0.5, 300))
    assert sum(np.abs(q / ring - 1).min() < 0.005 for ring in RINGS) >= 9


def test_a_batch_gives_what_single_images_give(shared_data):
    polar, detector = seen(shared_data, q_max_inv_angstrom=3.9), published("gixi-2022")
    noise = np.random.default_rng(0).normal(0, 20, polar.intensity.shape)
    images = detector.prepare(np.stack([polar.intensity, polar.intensity + noise]))
    together = detector._detect(images)
    for image, batched in zip(images, together, strict=True):
        (alone,) = detector(image[None])
        ours, theirs = batched.above(0.5, 300), alone.above(0.5, 300)
        assert len(ours) == len(theirs) > 5
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-3)
        q = [np.sort(centres(polar, found)) for found in (ours, theirs)]
        np.testing.assert_allclose(*q, atol=0.01 * (polar.q[1] - polar.q[0]))
