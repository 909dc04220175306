"""The search of means of frames: the detector and the fits of single frames."""

from __future__ import annotations

from gixi_bluesky.processing.detector import Detector, load_detector
from gixi_bluesky.processing.measure.peaks import measure
from gixi_bluesky.processing.settings import DetectorSettings
from gixi_bluesky.processing.tables import Peaks
from gixi_bluesky.processing.tracks.sums import Search
from gixi_bluesky.processing.types import PolarImage

__all__ = ["peak_search", "search_of_means", "search_with"]

# Score of a box that is taken in a mean, as a share of the threshold of single frames, by the name
# of the weights: the lowest one at which nine of ten tracks that means add lie on a reflection,
# on series of seeds from 912000 and 913000 on. Of other weights it is not known.
_SHARE_IN_MEANS = {"light-2026": 0.2}


def peak_search(settings: DetectorSettings) -> Search:
    """Return what finds and measures the peaks of means of frames, on the CPU.

    Raises WeightsError.
    """
    detector = load_detector(settings.weights, device="cpu", engine=settings.engine)
    return search_of_means(detector, settings)


def search_of_means(detector: Detector, settings: DetectorSettings) -> Search:
    """Return what finds and measures the peaks of means of frames with a detector.

    A mean is searched once in many frames, so that a lower score than in single frames gives as
    few false tracks.
    """
    threshold = _SHARE_IN_MEANS.get(detector.name, 1.0) * settings.score_threshold
    return search_with(detector, settings.model_copy(update={"score_threshold": threshold}))


def search_with(detector: Detector, settings: DetectorSettings) -> Search:
    """Return what finds and measures the peaks of a polar image with a detector."""

    def search(polar: PolarImage) -> Peaks:
        (found,) = detector(detector.prepare(polar.intensity[None]))
        return measure(polar, found.above(settings.score_threshold, settings.max_peaks))

    return search
