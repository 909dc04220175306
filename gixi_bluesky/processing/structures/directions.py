"""Directions in a crystal, and where a fibre texture turns them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ive

__all__ = ["Cell", "Hkl", "reciprocal_basis", "tilted_density"]

Float64 = NDArray[np.float64]
Cell = tuple[float, float, float, float, float, float]
Hkl = tuple[int, int, int]

_SMALLEST_MOSAIC_DEG = 0.3


def reciprocal_basis(cell: Cell) -> Float64:
    """Return (3, 3): rows a*, b*, c* in 1/angstrom (with 2 pi), Cartesian."""
    a, b, c = cell[0], cell[1], cell[2]
    alpha, beta, gamma = np.radians(np.asarray(cell[3:6], dtype=float))
    cos_a = (np.cos(alpha) - np.cos(beta) * np.cos(gamma)) / np.sin(gamma)
    height = np.sqrt(max(np.sin(beta) ** 2 - cos_a**2, 0.0))
    direct = np.array(
        [
            [a, 0.0, 0.0],
            [b * np.cos(gamma), b * np.sin(gamma), 0.0],
            [c * np.cos(beta), c * cos_a, c * height],
        ]
    )
    return np.asarray(2.0 * np.pi * np.linalg.inv(direct).T)


def tilted_density(angle_deg: float, mosaic_deg: float, phi: Float64) -> Float64:
    """Return the density of directions `angle_deg` from a normal that is tilted at random.

    The normal follows Fisher's distribution of concentration 1 / sigma², for small tilts a
    Gaussian of sigma `mosaic_deg` each way, any azimuth. Integrated over the azimuth (Fisher,
    Proc. R. Soc. A 217 (1953) 295): exp(k cos a cos t) I0(k sin a sin t) k / sinh k at the angle t
    to the substrate normal. The density is per solid angle, upper and lower half together,
    1 = isotropic; (n,) on `phi`, deg.
    """
    k = np.radians(max(mosaic_deg, _SMALLEST_MOSAIC_DEG)) ** -2
    angle, polar = np.radians(angle_deg), np.radians(90.0 - phi)
    norm = 2.0 * k / -np.expm1(-2.0 * k)
    halves = (
        np.exp(k * (np.cos(angle - t) - 1.0)) * ive(0, k * np.sin(angle) * np.sin(t))
        for t in (polar, np.pi - polar)
    )
    return np.asarray(norm * 0.5 * sum(halves))
