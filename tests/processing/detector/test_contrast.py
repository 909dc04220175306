"""Contrast: OpenCV's CLAHE where all is valid, and nothing taken from pixels without data."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gixi_bluesky.processing.detector.contrast import Contrast, equalise, equalise_histogram
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


def plain_recipe(image: np.ndarray, chosen: ContrastSettings) -> np.ndarray:
    """The same recipe in whole arrays, float32, with sorted values for the percentiles."""
    valid = np.isfinite(image)
    values = image[valid]
    ordered, last = np.sort(values), len(values) - 1
    low = ordered[int(np.floor(chosen.percentiles[0] / 100 * last))]
    high = ordered[int(np.ceil(chosen.percentiles[1] / 100 * last))]

    def unit(values: np.ndarray, low: np.float32, high: np.float32) -> np.ndarray:
        return np.clip((values - low) / (high - low), 0, 1)

    logarithm = np.log(unit(values, low, high) * np.float32(chosen.log_strength) + np.float32(1))
    levels = np.zeros(image.shape, np.uint16)
    levels[valid] = 5000 * unit(logarithm, logarithm.min(), logarithm.max())
    grey = equalise_histogram(levels, valid, chosen.clip_limit, chosen.tiles)[valid]
    grey = grey.astype(np.float32)
    result = np.full(image.shape, np.nan, np.float32)
    result[valid] = unit(grey, grey.min(), grey.max())
    return result


@given(
    seed=st.integers(0, 2**32 - 1),
    percentiles=st.sampled_from([(0.0, 100.0), (0.01, 99.99), (1.0, 90.0)]),
    tiles=st.sampled_from([(1, 1), (2, 3)]),
    clip=st.sampled_from([1.5, 2000.0]),
)
@settings(max_examples=40, deadline=None)
def test_whatever_the_order_of_the_work_each_pixel_is_the_same(seed, percentiles, tiles, clip):
    rng = np.random.default_rng(seed)
    image = polar_like(seed, (197, 260)) + rng.normal(0, 0.3, (197, 260)).astype(np.float32)
    image[rng.random(image.shape) < 0.1] = np.nan
    chosen = ContrastSettings(percentiles=percentiles, tiles=tiles, clip_limit=clip)
    np.testing.assert_array_equal(equalise(image, chosen), plain_recipe(image, chosen))


def test_one_contrast_serves_images_of_several_shapes_and_keeps_none_of_them():
    contrast = Contrast(ContrastSettings())
    images = [polar_like(seed, (64 + 8 * seed, 96)) for seed in range(3)]
    results = [contrast(image) for image in images]
    for image, result in zip(images, results, strict=True):
        np.testing.assert_array_equal(result, equalise(image, ContrastSettings()))
    stack = np.stack([images[0], images[0] * 2])
    np.testing.assert_array_equal(contrast(stack)[0], results[0])


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
