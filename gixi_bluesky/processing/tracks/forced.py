"""Forced measurement: the intensity at given places of an image, whether a peak is seen or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from gixi_bluesky.processing.measure.box_shapes import BoxShapes
from gixi_bluesky.processing.measure.box_sums import BoxSums, noise_scale
from gixi_bluesky.processing.measure.gaussian_fit import gaussian
from gixi_bluesky.processing.measure.profiles import RadialProfiles, box_cells, radial_profiles
from gixi_bluesky.processing.tables import FWHM_PER_SIGMA
from gixi_bluesky.processing.tracks.places import Places
from gixi_bluesky.processing.types import PolarImage

__all__ = ["Forced", "ForcedMeasurement"]

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

RING_DEG = 45.0  # an arc wider than this is given by its extent, not by a Gaussian's FWHM
_HALF_BOX = 0.85  # FWHM from the centre of a Gaussian to where it is at 13.5 %
_MOST_INFLATION = 25.0  # of the variance, by what neighbours take away
_CURVATURE_SCALE = 0.08  # of the q range; a background curves by its own height over no less
_PLACED_SNR = 4.0  # from which on the position can be fitted
_FARTHEST = 1.5  # sigma that a peak may lie off its place
_SMOOTHED = 9  # columns over which variances are averaged
_TINY = 1e-300
_LEAST_SEEN = 0.3  # share of the peak's profile that must hold data


@dataclass(frozen=True, slots=True)
class Forced:
    """Measurements at (n,) places; NaN where the image has no data.

    q, q_error: 1/angstrom, NaN where the peak is too weak to be placed
    intensity, intensity_error: counts deg/angstrom, as in `Peaks`; the intensity may be negative
    """

    q: Float64
    q_error: Float64
    intensity: Float64
    intensity_error: Float64


class ForcedMeasurement:
    """Measures an image at given places, as often as one likes; its sums are made once.

    A Gaussian of given place and width on a line is fitted by weighted least squares. Its height
    is linear in the counts, hence without bias where there is no peak. Errors come from the
    variance map times the scatter between neighbouring blocks of bins.
    """

    def __init__(self, image: PolarImage) -> None:
        self._image = image
        self._sums = BoxSums.of(image)
        self._noise = noise_scale(image)

    def at(self, places: Places) -> Forced:
        """Return what is measured at some places."""
        if not len(places):
            return Forced(*(np.empty(0) for _ in range(4)))
        image = self._image
        dq, dphi = (float(axis[1] - axis[0]) for axis in (image.q, image.phi))
        shapes = BoxShapes.of(self._sums, _boxes(image, places), dphi)
        beside = shapes.rows_shared() > 0
        np.fill_diagonal(beside, val=False)
        alone = np.empty((len(places), 0), np.int64)
        profiles = radial_profiles(box_cells(self._sums, shapes), shapes, alone, beside)
        columns = np.clip(np.rint(shapes.column).astype(int), 0, len(image.q) - 1)
        weight = _weights(profiles, self._noise[columns])
        sigma = np.maximum(places.fwhm_q / dq, 1.0) / FWHM_PER_SIGMA
        bell = gaussian(profiles.x, np.zeros(len(places)), sigma)
        height, variance = _heights(profiles, bell, weight, shapes, len(image.q))
        measured = (variance > 0) & np.isfinite(height)
        area = sigma * np.sqrt(2 * np.pi) * shapes.visible_rows() * dq * dphi
        intensity = np.where(measured, height * area, np.nan)
        error = np.where(measured, np.sqrt(np.maximum(variance, 0.0)) * area, np.nan)
        bright = measured & (intensity > _PLACED_SNR * error)
        q, q_error = _positions(profiles, weight, height, sigma, bright)
        return Forced(places.q + q * dq, q_error * dq, intensity, error)


def _boxes(image: PolarImage, places: Places) -> NDArray[np.float32]:
    half = np.where(places.fwhm_phi > RING_DEG, 0.5, _HALF_BOX) * places.fwhm_phi
    sides = (
        (places.q - places.fwhm_q / 2, image.q),
        (places.phi - half, image.phi),
        (places.q + places.fwhm_q / 2, image.q),
        (places.phi + half, image.phi),
    )
    columns = [(value - axis[0]) / (axis[1] - axis[0]) for value, axis in sides]
    return np.stack(columns, axis=1).astype(np.float32)


def _weights(profiles: RadialProfiles, noise: Float64) -> Float64:
    """(n, m) 1 / variance of each column, smoothed so that chance lows gain no weight."""
    data = profiles.response > 0  # neighbours are separated, not left out
    total = _moving_mean(np.where(data, profiles.variance, 0.0))
    count = _moving_mean(data.astype(float))
    variance = np.divide(total, count, out=np.zeros_like(total), where=count > 0.05)
    variance *= noise[:, None] ** 2
    floor = np.finfo(np.float32).tiny
    return np.where(data & (variance > 0), 1 / (variance + floor), 0.0)


def _moving_mean(values: Float64) -> Float64:
    """(n, m) mean of each column with four on both sides; zero beyond the ends."""
    padded = np.pad(values, ((0, 0), (_SMOOTHED // 2, _SMOOTHED // 2)))
    return np.asarray(sliding_window_view(padded, _SMOOTHED, axis=1).mean(axis=2))


def _heights(
    profiles: RadialProfiles, bell: Float64, weight: Float64, shapes: BoxShapes, n_columns: int
) -> tuple[Float64, Float64]:
    """Return height and its variance, (n,), neighbours separated; NaN where they cannot be."""
    estimator, variance = _estimators(profiles, bell, weight, shapes, n_columns)
    usable = np.isfinite(variance)
    estimator, variance = np.where(usable[:, None], estimator, 0.0), np.where(usable, variance, 0.0)
    height = (estimator * profiles.y).sum(axis=1)
    overlap = shapes.rows_shared()
    mixing = np.eye(len(bell))
    for i, k in np.argwhere(_neighbours(shapes, overlap)):
        z = (profiles.x[i] + shapes.column[i] - shapes.column[k]) * FWHM_PER_SIGMA / shapes.fwhm[k]
        mixing[i, k] = overlap[i, k] * float(estimator[i] @ np.exp(-0.5 * z * z))
    separation = np.linalg.pinv(mixing, rcond=1e-3)
    separated = (separation**2) @ variance
    clear = usable & (separated < _MOST_INFLATION * np.maximum(variance, _TINY))
    return np.where(clear, separation @ height, np.nan), separated


def _estimators(
    profiles: RadialProfiles, bell: Float64, weight: Float64, shapes: BoxShapes, n_columns: int
) -> tuple[Float64, Float64]:
    """Return what (n, m) multiplies the profiles to give the heights, and the variance (n,).

    The variance is inf where there are too few data.
    """
    x = profiles.x / np.maximum(shapes.fwhm, 1.0)[:, None]
    design = np.stack([profiles.response * bell, np.ones_like(x), x, x * x], axis=1)
    normal = (design * weight[:, None, :]) @ design.transpose(0, 2, 1)
    scale = np.abs(profiles.y).max(axis=1, initial=1e-12, where=weight > 0)
    scale += np.abs(profiles.level)
    stiff = scale * (np.maximum(shapes.fwhm, 1.0) / (_CURVATURE_SCALE * n_columns)) ** 2
    normal[:, 3, 3] += stiff**-2.0
    # Unit diagonals, so that weights of any size leave the inverse exact.
    diagonal = np.arange(4)
    size = np.sqrt(np.maximum(normal[:, diagonal, diagonal], _TINY))
    normal /= size[:, :, None] * size[:, None, :]
    normal[:, diagonal, diagonal] = 1 + 1e-9
    inverse = np.linalg.inv(normal)
    # Where the columns that hold data cannot separate a peak from the line under it.
    known = (inverse[:, 0, 0] > 0) & (inverse[:, 0, 0] < _MOST_INFLATION)
    known &= (bell * (weight > 0)).sum(axis=1) > _LEAST_SEEN * bell.sum(axis=1)
    covariance = inverse / (size[:, :, None] * size[:, None, :])
    estimator = (covariance[:, :1] @ (design * weight[:, None, :]))[:, 0]
    return estimator, np.where(known, covariance[:, 0, 0], np.inf)


def _neighbours(shapes: BoxShapes, overlap: Float64) -> Bool:
    apart = np.abs(shapes.column[:, None] - shapes.column)
    width = np.maximum(shapes.fwhm[:, None], shapes.fwhm)
    near: Bool = (apart < 6 * width) & (overlap > 0.05)
    np.fill_diagonal(near, val=False)
    return near


def _positions(
    profiles: RadialProfiles, weight: Float64, height: Float64, sigma: Float64, bright: Bool
) -> tuple[Float64, Float64]:
    """Return how far from its place each peak is and the error, (n,) columns; NaN if too weak."""
    shift, error = np.full(len(sigma), np.nan), np.full(len(sigma), np.nan)
    rows = np.flatnonzero(bright)
    if not rows.size:
        return shift, error
    x, width = profiles.x[rows], sigma[rows][:, None]
    bell = profiles.response[rows] * np.exp(-0.5 * (x / width) ** 2)
    # The first derivative by the centre: its share of the height is the shift.
    design = np.stack([bell, bell * x / width**2, np.ones_like(x), x / width], axis=1)
    normal = (design * weight[rows][:, None, :]) @ design.transpose(0, 2, 1)
    diagonal = np.arange(4)
    size = np.sqrt(np.maximum(normal[:, diagonal, diagonal], _TINY))
    normal /= size[:, :, None] * size[:, None, :]
    normal[:, diagonal, diagonal] = 1 + 1e-9
    covariance = np.linalg.inv(normal) / (size[:, :, None] * size[:, None, :])
    moments = (design * (weight * profiles.y)[rows][:, None, :]).sum(axis=2)
    moved = (covariance @ moments[:, :, None])[:, 1, 0] / height[rows]
    spread = np.sqrt(np.maximum(covariance[:, 1, 1], 0.0)) / height[rows]
    good = (np.abs(moved) < _FARTHEST * width[:, 0]) & (spread < width[:, 0])
    shift[rows], error[rows] = np.where(good, moved, np.nan), np.where(good, spread, np.nan)
    return shift, error
