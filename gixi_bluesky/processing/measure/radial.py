"""Peaks along q: centre, width and area of every box from its radial profile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from gixi_bluesky.processing.measure.gaussian_fit import (
    CENTRE,
    CURVATURE,
    FWHM_PER_SIGMA,
    HEIGHT,
    LEVEL,
    LOG_SIGMA,
    PARAMETERS,
    GaussianFits,
    fit_gaussians,
    gaussian,
)
from gixi_bluesky.processing.measure.profiles import BoxShapes, RadialProfiles

__all__ = ["CENTRE_PRIOR", "WIDTH_PRIOR", "RadialFits", "fit_radial"]

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

SUM_SIGMAS = 2.5  # half width of the summed region; what lies outside is added from the fit
CENTRE_PRIOR = 0.35  # the box's centre and width as measurements: standard errors in FWHM
WIDTH_PRIOR = 0.4  # and in log(width)
BLEND_PASSES = 4
CORE_SHARE = 0.761  # of a Gaussian lies within its half maximum
CURVATURE_SCALE = 0.15  # of the q range; a background curves by its own height over no less


@dataclass(frozen=True, slots=True)
class RadialFits:
    """What the profiles along q say: (n,) each, in columns and mean counts.

    bell: (n, m) the fitted Gaussian of height 1; line: (n, m) all that lies under it
    measured: (n,) bool, there were data at all
    """

    centre: Float64
    centre_error: Float64
    sigma: Float64
    area: Float64
    area_error: Float64
    background: Float64
    bell: Float64
    line: Float64
    failed: Bool
    cut: Bool
    blended: Bool
    measured: Bool


def fit_radial(
    profiles: RadialProfiles, shapes: BoxShapes, noise: Float64, n_columns: int
) -> RadialFits:
    """Fit every profile, neighbours along q taken off, and sum what lies above the background.

    noise: (n,) factor on the errors of the variance map; n_columns: of the whole image
    """
    data = profiles.own
    near = abs(profiles.x) <= np.maximum(0.6 * shapes.fwhm[:, None], 1.0)
    measured = (data & near).any(axis=1) & (data.sum(axis=1) >= 3)
    variance = _smooth(profiles.variance, data) * noise[:, None] ** 2
    peak = np.where(data, abs(profiles.y), 0).max(axis=1, keepdims=True)
    floor = (1e-4 * peak) ** 2 + np.finfo(np.float32).tiny
    weight = np.where(data, 1 / (variance + floor), 0.0)
    scale = np.maximum(abs(_level(profiles)) + peak[:, 0], 1e-9)
    curvature = scale / (CURVATURE_SCALE * n_columns) ** 2
    fit, failed = _robust_fit(profiles, profiles.y, weight, shapes.fwhm, curvature)
    neighbours = _neighbours(shapes)
    foreign = np.zeros_like(profiles.y)
    crowded = np.flatnonzero(neighbours.any(axis=1))
    for _ in range(BLEND_PASSES if len(crowded) else 0):
        foreign = _foreign(profiles, fit, shapes, neighbours)
        part, failed[crowded] = _robust_fit(
            profiles.rows(crowded),
            (profiles.y - foreign)[crowded],
            weight[crowded],
            shapes.fwhm[crowded],
            curvature[crowded],
        )
        fit.put(crowded, part)
    bell = gaussian(profiles.x, fit.centre, fit.sigma)
    area, area_error = _area(profiles, fit, bell, weight, foreign)
    scatter = np.sqrt(np.maximum(fit.chi2, 1.0))  # a shape that does not fit is less certain
    centre_error = np.sqrt(np.maximum(fit.covariance[:, CENTRE, CENTRE], 0)) * scatter
    core = bell > 0.5
    rival = core & (profiles.response > 0) & ~data
    seen = np.where(core & (profiles.response > 0), bell, 0).sum(axis=1)
    whole = CORE_SHARE * np.sqrt(2 * np.pi) * fit.sigma
    return RadialFits(
        centre=np.where(measured, shapes.column + fit.centre, shapes.column),
        centre_error=np.where(measured, centre_error, shapes.fwhm / 2),
        sigma=np.where(measured, fit.sigma, shapes.fwhm / FWHM_PER_SIGMA),
        area=np.where(measured, area, 0.0),
        area_error=np.where(measured, area_error, np.nan),
        background=np.where(measured, fit.parameters[:, LEVEL] + _level(profiles), np.nan),
        bell=bell,
        line=fit.background(profiles.x) + foreign,
        failed=failed | ~measured,
        cut=~measured | (seen < 0.8 * np.minimum(whole, core.sum(axis=1))),
        blended=np.logical_or(neighbours.any(axis=1), rival.any(axis=1)),
        measured=measured,
    )


def _robust_fit(
    profiles: RadialProfiles, y: Float64, weight: Float64, fwhm: Float64, curvature: Float64
) -> tuple[GaussianFits, Bool]:
    """Fit freely; where that leads astray, keep the box's shape and fit the heights alone."""
    used = weight > 0
    near = used & (abs(profiles.x) <= np.maximum(fwhm[:, None] / 2, 1))
    start = np.zeros((len(y), PARAMETERS))
    start[:, LEVEL] = _mean(y, used & ~near)
    start[:, HEIGHT] = _mean(y, near) - start[:, LEVEL]
    start[:, LOG_SIGMA] = np.log(fwhm / FWHM_PER_SIGMA)
    prior = np.full_like(start, np.inf)
    prior[:, CENTRE], prior[:, LOG_SIGMA] = CENTRE_PRIOR * fwhm, WIDTH_PRIOR
    prior[:, CURVATURE] = curvature
    fit = fit_gaussians(profiles.x, y, weight, profiles.response, start, prior)
    astray = (
        ~np.isfinite(fit.parameters).all(axis=1)
        | (fit.height <= 0)
        | (abs(fit.centre) > np.maximum(fwhm, 2.0))
        | (abs(fit.parameters[:, LOG_SIGMA] - start[:, LOG_SIGMA]) > np.log(3))
    )
    if astray.any():
        prior[:, [CENTRE, LOG_SIGMA]] = 1e-6
        rows = np.flatnonzero(astray)
        x, response = profiles.x[rows], profiles.response[rows]
        fit.put(rows, fit_gaussians(x, y[rows], weight[rows], response, start[rows], prior[rows]))
        # the box is all that is known of the position then
        fit.covariance[rows, CENTRE, CENTRE] = (fwhm[rows] / FWHM_PER_SIGMA) ** 2
    return fit, astray


def _mean(y: Float64, chosen: Bool) -> Float64:
    return np.where(chosen, y, 0).sum(axis=1) / np.maximum(chosen.sum(axis=1), 1)


def _area(
    profiles: RadialProfiles, fit: GaussianFits, bell: Float64, weight: Float64, foreign: Float64
) -> tuple[Float64, Float64]:
    """Return the summed peak in counts · columns and its standard error.

    The sum is linear in the data, the fitted line included, so its error is exact for a given
    region: u·y with u = region - W J C h, h = region's sum over the line's derivatives.
    """
    used = weight > 0
    region = used & (abs(profiles.x - fit.centre[:, None]) <= SUM_SIGMAS * fit.sigma[:, None])
    lone = ~region.any(axis=1)
    region[lone] = used[lone]
    seen = np.where(region, profiles.response * bell, 0).sum(axis=1)
    whole = fit.sigma * np.sqrt(2 * np.pi) / np.maximum(seen, 1e-3)
    rest = np.where(region, profiles.y - foreign - fit.background(profiles.x), 0)
    h = np.zeros_like(fit.parameters)
    for power in range(3):
        h[:, LEVEL + power] = np.where(region, profiles.x**power, 0).sum(axis=1)
    pull = np.einsum("nij,nj->ni", fit.covariance, h)
    u = region - weight * np.einsum("nim,ni->nm", fit.jacobian, pull)
    variance = np.divide(u**2, weight, out=np.zeros_like(u), where=used).sum(axis=1)
    return rest.sum(axis=1) * whole, np.sqrt(variance) * whole


def _smooth(variance: Float64, data: Bool) -> Float64:
    """Mean over five columns, so that chance lows of the counts gain no weight."""
    total = uniform_filter1d(np.where(data, variance, 0), 5, axis=1, mode="constant")
    count = uniform_filter1d(data.astype(float), 5, axis=1, mode="constant")
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0.1)


def _level(profiles: RadialProfiles) -> Float64:
    return np.array([offset.mean() for offset in profiles.offsets])


def _neighbours(shapes: BoxShapes) -> Bool:
    """(n, n) pairs that overlap along q, share rows, and are no doubles of one another."""
    apart = abs(shapes.column[:, None] - shapes.column)
    width = np.maximum(shapes.fwhm[:, None], shapes.fwhm)
    together = (apart < 2 * width) & (apart > 0.5 * width)
    return together & (shapes.overlap() > 0.1)


def _foreign(
    profiles: RadialProfiles, fit: GaussianFits, shapes: BoxShapes, neighbours: Bool
) -> Float64:
    """(n, m) what the fitted neighbours add to each profile."""
    foreign = np.zeros_like(profiles.y)
    overlap = shapes.overlap()
    position = shapes.column + fit.centre
    for i, k in np.argwhere(neighbours):
        z = (profiles.x[i] + shapes.column[i] - position[k]) / fit.sigma[k]
        foreign[i] += overlap[i, k] * fit.height[k] * np.exp(-0.5 * z * z)
    return foreign
