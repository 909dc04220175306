"""Centre and width of one peak: a Gaussian on a parabola, fitted by Gauss-Newton steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["fit_width"]

_FWHM = 2.3548  # of a Gaussian of standard deviation 1
_REACH = 4  # half window of the fit, standard deviations of the start
_WIDE, _NARROW = 7, 3  # windows of the check to either side
_KEPT = 0.6  # of its height, that a peak keeps on a background of fourth order
_CURVATURE = 20  # height / FWHM² of a peak, at least, over background / q²
_STEPS = 6
_BROADEST = 0.15  # FWHM of a peak over |q|

Values = NDArray[np.floating]


def fit_width(
    sums: Values, weights: Values, centre: float, sigma: float
) -> tuple[float, float] | None:
    """Return centre - FWHM/2 and centre + FWHM/2 in columns; None if no peak stands there.

    sums, weights: (columns,) sum and number of the valid pixels; centre, sigma: where to start.
    """
    start, first = centre, sigma
    x, w, y = _between(sums, weights, start - _REACH * first, start + _REACH * first)
    if x.size < 7:
        return None
    design = np.empty((x.size, 6))
    design[:, 3:] = np.vander((x - start) / (_REACH * first), 3)
    height = 0.0
    for _ in range(_STEPS):
        u = (x - centre) / sigma
        gauss = np.exp(-0.5 * u * u)
        # The slopes in centre and log(sigma) are those of a peak of unit height.
        design[:, 0], design[:, 1], design[:, 2] = gauss, gauss * u / sigma, gauss * u * u
        solution = _solved(design, w, y)
        height = solution[0]
        if not height > 0:
            return None
        centre += float(np.clip(solution[1] / height, -0.5 * sigma, 0.5 * sigma))
        sigma *= float(np.exp(np.clip(solution[2] / height, -0.3, 0.3)))
        if not (abs(centre - start) < 2 * first and 0.4 < sigma / first < 2.5):
            return None
    if not _is_peak(sums, weights, centre, sigma, height, solution[-1]):
        return None
    half = 0.5 * _FWHM * sigma
    return centre - half, centre + half


def _is_peak(
    sums: Values, weights: Values, centre: float, sigma: float, height: float, background: float
) -> bool:
    """Return whether this is a peak, not the hump of a halo or the glow around the beam.

    Those vary on the scale of |q| itself, and a background of fourth order takes their height
    away, looked for with more room on the left and on the right, as a neighbour may stand there.
    """
    width = _FWHM * sigma
    if width > _BROADEST * centre or height * (centre / width) ** 2 < _CURVATURE * background:
        return False
    for left, right in ((_WIDE, _NARROW), (_NARROW, _WIDE)):
        x, w, y = _between(sums, weights, centre - left * sigma, centre + right * sigma)
        if x.size < 7:
            continue
        design = np.empty((x.size, 6))
        design[:, 0] = np.exp(-0.5 * ((x - centre) / sigma) ** 2)
        design[:, 1:] = np.vander((x - centre) / (_WIDE * sigma), 5)
        if _solved(design, w, y)[0] > _KEPT * height:
            return True
    return False


def _between(
    sums: Values, weights: Values, left: float, right: float
) -> tuple[NDArray[np.intp], Values, Values]:
    """Return the columns with data from left to right, their weights and mean values."""
    x = np.arange(max(int(np.ceil(left)), 0), min(int(right) + 1, len(weights)))
    x = x[weights[x] > 0]
    return x, weights[x], sums[x] / weights[x]


def _solved(design: Values, weights: Values, values: Values) -> Values:
    """Return the weighted least-squares solution, NaN where there is none."""
    weighted = design.T * weights
    try:
        return np.linalg.solve(weighted @ design, weighted @ values)
    except np.linalg.LinAlgError:
        return np.full(design.shape[1], np.nan)
