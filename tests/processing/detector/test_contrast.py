"""Contrast: OpenCV's CLAHE where all is valid, and nothing taken from pixels without data."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gixi_bluesky.processing.detector.contrast import equalise, equalise_histogram
from gixi_bluesky.processing.settings import ContrastSettings

PUBLISHED = ContrastSettings(percentiles=(0, 100))


def polar_like(seed: int, shape: tuple[int, int] = (64, 96)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    columns = np.arange(shape[1])
    mean = 50 * np.exp(-columns / 40) + 30 * np.exp(-((columns - 50) ** 2) / 8) + 5
    return rng.poisson(np.broadcast_to(mean, shape)).astype(np.float32)


def opencv_recipe(image: np.ndarray) -> np.ndarray:
    def norm(values: np.ndarray) -> np.ndarray:
        return (values - values.min()) / (values.max() - values.min())

    levels = (5000 * norm(np.log10(5000 * norm(image.astype(np.float64)) + 1))).astype(np.uint16)
    clahe = cv2.createCLAHE(clipLimit=2000, tileGridSize=(1, 1))
    return norm(clahe.apply(levels).astype(np.float64))


@given(
    shape=st.tuples(st.integers(17, 70), st.integers(17, 70)),
    tiles=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    clip=st.floats(0.5, 3000),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    top=st.integers(1, 255),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=80, deadline=None)
def test_equals_opencv_where_all_is_valid(shape, tiles, clip, dtype, top, seed):
    levels = np.random.default_rng(seed).integers(0, top + 1, shape).astype(dtype)
    ours = equalise_histogram(levels, np.ones(shape, bool), clip, tiles)
    theirs = cv2.createCLAHE(clipLimit=clip, tileGridSize=tiles[::-1]).apply(levels)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("seed", range(5))
def test_published_recipe_is_reproduced(seed):
    image = polar_like(seed)
    # one grey level of 5000 may fall on the other side of a boundary in float32
    difference = np.abs(equalise(image, PUBLISHED) - opencv_recipe(image))
    assert np.mean(difference > 1e-6) < 0.01


@given(seed=st.integers(0, 2**32 - 1), tiles=st.sampled_from([(1, 1), (2, 3)]))
@settings(max_examples=25, deadline=None)
def test_values_under_the_mask_never_matter(seed, tiles):
    rng = np.random.default_rng(seed)
    image = polar_like(seed)
    masked = rng.random(image.shape) < 0.3
    holes = np.where(masked, np.nan, image)
    infinite = np.where(masked, np.inf, image)
    chosen = ContrastSettings(tiles=tiles)
    result = equalise(holes, chosen)
    np.testing.assert_array_equal(np.isnan(result), masked)
    np.testing.assert_array_equal(result, equalise(infinite, chosen))
    assert np.nanmin(result) == 0
    assert np.nanmax(result) == 1


def test_a_masked_image_is_equalised_as_if_only_the_rest_existed():
    image = polar_like(3)
    wide = np.full((64, 200), np.nan, np.float32)
    wide[:, :96] = image
    np.testing.assert_array_equal(
        equalise(wide, ContrastSettings())[:, :96], equalise(image, ContrastSettings())
    )


@pytest.mark.parametrize("value", [-1e6, 1e7])
def test_one_dead_or_hot_pixel_changes_nothing_else(value):
    image = polar_like(4, (256, 256))
    spoiled = image.copy()
    spoiled[10, 10] = value
    difference = np.abs(equalise(spoiled, ContrastSettings()) - equalise(image, ContrastSettings()))
    difference[10, 10] = 0
    assert np.percentile(difference, 99) < 0.02


def test_an_image_without_data_stays_without_data():
    assert np.isnan(equalise(np.full((8, 8), np.nan), ContrastSettings())).all()


def test_an_image_of_one_value_is_black():
    assert (equalise(np.full((8, 8), 7.0, np.float32), ContrastSettings()) == 0).all()
