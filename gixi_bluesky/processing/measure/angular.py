"""Peaks along phi: centre and width of every box from its angular profile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.measure.box_shapes import BoxShapes
from gixi_bluesky.processing.measure.gaussian_fit import (
    CENTRE,
    CURVATURE,
    HEIGHT,
    LEVEL,
    LOG_SIGMA,
    PARAMETERS,
    SLOPE,
    GaussianFits,
    Profiles,
    fit_gaussians,
)
from gixi_bluesky.processing.measure.profiles import BoxCells, RadialProfiles
from gixi_bluesky.processing.measure.radial import (
    CENTRE_PRIOR,
    FREE,
    HELD,
    WIDTH_PRIOR,
    RadialFits,
)
from gixi_bluesky.processing.tables import FWHM_PER_SIGMA

__all__ = ["AngularFits", "fit_angular"]

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

_CORE_HEIGHT = 0.05  # of the radial Gaussians; what is used along q


@dataclass(frozen=True, slots=True)
class AngularFits:
    """Results of the profiles along phi: (n,) each, in rows; a ring's width has no error.

    height, height_variance: (n, k) of the peak in cells along phi, 0 variance = no data
    """

    centre: Float64
    centre_error: Float64
    fwhm: Float64
    fwhm_error: Float64
    cut: Bool
    height: Float64
    height_variance: Float64


def fit_angular(
    cells: BoxCells,
    profiles: RadialProfiles,
    shapes: BoxShapes,
    radial: RadialFits,
    noise: Float64,
) -> AngularFits:
    """Fit segments and spots by a Gaussian in phi; a ring has its centroid and its extent.

    noise: (n,) factor on the errors of the variance map
    """
    height, variance = _angular_profiles(cells, profiles, radial)
    used = variance > 0
    rows = cells.rows
    extent = (shapes.last - shapes.first + 1).astype(float)
    middle = (shapes.first + shapes.last) / 2
    total = np.where(used, np.maximum(height, 0), 0)
    weight = total.sum(axis=1)
    known = weight > 0
    safe = np.where(known, weight, 1.0)
    moment = np.where(known, (total * rows).sum(axis=1) / safe, middle)
    off = np.where(used, rows - moment[:, None], 0)
    moment_error = np.sqrt((off**2 * variance).sum(axis=1)) * noise / safe
    fit = _fit_arcs(
        rows,
        height,
        variance * noise[:, None] ** 2,
        (middle, extent),
        radial.level_error,
        np.flatnonzero(~shapes.ring),
    )
    inside = known & (abs(fit.centre) <= 0.5) & (fit.height > 0)
    gaussian = ~shapes.ring & inside
    centre = np.where(gaussian, middle + fit.centre * extent, moment)
    cell = cells.height.max(axis=1)
    sigma = np.sqrt(np.maximum((fit.sigma * extent) ** 2 - cell**2 / 12, 0.04))
    sigma = np.where(inside, sigma, extent / 4)
    fwhm = np.where(
        shapes.ring, _half_maximum_extent(cells, total), np.minimum(sigma, extent) * FWHM_PER_SIGMA
    )
    fwhm_error = fit.log_sigma_error * fwhm
    low, high = centre - 0.75 * fwhm, centre + 0.75 * fwhm
    cut = (low < shapes.visible[:, 0] - 0.5) | (high > shapes.visible[:, 1] + 0.5)
    return AngularFits(
        centre=centre,
        centre_error=np.where(
            gaussian,
            fit.centre_error * extent,
            np.where(known, np.minimum(moment_error, extent), extent / 2),
        ),
        fwhm=np.minimum(fwhm, 2 * extent.max(initial=1)),
        fwhm_error=np.where(gaussian, fwhm_error, np.nan),
        cut=cut & ~shapes.ring,
        height=height,
        height_variance=variance * noise[:, None] ** 2,
    )


def _angular_profiles(
    cells: BoxCells, profiles: RadialProfiles, radial: RadialFits
) -> tuple[Float64, Float64]:
    """Return height of the peak in the cells (n, k) along phi and its variance, 0 = no data.

    In every cell row the heights of the peak and of its neighbours are those of least squares,
    with the shapes along q that were fitted to all rows.
    """
    bells = np.concatenate([radial.bell[:, None], radial.bells], axis=1)
    near = profiles.own & (bells > _CORE_HEIGHT).any(axis=1)
    bells = np.where(near[:, None], bells, 0)
    under = np.where(near, radial.under + profiles.slope[:, None] * cells.x, 0)
    excess = cells.weighted - cells.weight * (under[:, None] + profiles.offset[:, :, None])
    sums = excess @ bells.transpose(0, 2, 1)
    products = bells[:, :, None] * bells[:, None]
    normal = np.einsum("nkm,nabm->nkab", cells.weight, products, optimize=True)
    diagonal = np.arange(bells.shape[1])
    own = normal[..., 0, 0].copy()
    # Rows in which a shape is hardly seen keep its height near zero; two shapes of one place share
    # what is there.
    normal[..., diagonal, diagonal] *= 1 + 1e-6
    normal[..., diagonal, diagonal] += np.where(own > 0, 1e-6 * own, 1.0)[..., None]
    first = np.linalg.inv(normal)[..., 0, :]
    height = np.einsum("nka,nka->nk", first, sums)
    factor = first @ bells
    noise = np.einsum("nkm,nkm->nk", factor**2, cells.weighted_variance)
    filled = own > 1e-3 * own.max(axis=1, keepdims=True)
    # A cell without a count is uncertain by as much as the others are on average.
    typical = np.where(filled, noise, 0).sum(axis=1) / np.maximum(filled.sum(axis=1), 1)
    variance = np.where(filled, noise + 0.03 * typical[:, None], 0)
    return np.where(filled, height, 0), variance


@dataclass(frozen=True, slots=True)
class _Arcs:
    """Fits of arcs, (n,) each, in units of the boxes' extents; 0 for boxes without one."""

    centre: Float64
    centre_error: Float64
    sigma: Float64
    log_sigma_error: Float64
    height: Float64


def _fit_arcs(
    rows: Float64,
    height: Float64,
    variance: Float64,
    box: tuple[Float64, Float64],
    level_error: Float64,
    chosen: NDArray[np.int64],
) -> _Arcs:
    """Fit Gaussians to some of the profiles (n, k); box: (n,) middles and extents."""
    arcs = _Arcs(*(np.zeros(len(rows)) for _ in range(5)))
    if not len(chosen):
        return arcs
    middle, extent = box[0][chosen], box[1][chosen]
    fit = _fit(rows[chosen], height[chosen], variance[chosen], middle, extent, level_error[chosen])
    inflated = np.sqrt(np.maximum(fit.chi2 / (1 + 3 * np.sqrt(2 / fit.freedom)), 1.0))
    arcs.centre[chosen], arcs.sigma[chosen], arcs.height[chosen] = fit.centre, fit.sigma, fit.height
    arcs.centre_error[chosen] = fit.error(CENTRE) * inflated
    arcs.log_sigma_error[chosen] = fit.error(LOG_SIGMA) * inflated
    return arcs


def _fit(
    rows: Float64,
    height: Float64,
    variance: Float64,
    middle: Float64,
    extent: Float64,
    level_error: Float64,
) -> GaussianFits:
    """Fit Gaussians in units of the boxes' extents and the profiles' heights."""
    used = variance > 0
    unit = np.where(used, abs(height), 0).max(axis=1)
    unit = np.where(unit > 0, unit, 1.0)
    x = np.where(used, (rows - middle[:, None]) / extent[:, None], 0)
    y = height / unit[:, None]
    scaled = np.where(used, variance / unit[:, None] ** 2 + 1e-8, 0)
    weight = np.divide(1, scaled, out=np.zeros_like(scaled), where=used)
    start = np.zeros((len(rows), PARAMETERS))
    start[:, HEIGHT], start[:, LOG_SIGMA] = np.maximum(y.max(axis=1), 0.1), -np.log(4)
    prior = np.full_like(start, FREE)
    prior[:, CENTRE], prior[:, LOG_SIGMA] = CENTRE_PRIOR / 2, WIDTH_PRIOR
    prior[:, LEVEL] = np.maximum(level_error / unit, HELD)
    prior[:, [SLOPE, CURVATURE]] = HELD
    return fit_gaussians(Profiles(x, y, used.astype(float), weight, scaled), start, prior)


def _half_maximum_extent(cells: BoxCells, height: Float64) -> Float64:
    count = np.maximum((height > 0).sum(axis=1, keepdims=True), 1)
    above = height > 0.5 * height.sum(axis=1, keepdims=True) / count
    half = cells.height / 2
    first = np.where(above, cells.rows - half, np.inf).min(axis=1)
    last = np.where(above, cells.rows + half, -np.inf).max(axis=1)
    found = above.any(axis=1)
    return np.where(found, np.where(found, last, 0) - np.where(found, first, 0), 1.0)
