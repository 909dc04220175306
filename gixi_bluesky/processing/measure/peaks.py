"""Peaks measured in their boxes: position, widths, intensity and their errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.measure.angular import AngularFits, fit_angular
from gixi_bluesky.processing.measure.box_shapes import BoxShapes
from gixi_bluesky.processing.measure.box_sums import BoxSums, noise_scale
from gixi_bluesky.processing.measure.graininess import graininess
from gixi_bluesky.processing.measure.placement import PixelFits, Placed, place, row_height_deg
from gixi_bluesky.processing.measure.profiles import box_cells, radial_profiles
from gixi_bluesky.processing.measure.radial import RadialFits, fit_radial, neighbours
from gixi_bluesky.processing.measure.refined_boxes import refined_boxes
from gixi_bluesky.processing.tables import BLENDED, CUT, FIT_FAILED, FWHM_PER_SIGMA, MISFIT, Peaks
from gixi_bluesky.processing.types import CartesianImage, Detections, PolarImage

__all__ = ["measure", "surely_seen"]

Float64 = NDArray[np.float64]

_LEAST_SNR = 2.0  # of a peak that is reported
_WHOLE = 0.75  # share of a box that holds data; with less its peak is cut
_SAME_COLUMN = 0.5  # of the larger width: nearer boxes are not separated along q
_SPOT_DEG, _SPOT_RATIO = 6.0, 3.0  # narrower in phi, or in units of the width along q, is a spot


@dataclass(frozen=True, slots=True)
class _Measured:
    """The fits of boxes (n,), and which of the boxes hold enough data.

    rows: (n, k) middles of the cells along phi
    """

    shapes: BoxShapes
    radial: RadialFits
    angular: AngularFits
    placed: Placed
    whole: NDArray[np.bool_]
    rows: Float64


def measure(searched: PolarImage | CartesianImage, detections: Detections) -> Peaks:
    """Measure every box in the unaltered image; rows are ordered by falling score.

    Along the columns (q, or q_xy of a cartesian image) a Gaussian on a curved background is fitted
    to the mean over the box's rows, together with the peaks of its nearest neighbours; the box is a
    weak prior, and the table has the box that the fit gives. The intensity is the sum of (I - all
    that lies under the peak) over ±2.5 sigma, completed by the fit for tails and gaps, and over the
    visible rows of the detector's box. Widths are those before the average over the image's bins.
    Errors come from the variance map times the scatter seen between neighbouring blocks of bins,
    which includes overlapping footprints. A box without
    data keeps its centre, with intensity 0, snr 0 and NaN as intensity_error and background.
    """
    if not len(detections):
        return Peaks.empty()
    order = np.argsort(-detections.scores, kind="stable")
    boxes = detections.boxes[order]
    return _table(_measured(searched, boxes), boxes, detections.scores[order])


def surely_seen(peaks: Peaks) -> Peaks:
    """Return the peaks above the noise, numbered anew; a negative intensity is no peak."""
    kept = np.flatnonzero(peaks.snr >= _LEAST_SNR)
    columns = {name: values[kept] for name, values in peaks.items()}
    columns["peak"] = np.arange(len(kept), dtype=np.int64)
    table: Peaks = Peaks.from_columns(**columns)
    return table


def _measured(searched: PolarImage | CartesianImage, boxes: NDArray[np.float32]) -> _Measured:
    sums = BoxSums.of(searched)
    shapes = BoxShapes.of(sums, boxes, row_height_deg(searched))
    together = neighbours(shapes)
    cells = box_cells(sums, shapes)
    profiles = radial_profiles(cells, shapes, together, _apart(shapes, together))
    n_columns = sums.shape[1]
    noise = noise_scale(searched)[np.clip(np.rint(shapes.column).astype(int), 0, n_columns - 1)]
    radial = fit_radial(cells, profiles, shapes, together, noise, n_columns)
    angular = fit_angular(cells, profiles, shapes, radial, noise)
    placed = place(
        searched,
        PixelFits(
            column=radial.centre,
            column_error=radial.centre_error,
            column_fwhm=radial.sigma * FWHM_PER_SIGMA,
            column_fwhm_error=radial.sigma * FWHM_PER_SIGMA * radial.log_sigma_error,
            row=angular.centre,
            row_error=angular.centre_error,
            row_fwhm=angular.fwhm,
            row_fwhm_error=angular.fwhm_error,
        ),
    )
    whole = sums.share_of_data(boxes) >= _WHOLE
    return _Measured(shapes, radial, angular, placed, whole, cells.rows)


def _apart(shapes: BoxShapes, together: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return (n, n) pairs of boxes that share rows, lie apart and are not fitted together.

    Boxes of one |q|, as a ring and a spot on it, share their columns: to give these to one of
    them would leave nothing to measure of the other.
    """
    width = np.maximum(shapes.fwhm[:, None], shapes.fwhm)
    apart = shapes.rows_shared() > 0
    apart &= abs(shapes.column[:, None] - shapes.column) > _SAME_COLUMN * width
    rows, numbers = np.nonzero(together >= 0)
    apart[rows, together[rows, numbers]] = False
    return apart


def _table(measured: _Measured, boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> Peaks:
    shapes, radial, placed = measured.shapes, measured.radial, measured.placed
    area = shapes.visible_rows() * placed.cell
    refined = refined_boxes(boxes, shapes, radial, measured.angular)
    narrow = (placed.fwhm_phi < _SPOT_DEG) | (
        placed.q * np.radians(placed.fwhm_phi) < _SPOT_RATIO * placed.fwhm_q
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
        x0=refined[:, 0],
        y0=refined[:, 1],
        x1=refined[:, 2],
        y1=refined[:, 3],
        score=scores.astype(np.float64),
        snr=snr,
        intensity=radial.area * area,
        intensity_error=radial.area_error * area,
        background=radial.background,
        kind=kind.astype(object),
        fit_flags=_flags(measured),
        phi_error=placed.phi_error,
        fwhm_q_error=placed.fwhm_q_error,
        fwhm_phi_error=placed.fwhm_phi_error,
        graininess=_graininess(measured, kind),
    )
    return table


def _graininess(measured: _Measured, kind: NDArray[np.str_]) -> Float64:
    """Return the graininess of rings and segments; a spot has none."""
    angular = measured.angular
    long = (kind != "spot") & measured.radial.measured
    values = np.full(len(kind), np.nan)
    values[long] = graininess(
        measured.rows[long], angular.height[long], angular.height_variance[long]
    )
    return values


def _flags(measured: _Measured) -> NDArray[np.int64]:
    radial = measured.radial
    flags = FIT_FAILED * radial.failed + BLENDED * radial.blended + MISFIT * radial.misfit
    flags += CUT * (radial.cut | measured.angular.cut | ~measured.whole)
    return flags.astype(np.int64)
