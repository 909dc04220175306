"""The search of means of frames: the detector and the fits of single frames."""

from __future__ import annotations

from gixi_bluesky.processing.detector import Detector, load_detector
from gixi_bluesky.processing.measure.peaks import measure
from gixi_bluesky.processing.settings import DetectorSettings
from gixi_bluesky.processing.tables import Peaks
from gixi_bluesky.processing.tracks.sums import Search
from gixi_bluesky.processing.types import PolarImage

__all__ = ["peak_search", "search_with"]


def peak_search(settings: DetectorSettings) -> Search:
    """Return what finds and measures peaks as in single frames, on the CPU.

    Raises WeightsError.
    """
    detector = load_detector(settings.weights, device="cpu", engine=settings.engine)
    return search_with(detector, settings)


def search_with(detector: Detector, settings: DetectorSettings) -> Search:
    """Return what finds and measures the peaks of a polar image with a detector."""

    def search(polar: PolarImage) -> Peaks:
        (found,) = detector(detector.prepare(polar.intensity[None]))
        return measure(polar, found.above(settings.score_threshold, settings.max_peaks))

    return search
