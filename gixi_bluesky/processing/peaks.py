"""Peaks measured in their boxes: position, widths, intensity and their errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.angular import AngularFits, fit_angular
from gixi_bluesky.processing.peak_fit import FWHM_PER_SIGMA
from gixi_bluesky.processing.profiles import (
    BoxShapes,
    WeightedImage,
    box_shapes,
    noise_scale,
    radial_profiles,
)
from gixi_bluesky.processing.radial import RadialFits, fit_radial
from gixi_bluesky.processing.types import Detections, Peaks, PolarImage

__all__ = ["BLENDED", "CUT", "FIT_FAILED", "measure"]

FIT_FAILED, CUT, BLENDED = 1, 2, 4  # bits of fit_flags
SPOT_DEG, SPOT_RATIO = 6.0, 3.0  # narrower in phi, or in units of the width along q, is a spot


def measure(polar: PolarImage, detections: Detections) -> Peaks:
    """Measure every box in the unaltered image; rows are ordered by falling score.

    Along q a Gaussian on a straight line is fitted to the mean over the box's rows, the box being
    a weak prior. The intensity is the sum of (I - background) over ±2.5 sigma in q, completed by
    the fit for tails and gaps, and over the visible rows of the box. Errors come from the
    variance map times the scatter seen between neighbouring blocks of bins, which knows of
    overlapping footprints. A box without data keeps its centre, with intensity 0, snr 0 and NaN
    as intensity_error and background.
    """
    if not len(detections):
        return Peaks.empty()
    order = np.argsort(-detections.scores, kind="stable")
    boxes = detections.boxes[order]
    image = WeightedImage.from_polar(polar)
    shapes = box_shapes(image, boxes, _step(polar.phi))
    profiles = radial_profiles(image, shapes)
    centre = np.clip(np.rint(shapes.column).astype(int), 0, len(polar.q) - 1)
    noise = noise_scale(polar)[centre]
    radial = fit_radial(profiles, shapes, noise, len(polar.q))
    angular = fit_angular(image, shapes, profiles, radial, noise)
    return _table(polar, boxes, detections.scores[order], shapes, radial, angular)


def _table(
    polar: PolarImage,
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    shapes: BoxShapes,
    radial: RadialFits,
    angular: AngularFits,
) -> Peaks:
    dq, dphi = _step(polar.q), _step(polar.phi)
    q = polar.q[0] + radial.centre * dq
    phi = polar.phi[0] + angular.centre * dphi
    seen = np.minimum(shapes.last, shapes.visible[:, 1]) - np.maximum(
        shapes.first, shapes.visible[:, 0]
    )
    area = np.maximum(seen + 1, 0) * dphi * dq
    fwhm_q, fwhm_phi = radial.sigma * FWHM_PER_SIGMA * dq, angular.fwhm * dphi
    narrow = (fwhm_phi < SPOT_DEG) | (q * np.radians(fwhm_phi) < SPOT_RATIO * fwhm_q)
    kind = np.where(shapes.ring, "ring", np.where(narrow, "spot", "segment"))
    snr = np.divide(
        radial.area,
        radial.area_error,
        out=np.zeros_like(radial.area),
        where=radial.measured & (radial.area_error > 0),
    )
    return Peaks(
        peak=np.arange(len(boxes), dtype=np.int64),
        q=q,
        q_error=radial.centre_error * dq,
        phi=phi,
        q_xy=q * np.cos(np.radians(phi)),
        q_z=q * np.sin(np.radians(phi)),
        fwhm_q=fwhm_q,
        fwhm_phi=fwhm_phi,
        x0=boxes[:, 0].astype(np.float64),
        y0=boxes[:, 1].astype(np.float64),
        x1=boxes[:, 2].astype(np.float64),
        y1=boxes[:, 3].astype(np.float64),
        score=scores.astype(np.float64),
        snr=snr,
        intensity=radial.area * area,
        intensity_error=radial.area_error * area,
        background=radial.background,
        kind=kind.astype(object),
        fit_flags=(
            FIT_FAILED * radial.failed + CUT * (radial.cut | angular.cut) + BLENDED * radial.blended
        ).astype(np.int64),
    )


def _step(axis: NDArray[np.float64]) -> float:
    return float((axis[-1] - axis[0]) / max(len(axis) - 1, 1))
