"""Gaussians on gently curved backgrounds, many profiles fitted at once by least squares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CENTRE",
    "CURVATURE",
    "HEIGHT",
    "LEVEL",
    "LOG_SIGMA",
    "PARAMETERS",
    "PER_PEAK",
    "SLOPE",
    "GaussianFits",
    "Profiles",
    "fit_gaussians",
    "gaussian",
]

Float64 = NDArray[np.float64]

HEIGHT, CENTRE, LOG_SIGMA, LEVEL, SLOPE, CURVATURE = range(PARAMETERS := 6)
PER_PEAK = 3  # parameters of each further peak, after those of the first and its background
_ABSENT = 1e-6  # height of a peak that was held at zero
_ITERATIONS = 12
_HOPELESS = 1e8  # damping that ends the fit
_CONVERGED = 1e-2  # fall of chi2, over its expected scatter per point, that ends the fit


@dataclass(frozen=True, slots=True)
class Profiles:
    """n profiles of m points.

    x, y: (n, m) place and value; response: (n, m) factor on the peaks
    weight: (n, m) 1 / variance as the fit uses it, 0 = no data
    variance: (n, m) of y, for the errors of what was fitted
    """

    x: Float64
    y: Float64
    response: Float64
    weight: Float64
    variance: Float64

    def rows(self, chosen: NDArray[np.int64]) -> Profiles:
        """Return some of the profiles."""
        parts = (self.x, self.y, self.response, self.weight, self.variance)
        return Profiles(*(part[chosen] for part in parts))


@dataclass(frozen=True, slots=True)
class GaussianFits:
    """n fits of peaks on a background, level + slope x + curvature x².

    A peak is height · response · exp(-(x - centre)² / 2 sigma²).

    parameters: (n, p) height, centre, log sigma, level, slope, curvature, then height, centre and
        log sigma of each further peak
    covariance: (n, p, p) of the parameters, from the variance of the data and the priors
    hessian_inverse: (n, p, p) of half the cost that was minimised
    jacobian: (n, p, m) at the solution
    chi2: (n,) weighted sum of squares over the degrees of freedom; freedom: (n,) their number
    converged: (n,) whether the last step changed next to nothing
    """

    parameters: Float64
    covariance: Float64
    hessian_inverse: Float64
    jacobian: Float64
    chi2: Float64
    freedom: Float64
    converged: NDArray[np.bool_]

    @property
    def height(self) -> Float64:
        """(n,) height of the first peak."""
        return self.parameters[:, HEIGHT]

    @property
    def centre(self) -> Float64:
        """(n,) centre of the first peak, in the unit of x."""
        return self.parameters[:, CENTRE]

    @property
    def sigma(self) -> Float64:
        """(n,) standard deviation of the first peak, in the unit of x."""
        return np.exp(self.parameters[:, LOG_SIGMA])

    def error(self, parameter: int) -> Float64:
        """Return the (n,) standard errors of a parameter."""
        return np.sqrt(np.maximum(self.covariance[:, parameter, parameter], 0))

    def put(self, rows: NDArray[np.int64], part: GaussianFits) -> None:
        """Replace the fits of some rows."""
        for name in self.__slots__:
            getattr(self, name)[rows] = getattr(part, name)

    def background(self, x: Float64) -> Float64:
        """Return (n, m) what lies under all peaks at x."""
        level, slope, curvature = self.parameters[:, LEVEL : CURVATURE + 1].T[:, :, None]
        return np.asarray(level + x * (slope + curvature * x))

    def further_bells(self, x: Float64) -> Float64:
        """Return (n, further peaks, m) Gaussians of height 1 at x, 0 for peaks without height."""
        bells = np.zeros((len(x), (self.parameters.shape[1] - PARAMETERS) // PER_PEAK, x.shape[1]))
        for i in range(bells.shape[1]):
            first = PARAMETERS + PER_PEAK * i
            height, centre, log_sigma = self.parameters[:, first : first + PER_PEAK].T
            sigma = np.exp(np.minimum(np.maximum(log_sigma, -20), 20))
            bells[:, i] = gaussian(x, centre, sigma) * (abs(height) > _ABSENT)[:, None]
        return bells

    def under(self, profiles: Profiles) -> Float64:
        """Return (n, m) what lies under the first peak: background and further peaks."""
        model = np.asarray(_model(profiles.x, profiles.response, self.parameters)[0])
        return model - self.height[:, None] * profiles.response * gaussian(
            profiles.x, self.centre, self.sigma
        )


def gaussian(x: Float64, centre: Float64, sigma: Float64) -> Float64:
    """Return (n, m) Gaussians of height 1 at x (n, m)."""
    z = np.clip((x - centre[:, None]) / sigma[:, None], -30, 30)
    return np.asarray(np.exp(-0.5 * z * z))


def fit_gaussians(profiles: Profiles, start: Float64, prior_sigma: Float64) -> GaussianFits:
    """Fit profiles by Levenberg-Marquardt, all together.

    start: (n, p) parameters to begin with; prior_sigma: (n, p) how far each may stray from
    there, as if it had been measured with that standard error. Values of order one converge best.
    """
    precision = prior_sigma**-2.0
    parameters, converged = start.copy(), np.zeros(len(start), bool)
    fit = _Descent.begin(profiles, start, precision)
    normal = fit.normal.copy()
    for _ in range(_ITERATIONS):
        ended = fit.step()
        if ended.any():
            parameters[fit.rows[ended]], normal[fit.rows[ended]] = fit.now[ended], fit.normal[ended]
            converged[fit.rows[ended]] = True
            fit = fit.kept(np.flatnonzero(~ended))
        if not len(fit.rows):
            break
    parameters[fit.rows], normal[fit.rows] = fit.now, fit.normal
    return _solution(profiles, parameters, normal, precision, converged)


@dataclass(slots=True)
class _Descent:
    """The fits that go on: (n,) each; rows: their numbers, now: (n, p) parameters."""

    rows: NDArray[np.int64]
    profiles: Profiles
    start: Float64
    precision: Float64
    points: NDArray[np.int64]
    damping: Float64
    now: Float64
    cost: Float64
    gradient: Float64
    normal: Float64

    @classmethod
    def begin(cls, profiles: Profiles, start: Float64, precision: Float64) -> _Descent:
        """Return all fits before their first step."""
        points = np.maximum((profiles.weight > 0).sum(axis=1), 1)
        damping = np.full(len(start), 1e-4)
        state = _linearised(profiles, start, start, precision)
        rows = np.arange(len(start))
        return cls(rows, profiles, start, precision, points, damping, start.copy(), *state)

    def step(self) -> NDArray[np.bool_]:
        """Take one step of each fit; return which have ended."""
        trial = self.now + _solve(self.normal, self.gradient, self.damping)
        cost, gradient, normal = _linearised(self.profiles, trial, self.start, self.precision)
        better = cost < self.cost
        ended = np.abs(self.cost - cost) <= _CONVERGED * np.maximum(self.cost / self.points, 1)
        np.copyto(self.now, trial, where=better[:, None])
        np.copyto(self.cost, cost, where=better)
        np.copyto(self.gradient, gradient, where=better[:, None])
        np.copyto(self.normal, normal, where=better[:, None, None])
        self.damping *= np.where(better, 0.2, 8)
        return np.asarray(ended | (self.damping >= _HOPELESS))

    def kept(self, chosen: NDArray[np.int64]) -> _Descent:
        """Return some of the fits."""
        parts = (self.damping, self.now, self.cost, self.gradient, self.normal)
        return _Descent(
            self.rows[chosen],
            self.profiles.rows(chosen),
            self.start[chosen],
            self.precision[chosen],
            self.points[chosen],
            *(part[chosen] for part in parts),
        )


def _solution(
    profiles: Profiles,
    parameters: Float64,
    normal: Float64,
    precision: Float64,
    converged: NDArray[np.bool_],
) -> GaussianFits:
    model, jacobian = _model(profiles.x, profiles.response, parameters)
    weight = profiles.weight
    inverse = np.asarray(np.linalg.inv(normal), np.float64)
    # The weights are smoothed variances; errors come from the variances themselves.
    noise = (jacobian * (weight**2 * profiles.variance)[:, None]) @ jacobian.transpose(0, 2, 1)
    diagonal = np.arange(parameters.shape[1])
    noise[:, diagonal, diagonal] += precision
    free = (precision * inverse[:, diagonal, diagonal] < 0.5).sum(axis=1)
    freedom = np.maximum((weight > 0).sum(axis=1) - free, 1)
    return GaussianFits(
        parameters=parameters,
        covariance=inverse @ noise @ inverse,
        hessian_inverse=inverse,
        jacobian=jacobian,
        chi2=(weight * (profiles.y - model) ** 2).sum(axis=1) / freedom,
        freedom=freedom,
        converged=converged,
    )


def _model(
    x: Float64, response: Float64, parameters: Float64, jacobian: Float64 | None = None
) -> tuple[Float64, Float64]:
    """Return the value (n, m) and its derivatives (n, p, m), written to `jacobian` if given."""
    if jacobian is None:
        jacobian = np.empty((*parameters.shape, x.shape[1]))
    level, slope, curvature = parameters[:, LEVEL : CURVATURE + 1].T[:, :, None]
    jacobian[:, LEVEL] = 1.0
    jacobian[:, SLOPE] = x
    np.multiply(x, x, out=jacobian[:, CURVATURE])
    total = level + x * (slope + curvature * x)
    for first in (HEIGHT, *range(PARAMETERS, parameters.shape[1], PER_PEAK)):
        height, centre, log_sigma = parameters[:, first : first + PER_PEAK].T[:, :, None]
        # Steps of the fit may overshoot; the clips keep exp within floats.
        narrowness = np.exp(-np.minimum(np.maximum(log_sigma, -20), 20))
        z = np.minimum(np.maximum((x - centre) * narrowness, -30), 30)
        bell = response * np.exp(-0.5 * z * z)
        peak = height * bell
        total += peak
        jacobian[:, first] = bell
        peak *= z
        np.multiply(peak, narrowness, out=jacobian[:, first + 1])
        np.multiply(peak, z, out=jacobian[:, first + 2])
    return total, jacobian


def _linearised(
    profiles: Profiles, parameters: Float64, start: Float64, precision: Float64
) -> tuple[Float64, Float64, Float64]:
    """Return cost, its downhill gradient and the normal matrix."""
    terms = np.empty((len(parameters), parameters.shape[1] + 1, profiles.x.shape[1]))
    model, _ = _model(profiles.x, profiles.response, parameters, terms[:, :-1])
    np.subtract(profiles.y, model, out=terms[:, -1])
    products = (terms * profiles.weight[:, None]) @ terms.transpose(0, 2, 1)
    stray = start - parameters
    pull = precision * stray
    cost = products[:, -1, -1] + (pull * stray).sum(axis=1)
    normal = products[:, :-1, :-1]
    diagonal = np.arange(start.shape[1])
    normal[:, diagonal, diagonal] += precision
    return cost, products[:, -1, :-1] + pull, normal


def _solve(normal: Float64, gradient: Float64, damping: Float64) -> Float64:
    damped = normal.copy()
    diagonal = np.arange(gradient.shape[1])
    damped[:, diagonal, diagonal] *= 1 + damping[:, None]
    return np.asarray(np.linalg.solve(damped, gradient[:, :, None])[:, :, 0], np.float64)
