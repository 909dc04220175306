"""Gaussians on gently curved backgrounds, many profiles fitted at once by least squares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CENTRE",
    "CURVATURE",
    "FWHM_PER_SIGMA",
    "HEIGHT",
    "LEVEL",
    "LOG_SIGMA",
    "PARAMETERS",
    "SLOPE",
    "GaussianFits",
    "fit_gaussians",
    "gaussian",
]

Float64 = NDArray[np.float64]

FWHM_PER_SIGMA = float(np.sqrt(8 * np.log(2)))
HEIGHT, CENTRE, LOG_SIGMA, LEVEL, SLOPE, CURVATURE = range(PARAMETERS := 6)
ITERATIONS = 25
HOPELESS = 1e8  # damping that ends the fit
CONVERGED = 1e-5  # relative fall of the cost that ends the fit


@dataclass(frozen=True, slots=True)
class GaussianFits:
    """n fits of height · response · exp(-(x - centre)²/2 sigma²) + level + slope x + curvature x².

    parameters: (n, 6) height, centre, log sigma, level, slope, curvature
    covariance: (n, 6, 6) from the weights alone, priors included
    jacobian: (n, 6, m) at the solution
    chi2: (n,) weighted sum of squares over the degrees of freedom
    """

    parameters: Float64
    covariance: Float64
    jacobian: Float64
    chi2: Float64

    @property
    def height(self) -> Float64:
        """(n,) height of the Gaussian."""
        return self.parameters[:, HEIGHT]

    @property
    def centre(self) -> Float64:
        """(n,) centre, in the unit of x."""
        return self.parameters[:, CENTRE]

    @property
    def sigma(self) -> Float64:
        """(n,) standard deviation, in the unit of x."""
        return np.exp(self.parameters[:, LOG_SIGMA])

    def put(self, rows: NDArray[np.int64], part: GaussianFits) -> None:
        """Replace the fits of some rows."""
        for name in ("parameters", "covariance", "jacobian", "chi2"):
            getattr(self, name)[rows] = getattr(part, name)

    def background(self, x: Float64) -> Float64:
        """(n, m) what lies under the Gaussians at x."""
        level, slope, curvature = self.parameters[:, LEVEL:].T[:, :, None]
        return level + x * (slope + curvature * x)


def gaussian(x: Float64, centre: Float64, sigma: Float64) -> Float64:
    """(n, m) Gaussians of height 1 at x (n, m)."""
    return np.exp(-0.5 * ((x - centre[:, None]) / sigma[:, None]) ** 2)


def fit_gaussians(
    x: Float64,
    y: Float64,
    weight: Float64,
    response: Float64,
    start: Float64,
    prior_sigma: Float64,
) -> GaussianFits:
    """Fit (n, m) profiles by Levenberg-Marquardt, all together.

    weight: (n, m) 1/variance, 0 = no data; response: (n, m) factor on the Gaussian
    start: (n, 6) parameters to begin with; prior_sigma: (n, 6) how far each may stray from
    there (inf = freely), as if it had been measured with that standard error.
    """
    precision = prior_sigma**-2.0
    parameters = start.copy()
    damping = np.full(len(x), 1e-3)
    cost = np.empty(len(x))
    gradient = np.empty(start.shape)
    normal = np.empty((*start.shape, PARAMETERS))
    jacobian = np.empty((*start.shape, x.shape[1]))
    state = (cost, gradient, normal, jacobian)
    active = np.arange(len(x))
    for array, value in zip(
        state, _linearised(x, y, weight, response, start, start, precision), strict=True
    ):
        array[:] = value
    for _ in range(ITERATIONS):
        trial = parameters[active] + _solve(normal[active], gradient[active], damping[active])
        data = (x[active], y[active], weight[active], response[active])
        news = _linearised(*data, trial, start[active], precision[active])
        better = news[0] < cost[active]
        settled = np.abs(cost[active] - news[0]) <= CONVERGED * cost[active]
        improved = active[better]
        parameters[improved] = trial[better]
        for array, value in zip(state, news, strict=True):
            array[improved] = value[better]
        damping[active] = np.where(better, damping[active] / 5, damping[active] * 8)
        active = active[~settled & (damping[active] < HOPELESS)]
        if not active.size:
            break
    freedom = np.maximum((weight > 0).sum(axis=1) - PARAMETERS, 1)
    residual = y - _model(x, response, parameters)[0]
    return GaussianFits(
        parameters=parameters,
        covariance=np.asarray(np.linalg.inv(_regular(normal)), np.float64),
        jacobian=jacobian,
        chi2=(weight * residual**2).sum(axis=1) / freedom,
    )


def _model(x: Float64, response: Float64, parameters: Float64) -> tuple[Float64, Float64]:
    height, centre, log_sigma, level, slope, curvature = parameters.T[:, :, None]
    # steps of the fit may overshoot; the clips keep exp within floats
    narrowness = np.exp(-np.clip(log_sigma, -20, 20))
    z = np.clip((x - centre) * narrowness, -30, 30)
    bell = response * np.exp(-0.5 * z * z)
    jacobian = np.empty((len(x), PARAMETERS, x.shape[1]))
    jacobian[:, HEIGHT] = bell
    along = height * bell * z
    jacobian[:, CENTRE] = along * narrowness
    jacobian[:, LOG_SIGMA] = along * z
    jacobian[:, LEVEL] = 1.0
    jacobian[:, SLOPE] = x
    jacobian[:, CURVATURE] = x * x
    return height * bell + level + x * (slope + curvature * x), jacobian


def _linearised(
    x: Float64,
    y: Float64,
    weight: Float64,
    response: Float64,
    parameters: Float64,
    start: Float64,
    precision: Float64,
) -> tuple[Float64, Float64, Float64, Float64]:
    """Return cost, its downhill gradient, the normal matrix and the Jacobian."""
    model, jacobian = _model(x, response, parameters)
    residual = y - model
    stray = start - parameters
    weighted = weight * residual
    cost = (weighted * residual).sum(axis=1) + (precision * stray**2).sum(axis=1)
    gradient = (jacobian @ weighted[:, :, None])[:, :, 0] + precision * stray
    normal = (jacobian * weight[:, None, :]) @ jacobian.transpose(0, 2, 1)
    diagonal = np.arange(PARAMETERS)
    normal[:, diagonal, diagonal] += precision
    return cost, gradient, normal, jacobian


def _solve(normal: Float64, gradient: Float64, damping: Float64) -> Float64:
    damped = _regular(normal)
    diagonal = np.arange(PARAMETERS)
    damped[:, diagonal, diagonal] *= 1 + damping[:, None]
    return np.asarray(np.linalg.solve(damped, gradient[:, :, None])[:, :, 0], np.float64)


def _regular(normal: Float64) -> Float64:
    """Return the matrices with parameters that no datum touches held in place."""
    regular = normal.copy()
    diagonal = np.arange(PARAMETERS)
    scale = regular[:, diagonal, diagonal]
    regular[:, diagonal, diagonal] = np.where(scale > 0, scale * (1 + 1e-10), 1.0)
    return regular
