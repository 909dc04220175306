"""The pole figure of one ring: intensity over the tilt of its planes from the surface normal."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeWarning, curve_fit

from gixi_bluesky.processing.tables import FWHM_PER_SIGMA
from gixi_bluesky.processing.types import Cut

__all__ = ["Distribution", "PoleFigure", "fit_distribution"]

Float64 = NDArray[np.float64]

_FEWEST_BINS = 8


@dataclass(frozen=True, slots=True)
class PoleFigure:
    """Intensity over the tilt chi from the surface normal, chi = 90 deg - phi, rising.

    chi: (n,) deg, equally spaced from 0 to 90
    intensity, error: (n,) counts; NaN where no pixel sees the tilt, as in the missing wedge
    """

    chi: Float64
    intensity: Float64
    error: Float64

    @classmethod
    def of(cls, cut: Cut) -> PoleFigure:
        """Return the pole figure of a cut along phi from 0 to 90 deg."""
        error = np.where(cut.error > 0, cut.error, np.nan)
        return cls(90.0 - cut.axis[::-1], cut.intensity[::-1], error[::-1])

    @property
    def seen(self) -> NDArray[np.bool_]:
        """(n,), True where there is an intensity with an error."""
        return np.isfinite(self.intensity) & np.isfinite(self.error)

    @property
    def weight(self) -> Float64:
        """(n,) sin(chi): how much of a sphere's surface has the tilt, for a fibre texture."""
        return np.sin(np.radians(self.chi))

    @property
    def coverage(self) -> float:
        """Share of the hemisphere that is seen, 0 to 1."""
        return float(self.weight[self.seen].sum() / self.weight.sum())


@dataclass(frozen=True, slots=True)
class Distribution:
    """A random part and a Gaussian about one tilt, mirrored at 0 and 90 deg, fitted to it.

    parameters: random level, height (counts), centre and sigma (deg)
    covariance: (4, 4)
    """

    parameters: Float64
    covariance: Float64

    def at(self, chi: Float64) -> Float64:
        """Return the intensity at tilts, counts."""
        return _model(chi, *self.parameters)

    def error_at(self, chi: Float64) -> Float64:
        """Return the standard error of `at`, counts."""
        steps = 1e-4 * np.maximum(np.abs(self.parameters), 1e-3)
        slopes = np.stack(
            [
                (_model(chi, *(self.parameters + step)) - _model(chi, *(self.parameters - step)))
                / (2 * step[i])
                for i, step in enumerate(np.diag(steps))
            ]
        )
        variance = np.einsum("ik,ij,jk->k", slopes, self.covariance, slopes)
        return np.sqrt(np.maximum(variance, 0))

    @property
    def fwhm_deg(self) -> float:
        """Full width at half maximum of the oriented part, deg."""
        return float(FWHM_PER_SIGMA * self.parameters[3])

    @property
    def fwhm_error_deg(self) -> float:
        """Standard error of the width, deg."""
        return float(FWHM_PER_SIGMA * np.sqrt(self.covariance[3, 3]))


def fit_distribution(figure: PoleFigure) -> Distribution | None:
    """Fit the distribution to what is seen; None where it does not determine one."""
    seen = figure.seen
    if seen.sum() < _FEWEST_BINS:
        return None
    chi, intensity, error = figure.chi[seen], figure.intensity[seen], figure.error[seen]
    low, high = np.percentile(intensity, (10, 98))
    if high - low < 3 * float(np.median(error)):
        return None
    step = float(figure.chi[1] - figure.chi[0])
    highest = float(chi[np.argmax(_smooth(intensity))])
    span = [low, high - low]
    fits = [
        _fit(chi, intensity, error, np.array([*span, sigma]), step, fixed=centre)
        for centre in (0.0, 90.0)
        for sigma in (6.0, 25.0)
    ]
    fits.append(_fit(chi, intensity, error, np.array([*span, highest, 8.0]), step))
    found = [fit for fit in fits if fit is not None]
    return min(found, key=lambda fit: fit[0])[1] if found else None


def _fit(
    chi: Float64,
    intensity: Float64,
    error: Float64,
    start: Float64,
    step: float,
    fixed: float | None = None,
) -> tuple[float, Distribution] | None:
    """Return a fit and its Bayesian information criterion, None where it does not converge.

    start: level, height, centre, sigma; without the centre where that is `fixed`
    """

    def model(chi: Float64, level: float, height: float, *rest: float) -> Float64:
        return _model(chi, level, height, rest[0] if fixed is None else fixed, rest[-1])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)
        try:
            values, covariance = curve_fit(
                model, chi, intensity, start, error, absolute_sigma=True, maxfev=300
            )
        except (RuntimeError, ValueError):
            return None
    if not np.isfinite(covariance).all() or values[1] <= 0:
        return None
    misfit = float((((intensity - model(chi, *values)) / error) ** 2).sum())
    freedom = max(len(chi) - len(values), 1)
    # Where the curve is no Gaussian, the scatter about it says more than the counting errors.
    covariance = covariance * max(misfit / freedom, 1.0)
    if fixed is not None:
        values = np.insert(values, 2, fixed)
        covariance = np.insert(np.insert(covariance, 2, 0.0, axis=0), 2, 0.0, axis=1)
    # The model is even in sigma and about 0 and 90 deg.
    level, height, centre, sigma = values
    centre = abs((centre + 90) % 180 - 90)
    folded = np.array([max(level, 0.0), height, centre, max(abs(sigma), step / 2)])
    return misfit + len(start) * float(np.log(len(chi))), Distribution(folded, covariance)


def _model(chi: Float64, level: float, height: float, centre: float, sigma: float) -> Float64:
    offsets = np.stack([chi - centre, chi + centre, 180.0 - chi - centre])
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        peak: Float64 = np.exp(-((offsets / sigma) ** 2) / 2).sum(axis=0)
    return np.nan_to_num(level + height * peak)


def _smooth(values: Float64) -> Float64:
    return np.convolve(values, np.ones(3) / 3, mode="same")
