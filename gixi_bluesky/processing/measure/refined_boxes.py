"""Boxes of peaks after the fit, which knows their widths better than the detector does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.measure.angular import AngularFits
from gixi_bluesky.processing.measure.box_shapes import BoxShapes
from gixi_bluesky.processing.measure.radial import RadialFits
from gixi_bluesky.processing.tables import FWHM_PER_SIGMA

__all__ = ["refined_boxes"]

Float64 = NDArray[np.float64]

_SIGMAS = 2.0  # from the centre to where a Gaussian is at 13.5 %
_FARTHEST = 2.2  # times wider or narrower than the detector's box: the fit went astray


def refined_boxes(
    boxes: NDArray[np.float32], shapes: BoxShapes, radial: RadialFits, angular: AngularFits
) -> Float64:
    """Return boxes (n, 4): q ± FWHM/2, and phi where the fitted profile is at 13.5 %.

    A side keeps the detector's place where the fit failed, where the peak is cut along phi or is
    a ring, and where fit and detector differ beyond belief.
    """
    refined = boxes.astype(np.float64)
    half = radial.sigma * FWHM_PER_SIGMA / 2
    sure = radial.measured & ~radial.failed & _near(2 * half, boxes[:, 2] - boxes[:, 0])
    refined[sure, 0], refined[sure, 2] = (radial.centre - half)[sure], (radial.centre + half)[sure]
    reach = _SIGMAS * angular.fwhm / FWHM_PER_SIGMA
    first, last = boxes[:, 1], boxes[:, 3]
    sure = radial.measured & ~radial.failed & ~shapes.ring & ~angular.cut
    sure &= _near(2 * reach, last - first) & (shapes.visible[:, 0] >= 0)
    low = np.maximum(angular.centre - reach, np.minimum(shapes.visible[:, 0], first))
    high = np.minimum(angular.centre + reach, np.maximum(shapes.visible[:, 1], last))
    refined[sure, 1], refined[sure, 3] = low[sure], high[sure]
    return refined


def _near(one: Float64, other: NDArray[np.float32]) -> NDArray[np.bool_]:
    ratio = np.maximum(one, 0.1) / np.maximum(other, 1.0)
    return np.asarray((ratio < _FARTHEST) & (ratio > 1 / _FARTHEST))
