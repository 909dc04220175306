"""Peaks without a network: profiles along q in arcs of every height, against the local noise."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.detector.classical.arcs import ArcPeak, Search
from gixi_bluesky.processing.types import Detections

__all__ = ["ClassicalDetector"]

Map = NDArray[np.float32]

_VERSION = "classical 1"
_FLOOR = 4.0  # significance below which nothing is reported
_EVEN_SPOT, _EVEN_RING = 6.5, 5.0  # significance that scores 0.5
_SPIKE = 8  # times the depth and the scatter of its surroundings that a single pixel sticks out


class ClassicalDetector:
    """Finds rings, arcs and spots by how far their profiles rise above the local noise.

    Deterministic, without weights; honours no data (NaN), which can never be a peak. A threshold of
    0.5 on the score keeps spots that rise 6.5 and full rings that rise 5 standard deviations
    above the local noise.
    """

    name = "classical"
    device, engine, precision = "cpu", "numpy", "float32"
    sha256 = hashlib.sha256(_VERSION.encode()).hexdigest()

    def prepare(self, polar: NDArray[np.floating]) -> Map:
        """Scale polar images linearly to 0…1: (..., n_phi, n_q) float32, NaN = no data."""
        images = np.asarray(polar, np.float32)
        flat = images.reshape(-1, *images.shape[-2:])
        return np.stack([_scaled(image) for image in flat]).reshape(images.shape)

    def __call__(self, images: Map) -> list[Detections]:
        """Find the peaks of (n, n_phi, n_q) images; most significant first."""
        return [_detections(Search(_without_spikes(image), _FLOOR).peaks()) for image in images]


def _scaled(image: Map) -> Map:
    """Clip the outermost values, which single pixels hold, and map the rest to 0…1."""
    valid = np.isfinite(image)
    values = image[valid]
    if not values.size:
        return np.full_like(image, np.nan)
    ranks = [values.size // 10_000, values.size - 1 - values.size // 20_000]
    low, high = np.partition(values, ranks)[ranks]
    span = high - low if high > low else np.float32(1)
    return np.where(valid, ((image - low) / span).clip(0, 1), np.float32(np.nan))


def _without_spikes(image: Map) -> Map:
    """Remove single pixels far above their neighbours, which peaks never are."""
    valid = np.isfinite(image)
    filled = np.where(valid, image, np.float32(0))
    median = cv2.medianBlur(filled, 5)
    depth = median - cv2.erode(filled, np.ones((5, 5), np.uint8))
    excess = filled - median
    usual = np.float32(np.quantile(np.abs(excess[::4, ::4]), 0.98))
    scatter = cv2.blur(np.minimum(np.abs(excess), usual), (33, 33))
    return np.where(
        valid & (excess <= _SPIKE * np.maximum(depth, scatter)), image, np.float32(np.nan)
    )


def _detections(peaks: list[ArcPeak]) -> Detections:
    scores = np.array([_score(peak) for peak in peaks], np.float32)
    boxes = np.array([peak.box for peak in peaks], np.float32).reshape(-1, 4)
    order = np.argsort(-scores, kind="stable")
    return Detections(boxes[order], scores[order])


def _score(peak: ArcPeak) -> float:
    """Return z² / (z² + even²): the longer an arc, the fewer places noise has to look like one."""
    even = _EVEN_SPOT + (_EVEN_RING - _EVEN_SPOT) * min(peak.length, 1)
    return peak.significance**2 / (peak.significance**2 + even**2)
