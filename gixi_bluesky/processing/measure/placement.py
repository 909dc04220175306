"""Conversion of fits in pixels of the searched image to |q| and phi."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.types import CartesianImage, PolarImage

__all__ = ["PixelFits", "Placed", "place", "row_height_deg"]

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PixelFits:
    """Peaks as they were fitted: (n,) each, columns and rows of the image."""

    column: Float64
    column_error: Float64
    column_fwhm: Float64
    column_fwhm_error: Float64
    row: Float64
    row_error: Float64
    row_fwhm: Float64
    row_fwhm_error: Float64


@dataclass(frozen=True, slots=True)
class Placed:
    """The same peaks in reciprocal space: (n,) each, 1/angstrom and deg.

    cell: what one pixel of the image covers there, deg/angstrom
    """

    q: Float64
    q_error: Float64
    phi: Float64
    phi_error: Float64
    q_xy: Float64
    q_z: Float64
    fwhm_q: Float64
    fwhm_q_error: Float64
    fwhm_phi: Float64
    fwhm_phi_error: Float64
    cell: Float64


def place(image: PolarImage | CartesianImage, fits: PixelFits) -> Placed:
    """Return where peaks lie; widths across the axes of the image are those of a Gaussian."""
    return _polar(image, fits) if isinstance(image, PolarImage) else _cartesian(image, fits)


def row_height_deg(image: PolarImage | CartesianImage) -> float:
    """Height of a row, deg; 0 where rows are not of one angle, so that no box is a ring's."""
    return _step(image.phi) if isinstance(image, PolarImage) else 0.0


def _polar(image: PolarImage, fits: PixelFits) -> Placed:
    dq, dphi = _step(image.q), _step(image.phi)
    q = image.q[0] + fits.column * dq
    phi = image.phi[0] + fits.row * dphi
    return Placed(
        q=q,
        q_error=fits.column_error * dq,
        phi=phi,
        phi_error=fits.row_error * dphi,
        q_xy=q * np.cos(np.radians(phi)),
        q_z=q * np.sin(np.radians(phi)),
        fwhm_q=fits.column_fwhm * dq,
        fwhm_q_error=fits.column_fwhm_error * dq,
        fwhm_phi=fits.row_fwhm * dphi,
        fwhm_phi_error=fits.row_fwhm_error * dphi,
        cell=np.full(len(q), dphi * dq),
    )


def _cartesian(image: CartesianImage, fits: PixelFits) -> Placed:
    d_xy, d_z = _step(image.q_xy), _step(image.q_z)
    q_xy, q_z = image.q_xy[0] + fits.column * d_xy, image.q_z[0] + fits.row * d_z
    q = np.maximum(np.hypot(q_xy, q_z), 1e-9)
    cos, sin = q_xy / q, q_z / q
    wide, tall = fits.column_fwhm * d_xy, fits.row_fwhm * d_z
    error_xy, error_z = fits.column_error * d_xy, fits.row_error * d_z
    wide_error, tall_error = fits.column_fwhm_error * d_xy, fits.row_fwhm_error * d_z
    along, across = np.hypot(cos * wide, sin * tall), np.hypot(sin * wide, cos * tall)
    return Placed(
        q=q,
        q_error=np.hypot(cos * error_xy, sin * error_z),
        phi=np.degrees(np.arctan2(q_z, q_xy)),
        phi_error=np.degrees(np.hypot(sin * error_xy, cos * error_z) / q),
        q_xy=q_xy,
        q_z=q_z,
        fwhm_q=along,
        fwhm_q_error=_length_error(cos**2 * wide, wide_error, sin**2 * tall, tall_error, along),
        fwhm_phi=np.degrees(across / q),
        fwhm_phi_error=np.degrees(
            _length_error(sin**2 * wide, wide_error, cos**2 * tall, tall_error, across) / q
        ),
        cell=np.degrees(d_xy * d_z / q),
    )


def _length_error(
    wide: Float64, wide_error: Float64, tall: Float64, tall_error: Float64, length: Float64
) -> Float64:
    """Return the standard error of a root of two weighted squares."""
    return np.asarray(np.hypot(wide * wide_error, tall * tall_error) / np.maximum(length, 1e-12))


def _step(axis: Float64) -> float:
    return float((axis[-1] - axis[0]) / max(len(axis) - 1, 1))
