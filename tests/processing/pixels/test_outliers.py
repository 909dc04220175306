"""Hot pixels and cosmic rays are found; real spots, however sharp, are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gixi_bluesky.processing.measure.peaks import measure
from gixi_bluesky.processing.pixels.outliers import without_outliers
from gixi_bluesky.processing.types import Detections, PolarImage

SHAPE = (300, 256)


def spots(fwhm: float, counts: float, n: int, seed: int):
    """Return Poisson counts of Gaussian spots on a background of 20, each somewhere on a pixel."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(SHAPE)
    image = np.full(SHAPE, 20.0)
    for row, column in rng.uniform(5, 250, (n, 2)):
        r2 = (rows - row) ** 2 + (columns - column) ** 2
        image += counts * np.exp(-4 * np.log(2) * r2 / fwhm**2)
    return rng.poisson(image)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.uint32, np.float32])
def test_hot_pixels_are_replaced_and_nothing_else(dtype):
    rng = np.random.default_rng(1)
    frame = rng.poisson(67, SHAPE).astype(dtype)
    hot = np.array([(0, 0), (17, 30), (150, 255), (299, 100), (31, 31)])
    frame[tuple(hot.T)] = 9200
    before = frame.copy()
    cleaned, count = without_outliers(frame)
    assert count == 4  # the corner has too few neighbours to judge it by
    changed = np.argwhere(cleaned != before)
    assert {tuple(p) for p in changed} == {tuple(p) for p in hot[1:]}
    assert (cleaned[tuple(hot[1:].T)] < 110).all()
    assert (frame == before).all()
    assert cleaned.dtype == dtype


@pytest.mark.parametrize("fwhm", [1.0, 1.3, 2.0])
@pytest.mark.parametrize("counts", [50, 1000, 60_000])
def test_spots_as_sharp_as_one_pixel_are_left_alone(fwhm, counts):
    frame = spots(fwhm, counts, 40, seed=int(10 * fwhm) + counts)
    cleaned, count = without_outliers(frame)
    assert count == 0
    assert cleaned is frame


@pytest.mark.parametrize("level", [0.02, 1.0, 50.0, 3000.0])
def test_counting_noise_has_no_outliers(level):
    rng = np.random.default_rng(3)
    assert sum(without_outliers(rng.poisson(level, SHAPE))[1] for _ in range(10)) == 0
    readout = rng.normal(level, 30, SHAPE).astype(np.float32)
    assert without_outliers(readout)[1] == 0


def test_gaps_masked_pixels_and_no_data_are_no_outliers_and_no_neighbours():
    frame = np.random.default_rng(4).poisson(5.0, SHAPE).astype(np.int32)
    frame[:, 100:107] = -1
    frame[40, 50] = np.iinfo(np.int32).max
    masked = np.zeros(SHAPE, bool)
    masked[60, 60] = True
    frame[60, 60] = frame[200, 99] = 100_000
    cleaned, count = without_outliers(frame, masked)
    assert count == 1
    assert cleaned[200, 99] < 20
    counts = np.where(frame < 0, np.nan, frame).astype(np.float32)
    counts[40, 50] = np.inf
    assert without_outliers(counts, masked)[1] == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["u1", "i2", "u4", "f4", "f8"]))
def test_frames_of_any_size_and_content_are_taken(rows, columns, dtype):
    rng = np.random.default_rng(rows * 41 + columns)
    if dtype[0] == "f":
        frame = rng.choice([0.0, 1.0, -5.0, 1e30, np.nan, np.inf, -np.inf], (rows, columns))
    else:
        info = np.iinfo(dtype)
        frame = rng.choice([0, 1, info.min, info.max, info.max // 2], (rows, columns))
    frame = frame.astype(dtype)
    cleaned, count = without_outliers(frame[::-1])
    assert cleaned.shape == (rows, columns)
    assert 0 <= count <= frame.size


def test_a_hot_pixel_moves_no_ring():
    """9,200 counts on a ring over a background of 67, as seen on a real detector."""
    rng = np.random.default_rng(6)
    columns = np.indices((256, 256))[1]
    ring = 67 + 60 * np.exp(-0.5 * ((columns - 120.3) / 2.5) ** 2)
    frame = rng.poisson(ring)
    frame[100, 123] = 9200
    box = Detections(np.array([[117.4, 60, 123.2, 140]], np.float32), np.ones(1, np.float32))

    def position(counts):
        image = counts.astype(np.float32)
        axes = np.arange(256.0), np.linspace(0, 90, 256)
        polar = PolarImage(image, image, np.ones_like(image), *axes)
        return measure(polar, box).frame().iloc[0]

    moved, kept = position(frame), position(without_outliers(frame)[0])
    assert abs(moved.q - 120.3) > 5 * kept.q_error
    assert abs(kept.q - 120.3) < 4 * kept.q_error
