"""Peaks too weak for one frame that last: found in means of frames of unchanged conditions."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.tables import Peaks
from gixi_bluesky.processing.tracks.course_plan import FIRST_SUM_TRACK
from gixi_bluesky.processing.tracks.places import Places, coincide
from gixi_bluesky.processing.tracks.scatter import with_scatter
from gixi_bluesky.processing.tracks.settings import FEWEST_BINS
from gixi_bluesky.processing.types import PolarImage

__all__ = ["MeanImage", "Search", "SumTracks"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Search = Callable[[PolarImage], Peaks]

_LEAST_SNR = 1.0  # of a peak in the mean; the detector's score decides
_SAME_CONDITION = 1e-3


class MeanImage:
    """The mean of `n` images, one block after the other.

    A block whose conditions change (`condition`, such as the incidence angle) begins again.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._total: Float64 | None = None
        self._counts: NDArray[np.int32] | None = None
        self._held = 0
        self._condition = math.nan

    def add(self, image: Float32, condition: float) -> Float32 | None:
        """Take an image and return the mean, NaN = no data, when it completes a block."""
        if self._total is None or self._counts is None or self._changed(image, condition):
            self._total = np.zeros(image.shape)
            self._counts = np.zeros(image.shape, np.int32)
            self._held, self._condition = 0, condition
        valid = np.isfinite(image)
        np.add(self._total, image, out=self._total, where=valid)
        self._counts += valid
        self._held += 1
        if self._held < self._n:
            return None
        known = 2 * self._counts >= self._n
        mean = np.where(known, self._total / np.maximum(self._counts, 1), np.nan)
        self._total = None
        return mean.astype(np.float32)

    def _changed(self, image: Float32, condition: float) -> bool:
        other = self._total is not None and self._total.shape != image.shape
        return other or abs(condition - self._condition) > _SAME_CONDITION


class SumTracks:
    """Tracks of peaks that are found in the means only, at places that stay.

    What is found follows from the images in their order.

    search: finds and measures the peaks of an image; n: of images in a mean
    """

    def __init__(self, search: Search, n: int) -> None:
        self._search = search
        self._mean = MeanImage(n)
        self._places = Places.none()

    def add(
        self, image: Float32, condition: float, axes: tuple[Float64, Float64], known: Places
    ) -> tuple[Int64, Places] | None:
        """Take the next image; return new tracks and their places when a mean shows some.

        known: places of the tracks of this frame, which are not found again
        """
        if min(image.shape) < FEWEST_BINS:
            return None
        mean = self._mean.add(image, condition)
        if mean is None:
            return None
        peaks = self._search(with_scatter(mean, *axes))
        found = Places(peaks.q, peaks.phi, peaks.fwhm_q, peaks.fwhm_phi)
        usable = np.isfinite(peaks.q + peaks.phi) & (peaks.fwhm_q > 0) & (peaks.fwhm_phi > 0)
        new = usable & (peaks.snr >= _LEAST_SNR) & ~coincide(found, known.joined(self._places))
        if not new.any():
            return None
        first = FIRST_SUM_TRACK + len(self._places)
        chosen = found.chosen(new)
        self._places = self._places.joined(chosen)
        return np.arange(first, first + len(chosen), dtype=np.int64), chosen
