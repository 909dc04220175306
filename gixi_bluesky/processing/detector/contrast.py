"""Contrast for the networks: a logarithm and clipped-histogram equalisation of valid pixels.

Intensities are never measured on these images. No data (NaN) enters no minimum, maximum or
histogram and stays NaN. The recipe is the published one of GIXD peak detection (Starostin 2022):
scale to 0…1, log(strength · x + 1), scale, 5000 grey levels, contrast-limited adaptive histogram
equalisation, scale; only the percentiles of the first step are ours.
"""

from __future__ import annotations

from itertools import product
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.settings import ContrastSettings

__all__ = ["equalise", "equalise_histogram", "equalise_stack"]

Image = NDArray[np.float32]
Levels = NDArray[np.uint8] | NDArray[np.uint16]
Valid = NDArray[np.bool_]

GREY_LEVELS = 5000


def equalise(image: NDArray[np.floating], settings: ContrastSettings) -> Image:
    """Return the image as a network wants to see it: (rows, columns) float32 in 0…1, NaN = no data.

    Single hot or dead pixels beyond `settings.percentiles` are clipped, so they set no scale.
    """
    valid = np.isfinite(image)
    result = np.full(image.shape, np.nan, np.float32)
    if not valid.any():
        return result
    everything = bool(valid.all())
    values = image.ravel() if everything else image[valid]
    scaled = _unit_range(values.astype(np.float32), *_limits(values, settings.percentiles))
    logarithm = np.log(scaled * np.float32(settings.log_strength) + np.float32(1))
    levels = np.zeros(image.shape, np.uint16)
    levels[valid] = GREY_LEVELS * _unit_range(logarithm, logarithm.min(), logarithm.max())
    equalised = equalise_histogram(levels, valid, settings.clip_limit, settings.tiles)[valid]
    result[valid] = _unit_range(equalised.astype(np.float32), equalised.min(), equalised.max())
    return result


def equalise_stack(images: NDArray[np.floating], settings: ContrastSettings) -> Image:
    """Return (..., rows, columns) images, each equalised on its own, as `equalise` does."""
    stack = np.asarray(images, np.float32)
    flat = stack.reshape(-1, *stack.shape[-2:])
    return np.stack([equalise(image, settings) for image in flat]).reshape(stack.shape)


def _limits(values: NDArray[np.floating], percentiles: tuple[float, float]) -> tuple[float, float]:
    if percentiles == (0.0, 100.0):
        return float(values.min()), float(values.max())
    last = len(values) - 1
    ranks = [int(np.floor(percentiles[0] / 100 * last)), int(np.ceil(percentiles[1] / 100 * last))]
    low, high = np.partition(values, ranks)[ranks]
    return float(low), float(high)


def _unit_range(values: Image, low: float, high: float) -> Image:
    """Map low…high to 0…1 and clip; an image of one value becomes 0."""
    span = np.float32(high) - np.float32(low)
    if not span > 0:
        return np.zeros_like(values)
    return np.clip((values - np.float32(low)) / span, 0, 1, dtype=np.float32)


def equalise_histogram(
    levels: Levels, valid: Valid, clip_limit: float, tiles: tuple[int, int] = (1, 1)
) -> Levels:
    """Equalise the clipped histogram of valid pixels tile by tile, interpolating between tiles.

    levels: (rows, columns) uint8 or uint16; valid: same shape, True = data
    clip_limit: largest bin of a histogram, relative to a flat one; tiles: (rows, columns)

    Equal to `cv2.createCLAHE(clip_limit, tiles[::-1])` where all is valid. A tile without a valid
    pixel takes the histogram of the whole image. Pixels that are not valid hold no meaning.
    """
    padded, padded_valid = _padded(levels, tiles), _padded(valid, tiles)
    height, width = padded.shape[0] // tiles[0], padded.shape[1] // tiles[1]
    curves = np.empty((*tiles, np.iinfo(levels.dtype).max + 1), levels.dtype)
    for row, column in product(range(tiles[0]), range(tiles[1])):
        tile = np.s_[row * height : (row + 1) * height, column * width : (column + 1) * width]
        inside = padded[tile][padded_valid[tile]]
        curves[row, column] = _curve(inside if inside.size else levels[valid], clip_limit, levels)
    if tiles == (1, 1):
        return curves[0, 0][levels]
    return _interpolated(levels, curves, height, width)


def _padded(array: NDArray[Any], tiles: tuple[int, int]) -> NDArray[Any]:
    """Mirror the lower and right edges as OpenCV does when the tiles do not divide the image."""
    surplus = [size % count for size, count in zip(array.shape, tiles, strict=True)]
    if not any(surplus):
        return array
    pads = [(0, count - rest) for count, rest in zip(tiles, surplus, strict=True)]
    return np.pad(array, pads, mode="reflect")


def _curve(values: Levels, clip_limit: float, like: Levels) -> Levels:
    """Return the grey curve of one tile: the scaled running sum of its clipped histogram."""
    bins = np.iinfo(like.dtype).max + 1
    histogram = np.bincount(values, minlength=bins)
    limit = max(int(clip_limit * values.size / bins), 1)
    clipped = int(np.maximum(histogram - limit, 0).sum())
    share, residual = divmod(clipped, bins)
    histogram = np.minimum(histogram, limit) + share
    if residual:
        step = max(bins // residual, 1)
        histogram[: residual * step : step] += 1
    scale = np.float32(bins - 1) / np.float32(max(values.size, 1))
    return (
        np.rint(np.cumsum(histogram).astype(np.float32) * scale)
        .clip(0, bins - 1)
        .astype(like.dtype)
    )


def _interpolated(levels: Levels, curves: Levels, height: int, width: int) -> Levels:
    """Look every pixel up in the curves of the four nearest tile centres."""
    rows = _neighbours(levels.shape[0], height, curves.shape[0])
    columns = _neighbours(levels.shape[1], width, curves.shape[1])
    blended = np.zeros(levels.shape, np.float32)
    for row, row_weight in rows:
        line = np.zeros(levels.shape, np.float32)
        for column, column_weight in columns:
            line += curves[row[:, None], column[None, :], levels] * column_weight[None, :]
        blended += line * row_weight[:, None]
    grey = np.rint(blended).clip(0, np.iinfo(levels.dtype).max)
    return cast("Levels", grey.astype(levels.dtype))


def _neighbours(
    size: int, tile: int, count: int
) -> tuple[tuple[NDArray[np.intp], Image], tuple[NDArray[np.intp], Image]]:
    """Return (tile index, weight) of the tile centres before and after each pixel."""
    position = np.arange(size, dtype=np.float32) * (np.float32(1) / np.float32(tile))
    position -= np.float32(0.5)
    before = np.floor(position).astype(np.intp)
    after_weight = position - before.astype(np.float32)
    return (
        (np.maximum(before, 0), np.float32(1) - after_weight),
        (np.minimum(before + 1, count - 1), after_weight),
    )
