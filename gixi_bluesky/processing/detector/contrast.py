"""Contrast for the networks: a logarithm and clipped-histogram equalisation of valid pixels.

Intensities are never measured on these images. No data (NaN) enters no minimum, maximum or
histogram and stays NaN. The recipe is the published one of GIXD peak detection (Starostin 2022):
scale to 0…1, log(strength · x + 1), scale, 5000 grey levels, contrast-limited adaptive histogram
equalisation, scale; only the percentiles of the first step differ.
"""

from __future__ import annotations

from itertools import product
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.settings import ContrastSettings

__all__ = [
    "GREY_LEVELS",
    "NO_DATA",
    "Contrast",
    "equalise",
    "equalise_histogram",
    "grey_table",
    "ranks",
]

Image = NDArray[np.float32]
Levels = NDArray[np.uint8] | NDArray[np.uint16]
Valid = NDArray[np.bool_]

GREY_LEVELS = 5000
NO_DATA = GREY_LEVELS + 1  # in place of a grey level
_BINS, _BYTE = 1 << 16, 1 << 8
_ROWS_AT_ONCE = 32  # so that they stay in the cache
_SAMPLE = 1 << 14


class Contrast:
    """Applies the contrast to images, and reuses its work arrays for images of one shape.

    Not for several threads at once.
    """

    def __init__(self, settings: ContrastSettings) -> None:
        self._settings = settings
        self._levels = np.empty((0, 0), np.uint16)
        self._rows = np.empty((0, 0), np.float32)

    def __call__(self, images: NDArray[np.floating]) -> Image:
        """Return (..., rows, columns) images as input of a network: 0…1, NaN = no data."""
        stack = np.asarray(images, np.float32)
        result = np.empty(stack.shape, np.float32)
        shape = stack.shape[-2:]
        pairs = zip(stack.reshape(-1, *shape), result.reshape(-1, *shape), strict=True)
        for image, equalised in pairs:
            infinite = np.isinf(image)
            if infinite.any():
                image = np.where(infinite, np.float32(np.nan), image)
            self._equalise(image, equalised)
        return result

    def _equalise(self, image: Image, result: Image) -> None:
        values = image.ravel()
        n = int(np.count_nonzero(values == values))
        if not n:
            result.fill(np.nan)
            return
        low, high = _limits(values, n, self._settings.percentiles)
        if not high > low:
            np.multiply(image, np.float32(0), out=result)
            return
        levels = self._grey_levels(image, low, high)
        if self._settings.tiles == (1, 1):
            table = grey_table(_counts(levels), n, self._settings.clip_limit)
            np.take(table, levels, mode="clip", out=result)
            return
        valid = levels < NO_DATA
        equalised = equalise_histogram(
            np.where(valid, levels, 0), valid, self._settings.clip_limit, self._settings.tiles
        ).astype(np.float32)
        _stretch(equalised, equalised[valid])
        np.copyto(result, np.where(valid, equalised, np.float32(np.nan)))

    def _grey_levels(self, image: Image, low: np.float32, high: np.float32) -> Levels:
        """Return the logarithm of the image in grey levels, `NO_DATA` where it is NaN."""
        if self._levels.shape != image.shape:
            self._levels = np.empty(image.shape, np.uint16)
            self._rows = np.empty((_ROWS_AT_ONCE, image.shape[1]), np.float32)
        strength = np.float32(self._settings.log_strength)
        largest = np.log(strength + np.float32(1))
        for start in range(0, len(image), _ROWS_AT_ONCE):
            part = image[start : start + _ROWS_AT_ONCE]
            rows = self._rows[: len(part)]
            np.subtract(part, low, out=rows)
            rows /= high - low
            np.clip(rows, 0, 1, out=rows)
            rows *= strength
            rows += np.float32(1)
            np.log(rows, out=rows)
            rows /= largest
            rows *= np.float32(GREY_LEVELS)
            np.copyto(rows, np.float32(NO_DATA), where=part != part)
            np.copyto(self._levels[start : start + len(part)], rows, casting="unsafe")
        return self._levels


def equalise(image: NDArray[np.floating], settings: ContrastSettings) -> Image:
    """Return the image as input of a network: (rows, columns) float32 in 0…1, NaN = no data.

    Single hot or dead pixels beyond `settings.percentiles` are clipped, so they set no scale.
    """
    return Contrast(settings)(image)


def ranks(n: int, percentiles: tuple[float, float]) -> tuple[int, int]:
    """Return the ranks next to two percentiles of `n` values, from the lower and the upper end."""
    below = int(np.floor(percentiles[0] / 100 * (n - 1)))
    return below, n - 1 - int(np.ceil(percentiles[1] / 100 * (n - 1)))


def grey_table(counts: NDArray[np.int64], n: int, clip_limit: float) -> Image:
    """Return what replaces each grey level, 0…1, and at the end NaN for `NO_DATA`.

    counts: how many of the `n` pixels have each level; the histogram of a single tile
    """
    curve = _curve(counts, n, clip_limit, _BINS)
    table = np.append(curve.astype(np.float32), np.float32(np.nan))
    _stretch(table[:-1], table[np.flatnonzero(counts)])
    return table


def _limits(
    values: Image, n: int, percentiles: tuple[float, float]
) -> tuple[np.float32, np.float32]:
    """Return the percentiles of the `n` values that are not NaN, as the ranks next to them."""
    below, above = ranks(n, percentiles)
    return _nth_smallest(values, n, below), -_nth_smallest(-values, n, above)


def _nth_smallest(values: Image, n: int, rank: int) -> np.float32:
    """Return the value of a rank, from 0; only the lower end is sorted, which a sample shows."""
    sample = values[:: max(len(values) // _SAMPLE, 1)]
    sample = sample[sample == sample]
    last = int((rank + 1) / n * len(sample) * 4) + 16
    if last < len(sample):
        lower = values[values <= np.partition(sample, last)[last]]
        if len(lower) > rank:
            return np.float32(np.partition(lower, rank)[rank])
    return np.float32(np.partition(values, rank)[rank])  # NaN come last


def _counts(levels: Levels) -> NDArray[np.int64]:
    """Return how many pixels have each grey level; those without data have none."""
    counts = cv2.calcHist([levels], [0], None, [NO_DATA], [0, NO_DATA])
    return np.asarray(counts.ravel(), np.int64)


def _stretch(values: Image, used: Image) -> None:
    """Map the range of `used` to 0…1 and clip, in place; values that are all the same become 0."""
    low, high = used.min(), used.max()
    if not high > low:
        values.fill(0)
        return
    values -= low
    values /= high - low
    np.clip(values, 0, 1, out=values)


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
    bins = np.iinfo(levels.dtype).max + 1
    curves = np.empty((*tiles, bins), levels.dtype)
    for row, column in product(range(tiles[0]), range(tiles[1])):
        tile = np.s_[row * height : (row + 1) * height, column * width : (column + 1) * width]
        inside = padded[tile][padded_valid[tile]]
        used = inside if inside.size else levels[valid]
        counts = np.bincount(used, minlength=bins)
        curves[row, column] = _curve(counts, used.size, clip_limit, bins)
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


def _curve(counts: NDArray[np.int64], total: int, clip_limit: float, bins: int) -> Levels:
    """Return the grey curve of a tile: the scaled running sum of its clipped histogram.

    counts: of the lowest grey levels, all that occur; bins: how many levels there are
    """
    limit = max(int(clip_limit * total / bins), 1)
    clipped = int(np.maximum(counts - limit, 0).sum())
    share, residual = divmod(clipped, bins)
    histogram = np.minimum(counts, limit) + share
    if residual:
        step = max(bins // residual, 1)
        histogram[: residual * step : step] += 1
    scale = np.float32(bins - 1) / np.float32(max(total, 1))
    grey = np.rint(np.cumsum(histogram).astype(np.float32) * scale).clip(0, bins - 1)
    return cast("Levels", grey.astype(np.uint8 if bins <= _BYTE else np.uint16))


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
