"""Peaks measured in their boxes: position, widths, intensity and their errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.measure.angular import AngularFits, fit_angular
from gixi_bluesky.processing.measure.gaussian_fit import FWHM_PER_SIGMA
from gixi_bluesky.processing.measure.placement import PixelFits, Placed, place, row_height_deg
from gixi_bluesky.processing.measure.profiles import (
    BoxShapes,
    WeightedImage,
    box_shapes,
    noise_scale,
    radial_profiles,
)
from gixi_bluesky.processing.measure.radial import RadialFits, fit_radial
from gixi_bluesky.processing.types import CartesianImage, Detections, Peaks, PolarImage

__all__ = ["BLENDED", "CUT", "FIT_FAILED", "measure"]

FIT_FAILED, CUT, BLENDED = 1, 2, 4  # bits of fit_flags
_WHOLE = 0.75  # share of a box that holds data; with less its peak is cut
SPOT_DEG, SPOT_RATIO = 6.0, 3.0  # narrower in phi, or in units of the width along q, is a spot


def measure(searched: PolarImage | CartesianImage, detections: Detections) -> Peaks:
    """Measure every box in the unaltered image; rows are ordered by falling score.

    Along the columns (q, or q_xy of a cartesian image) a Gaussian on a straight line is fitted to
    the mean over the box's rows, the box being a weak prior. The intensity is the sum of
    (I - background) over ±2.5 sigma, completed by the fit for tails and gaps, and over the visible
    rows of the box. Errors come from the variance map times the scatter seen between neighbouring
    blocks of bins, which knows of overlapping footprints. A box without data keeps its centre,
    with intensity 0, snr 0 and NaN as intensity_error and background.
    """
    if not len(detections):
        return Peaks.empty()
    order = np.argsort(-detections.scores, kind="stable")
    boxes = detections.boxes[order]
    n_columns = searched.intensity.shape[1]
    image = WeightedImage.of(searched)
    shapes = box_shapes(image, boxes, row_height_deg(searched))
    profiles = radial_profiles(image, shapes)
    centre = np.clip(np.rint(shapes.column).astype(int), 0, n_columns - 1)
    noise = noise_scale(searched)[centre]
    radial = fit_radial(profiles, shapes, noise, n_columns)
    angular = fit_angular(image, shapes, profiles, radial, noise)
    placed = place(
        searched,
        PixelFits(
            column=radial.centre,
            column_error=radial.centre_error,
            column_fwhm=radial.sigma * FWHM_PER_SIGMA,
            row=angular.centre,
            row_fwhm=angular.fwhm,
        ),
    )
    whole = _share_of_data(boxes, np.isfinite(searched.intensity)) >= _WHOLE
    return _table(placed, boxes, detections.scores[order], shapes, radial, angular, whole)


def _table(
    placed: Placed,
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    shapes: BoxShapes,
    radial: RadialFits,
    angular: AngularFits,
    whole: NDArray[np.bool_],
) -> Peaks:
    seen = np.minimum(shapes.last, shapes.visible[:, 1]) - np.maximum(
        shapes.first, shapes.visible[:, 0]
    )
    area = np.maximum(seen + 1, 0) * placed.cell
    narrow = (placed.fwhm_phi < SPOT_DEG) | (
        placed.q * np.radians(placed.fwhm_phi) < SPOT_RATIO * placed.fwhm_q
    )
    kind = np.where(shapes.ring, "ring", np.where(narrow, "spot", "segment"))
    snr = np.divide(
        radial.area,
        radial.area_error,
        out=np.zeros_like(radial.area),
        where=radial.measured & (radial.area_error > 0),
    )
    table: Peaks = Peaks.from_columns(
        peak=np.arange(len(boxes), dtype=np.int64),
        q=placed.q,
        q_error=placed.q_error,
        phi=placed.phi,
        q_xy=placed.q_xy,
        q_z=placed.q_z,
        fwhm_q=placed.fwhm_q,
        fwhm_phi=placed.fwhm_phi,
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
            FIT_FAILED * radial.failed
            + CUT * (radial.cut | angular.cut | ~whole)
            + BLENDED * radial.blended
        ).astype(np.int64),
    )
    return table


def _share_of_data(boxes: NDArray[np.float32], data: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the share of each box's bins (m,) that hold data; 0 off the image."""
    low = np.maximum(np.floor(boxes[:, :2]).astype(int), 0)
    high = np.ceil(boxes[:, 2:]).astype(int) + 1
    windows = (data[y0:y1, x0:x1] for (x0, y0), (x1, y1) in zip(low, high, strict=True))
    return np.array([window.mean() if window.size else 0.0 for window in windows])
