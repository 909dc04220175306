"""Factors that the counts of pixels are divided by: solid angle, polarisation, absorption."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.settings import CorrectionSettings

__all__ = [
    "air_factor",
    "intensity_factor",
    "polarization_factor",
    "sensor_factor",
    "solid_angle_factor",
]

Float64 = NDArray[np.float64]


def air_factor(geometry: Geometry, rows: ArrayLike, columns: ArrayLike, per_m: float) -> Float64:
    """Transmission of the way to pixels over that at normal incidence; `per_m` in 1/m."""
    return np.exp(-per_m * (geometry.path_lengths_m(rows, columns) - geometry.distance_m))


def sensor_factor(
    geometry: Geometry, rows: ArrayLike, columns: ArrayLike, transmission: float
) -> Float64:
    """Share of a ray that the sensor absorbs over that at normal incidence, 1 - t.

    A slanted way through the sensor is longer by 1 / cos, so that t becomes t^(1 / cos).
    """
    longer = geometry.path_lengths_m(rows, columns) / geometry.distance_m
    return (1 - transmission**longer) / (1 - transmission)


def solid_angle_factor(geometry: Geometry, rows: ArrayLike, columns: ArrayLike) -> Float64:
    """Solid angle of pixels over that at normal incidence, cos³; counts are divided by it."""
    return (geometry.distance_m / geometry.path_lengths_m(rows, columns)) ** 3


def polarization_factor(
    geometry: Geometry, rows: ArrayLike, columns: ArrayLike, degree: float
) -> Float64:
    """Polarisation factor of pixels; `degree` 1 = horizontal; counts are divided by it."""
    up, right, _ = geometry.direction(rows, columns)
    return 1 - 0.5 * (1 + degree) * right * right - 0.5 * (1 - degree) * up * up


def intensity_factor(
    geometry: Geometry, rows: ArrayLike, columns: ArrayLike, settings: CorrectionSettings
) -> Float64:
    """Product of the factors that `corrections` ask for; counts of pixels are divided by it."""
    factor = np.ones(np.shape(rows))
    if settings.solid_angle:
        factor *= solid_angle_factor(geometry, rows, columns)
    if settings.polarization is not None:
        factor *= polarization_factor(geometry, rows, columns, settings.polarization)
    if settings.air_attenuation_per_m is not None:
        factor *= air_factor(geometry, rows, columns, settings.air_attenuation_per_m)
    if settings.sensor_transmission is not None:
        factor *= sensor_factor(geometry, rows, columns, settings.sensor_transmission)
    return factor
