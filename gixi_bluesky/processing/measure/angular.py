"""Peaks along phi: centre and width of every box from its angular profile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.measure.gaussian_fit import (
    CENTRE,
    FWHM_PER_SIGMA,
    HEIGHT,
    LOG_SIGMA,
    PARAMETERS,
    fit_gaussians,
)
from gixi_bluesky.processing.measure.profiles import (
    BoxShapes,
    RadialProfiles,
    WeightedImage,
    angular_profiles,
)
from gixi_bluesky.processing.measure.radial import CENTRE_PRIOR, WIDTH_PRIOR, RadialFits

__all__ = ["AngularFits", "fit_angular"]

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class AngularFits:
    """What the profiles along phi say: (n,) each, in rows."""

    centre: Float64
    fwhm: Float64
    cut: Bool


def fit_angular(
    image: WeightedImage,
    shapes: BoxShapes,
    profiles: RadialProfiles,
    radial: RadialFits,
    noise: Float64,
) -> AngularFits:
    """Fit segments and spots by a Gaussian in phi; a ring has its centroid and its extent."""
    rows, height, variance = angular_profiles(image, shapes, profiles, radial.bell, radial.line)
    used = variance > 0
    n_rows = (shapes.last - shapes.first + 1).astype(float)
    middle = (shapes.first + shapes.last) / 2
    total = np.where(used, np.maximum(height, 0), 0)
    moment = (total * rows).sum(axis=1) / np.maximum(total.sum(axis=1), 1e-30)
    moment = np.where(total.any(axis=1), moment, middle)
    sigma = n_rows / 4
    start = np.zeros((len(rows), PARAMETERS))
    start[:, HEIGHT], start[:, LOG_SIGMA] = total.max(axis=1), np.log(sigma)
    prior = np.full_like(start, 1e-9)
    prior[:, HEIGHT] = np.inf
    prior[:, CENTRE], prior[:, LOG_SIGMA] = CENTRE_PRIOR * n_rows / 2, WIDTH_PRIOR
    weight = np.divide(1, variance * noise[:, None] ** 2, out=np.zeros_like(rows), where=used)
    x = np.where(used, rows - middle[:, None], 0)
    fit = fit_gaussians(x, height, weight, np.ones_like(x), start, prior)
    inside = (abs(fit.centre) <= n_rows / 2) & (fit.height > 0)
    centre = np.where(~shapes.ring & inside, middle + fit.centre, moment)
    fwhm = np.where(inside, fit.sigma * FWHM_PER_SIGMA, sigma * FWHM_PER_SIGMA)
    fwhm = np.where(shapes.ring, _half_maximum_extent(rows, total), fwhm)
    low, high = centre - 0.75 * fwhm, centre + 0.75 * fwhm
    cut = (low < shapes.visible[:, 0] - 0.5) | (high > shapes.visible[:, 1] + 0.5)
    return AngularFits(centre, np.minimum(fwhm, len(image.weight)), cut & ~shapes.ring)


def _half_maximum_extent(rows: Float64, height: Float64) -> Float64:
    above = height > 0.5 * height.sum(axis=1, keepdims=True) / np.maximum(
        (height > 0).sum(axis=1, keepdims=True), 1
    )
    first = np.where(above, rows, np.inf).min(axis=1)
    last = np.where(above, rows, -np.inf).max(axis=1)
    step = rows[:, 1] - rows[:, 0]
    return np.where(above.any(axis=1), last - first + step, 1.0)
