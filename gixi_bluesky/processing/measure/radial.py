"""Peaks along q: centre, width and area of every box from its radial profile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from gixi_bluesky.processing.measure.box_shapes import BoxShapes
from gixi_bluesky.processing.measure.gaussian_fit import (
    CENTRE,
    CURVATURE,
    HEIGHT,
    LEVEL,
    LOG_SIGMA,
    PARAMETERS,
    PER_PEAK,
    GaussianFits,
    Profiles,
    fit_gaussians,
    gaussian,
)
from gixi_bluesky.processing.measure.profiles import BoxCells, RadialProfiles
from gixi_bluesky.processing.tables import FWHM_PER_SIGMA

__all__ = ["CENTRE_PRIOR", "FREE", "HELD", "WIDTH_PRIOR", "RadialFits", "fit_radial", "neighbours"]

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

CENTRE_PRIOR = 0.2  # the box as a measurement, a little worse than a network's: errors in FWHM
WIDTH_PRIOR = 0.3  # and in log(width)
FREE, HELD = 1e3, 1e-5  # prior standard errors in profiles scaled to a height of about one
_SUM_SIGMAS = 2.5  # half width of the summed region; what lies outside is added from the fit
_CORE_SHARE = 0.761  # of a Gaussian lies within its half maximum
_CURVATURE_SCALE = 0.15  # of the q range; a background curves by its own height over no less
_FITTED_TOGETHER = 2  # neighbours of a peak, the nearest first
_SURE_MISFIT = 3.0  # standard deviations of chi2 from one


@dataclass(frozen=True, slots=True)
class RadialFits:
    """Results of the profiles along q: (n,) each, in columns and mean counts.

    sigma: of the peak before it was averaged over cells; log_sigma_error: of its logarithm
    bell: (n, m) the fitted Gaussian of height 1; under: (n, m) the background under it
    bells: (n, j, m) those of the neighbours that were fitted with it
    level_error: standard error of the background in the profile
    measured: there were data at all; misfit: the data deviate from the fitted shape
    """

    centre: Float64
    centre_error: Float64
    sigma: Float64
    log_sigma_error: Float64
    area: Float64
    area_error: Float64
    background: Float64
    level_error: Float64
    bell: Float64
    bells: Float64
    under: Float64
    failed: Bool
    cut: Bool
    blended: Bool
    measured: Bool
    misfit: Bool


@dataclass(frozen=True, slots=True)
class _Scaled:
    """Profiles in units of the boxes' widths and the profiles' heights, with what is known first.

    start, prior: (n, p) parameters; unit: (n,) counts
    """

    profiles: Profiles
    start: Float64
    prior: Float64
    unit: Float64


def neighbours(shapes: BoxShapes) -> Int64:
    """Return (n, at most 2) boxes to fit together with each, nearest first, -1 = none."""
    apart = abs(shapes.column[:, None] - shapes.column)
    width = np.maximum(shapes.fwhm[:, None], shapes.fwhm)
    together = (apart < 2.5 * width) & (apart > 0.5 * width)
    together &= shapes.rows_shared() > 0.1
    most = min(_FITTED_TOGETHER, int(together.sum(axis=1).max(initial=0)))
    distance = np.where(together, apart / width, np.inf)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :most]
    return np.where(np.take_along_axis(together, nearest, axis=1), nearest, -1)


def fit_radial(
    cells: BoxCells,
    profiles: RadialProfiles,
    shapes: BoxShapes,
    together: Int64,
    noise: Float64,
    n_columns: int,
    *,
    held: bool = False,
) -> RadialFits:
    """Fit every profile together with its neighbours' peaks, and sum what is above all else.

    together: (n, j) as `neighbours`; noise: (n,) factor on the errors of the variance map
    n_columns: of the whole image; held: keep the boxes' centres and widths
    """
    core = abs(cells.x) <= np.maximum(0.6 * shapes.fwhm[:, None], 1.0)
    measured = (profiles.own & core).any(axis=1) & (profiles.own.sum(axis=1) >= 3)
    scaled = _scaled(cells, profiles, shapes, together, noise, n_columns)
    fit, failed = _robust_fit(scaled, held=held)
    x, unit, fwhm = scaled.profiles.x, scaled.unit, shapes.fwhm
    bell = gaussian(x, fit.centre, fit.sigma)
    under = fit.under(scaled.profiles)
    area, area_error = _area(scaled.profiles, fit, bell, under)
    failed |= ~fit.converged
    spread = _SURE_MISFIT * np.sqrt(2 / fit.freedom)
    # A shape that does not fit is less certain; chance alone moves chi2 by its spread.
    inflated = np.sqrt(np.maximum(fit.chi2 / (1 + spread), 1.0))
    top = bell > 0.5
    seen = np.where(top & profiles.own, bell, 0).sum(axis=1)
    whole = np.minimum(_CORE_SHARE * np.sqrt(2 * np.pi) * fit.sigma / _step(x), top.sum(axis=1))
    rival = top & (profiles.response > 0) & ~profiles.own
    sigma = np.sqrt(np.maximum((fit.sigma * fwhm) ** 2 - cells.width**2 / 12, 0.04))
    columns = area * fwhm * unit
    return RadialFits(
        centre=np.where(measured, shapes.column + fit.centre * fwhm, shapes.column),
        centre_error=np.where(measured, fit.error(CENTRE) * inflated, 0.5) * fwhm,
        sigma=np.where(measured, sigma, fwhm / FWHM_PER_SIGMA),
        # d log(sigma) grows where the cell's own width was taken off
        log_sigma_error=fit.error(LOG_SIGMA) * inflated * (fit.sigma * fwhm / sigma) ** 2,
        area=np.where(measured, columns, 0.0),
        area_error=np.where(measured, area_error * fwhm * unit, np.nan),
        background=np.where(measured, fit.parameters[:, LEVEL] * unit + profiles.level, np.nan),
        level_error=fit.error(LEVEL) * unit,
        bell=bell,
        bells=fit.further_bells(x),
        under=fit.background(x) * unit[:, None],
        failed=failed | ~measured,
        cut=~measured | (seen < 0.8 * whole),
        blended=np.logical_or((together >= 0).any(axis=1), rival.any(axis=1)),
        measured=measured,
        misfit=measured & (fit.chi2 > 2 * (1 + spread)),
    )


def _scaled(
    cells: BoxCells,
    profiles: RadialProfiles,
    shapes: BoxShapes,
    together: Int64,
    noise: Float64,
    n_columns: int,
) -> _Scaled:
    own, fwhm = profiles.own, shapes.fwhm
    unit = np.where(own, abs(profiles.y), 0).max(axis=1)
    unit = np.where(unit > 0, unit, 1.0)
    factor = (noise / unit) ** 2
    variance = np.where(own, profiles.variance, 0) * factor[:, None]
    smooth = _smooth(variance, own) + 0.03 * _mean(variance, own)[:, None]
    weight = np.where(own, 1 / (smooth + 1e-8), 0.0)
    x = cells.x / fwhm[:, None]
    y = profiles.y / unit[:, None]
    scaled = Profiles(x, y, profiles.response, weight, variance + 1e-8 * own)
    start = np.zeros((len(x), PARAMETERS + PER_PEAK * together.shape[1]))
    near = own & (abs(x) <= np.maximum(0.5, 1 / fwhm)[:, None])
    start[:, LEVEL] = _mean(y, own & ~near)
    start[:, HEIGHT] = _mean(y, near) - start[:, LEVEL]
    start[:, LOG_SIGMA] = -np.log(FWHM_PER_SIGMA)
    prior = np.full_like(start, FREE)
    prior[:, CENTRE], prior[:, LOG_SIGMA] = CENTRE_PRIOR, WIDTH_PRIOR
    magnitude = abs(profiles.level) / unit + 1
    prior[:, CURVATURE] = magnitude * (fwhm / (_CURVATURE_SCALE * n_columns)) ** 2
    for number, other in enumerate(together.T):
        first = PARAMETERS + PER_PEAK * number
        ratio = np.where(other >= 0, fwhm[other] / fwhm, 1.0)
        place = np.where(other >= 0, (shapes.column[other] - shapes.column) / fwhm, 0.0)
        close = own & (abs(x - place[:, None]) <= 0.5 * ratio[:, None])
        height = np.where(other >= 0, _mean(y, close) - start[:, LEVEL], 0)
        start[:, first : first + PER_PEAK] = np.stack(
            [height, place, np.log(ratio / FWHM_PER_SIGMA)], axis=1
        )
        width = np.stack([np.full_like(ratio, FREE), CENTRE_PRIOR * ratio], axis=1)
        prior[:, first : first + 2] = np.where(other[:, None] >= 0, width, HELD)
        prior[:, first + 2] = np.where(other >= 0, WIDTH_PRIOR, HELD)
    return _Scaled(scaled, start, prior, unit)


def _robust_fit(scaled: _Scaled, *, held: bool) -> tuple[GaussianFits, Bool]:
    """Fit freely; where that leads astray, keep the box's shape and fit the heights alone."""
    start, prior = scaled.start, scaled.prior
    if held:
        return fit_gaussians(scaled.profiles, start, _shapes_held(prior)), np.zeros(
            len(start), bool
        )
    fit = fit_gaussians(scaled.profiles, start, prior)
    stray = abs(fit.parameters - start)
    astray = (fit.height <= 0) | ~np.isfinite(fit.parameters).all(axis=1)
    astray |= (stray[:, CENTRE] > 1.0) | (stray[:, LOG_SIGMA] > np.log(3))
    rows = np.flatnonzero(astray)
    if len(rows):
        part = fit_gaussians(scaled.profiles.rows(rows), start[rows], _shapes_held(prior[rows]))
        fit.put(rows, part)
        # The box is all that is known of position and width then.
        fit.covariance[rows, CENTRE, CENTRE] = FWHM_PER_SIGMA**-2
        fit.covariance[rows, LOG_SIGMA, LOG_SIGMA] = WIDTH_PRIOR**2
    return fit, astray


def _shapes_held(prior: Float64) -> Float64:
    prior = prior.copy()
    for first in (HEIGHT, *range(PARAMETERS, prior.shape[1], PER_PEAK)):
        prior[:, first + 1 : first + 3] = HELD
    return prior


def _area(
    profiles: Profiles, fit: GaussianFits, bell: Float64, under: Float64
) -> tuple[Float64, Float64]:
    """Return the summed peak, in units of height · width, and its standard error.

    The sum is linear in the data, all that was fitted under the peak included, so its error is
    exact for a given region: u·y with u = region - W J H h, h = the region's sum over the
    derivatives of what lies under the peak, H the inverse of the normal matrix.
    """
    used = profiles.weight > 0
    region = used & (abs(profiles.x - fit.centre[:, None]) <= _SUM_SIGMAS * fit.sigma[:, None])
    lone = ~region.any(axis=1)
    region[lone] = used[lone]
    seen = np.where(region, profiles.response * bell, 0).sum(axis=1)
    whole = fit.sigma * np.sqrt(2 * np.pi) / np.maximum(seen, 1e-3)
    rest = np.where(region, profiles.y - under, 0).sum(axis=1)
    h = np.where(region[:, None, :], fit.jacobian, 0).sum(axis=2)
    h[:, [HEIGHT, CENTRE, LOG_SIGMA]] = 0
    pull = np.einsum("nij,nj->ni", fit.hessian_inverse, h)
    u = region - profiles.weight * np.einsum("npm,np->nm", fit.jacobian, pull)
    variance = (u**2 * profiles.variance).sum(axis=1)
    return rest * whole, np.sqrt(variance) * whole


def _mean(y: Float64, chosen: Bool) -> Float64:
    return np.where(chosen, y, 0).sum(axis=1) / np.maximum(chosen.sum(axis=1), 1)


def _smooth(variance: Float64, data: Bool) -> Float64:
    """Return the mean over five columns, so that chance lows of the counts gain no weight."""
    total = uniform_filter1d(np.where(data, variance, 0), 5, axis=1, mode="constant")
    count = uniform_filter1d(data.astype(float), 5, axis=1, mode="constant")
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0.1)


def _step(x: Float64) -> Float64:
    return x[:, 1] - x[:, 0]
