"""Coordinates of detector pixels along and across a cut, and their share of a bin's area."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.cuts.settings import Along
from gixi_bluesky.processing.geometry.instrument import Geometry

__all__ = ["PixelCoordinates", "bin_areas"]

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PixelCoordinates:
    """Reciprocal coordinates of all pixels of a frame, each (rows, columns).

    q_xy: signed by the side of the beam, 1/angstrom
    q_z: 1/angstrom, its magnitude where the horizon is folded
    q, phi: |q|, 1/angstrom, and polar angle, deg
    area: of the pixel in the plane of q_xy and q_z, 1/angstrom²
    above: whether the pixel is not hidden below the sample's horizon
    """

    q_xy: Float64
    q_z: Float64
    q: Float64
    phi: Float64
    area: Float64
    above: Bool

    @classmethod
    def of(cls, geometry: Geometry, shape: tuple[int, int], below_horizon: str) -> PixelCoordinates:
        """Return the coordinates for frames of `shape` after `orient`.

        below_horizon: mask, keep or fold, as in `grid`
        """
        rows, columns = np.mgrid[: shape[0], : shape[1]]
        q_xy, q_z = geometry.q_at(rows, columns)
        in_plane = np.abs(q_xy)
        area = np.abs(_slope(in_plane, 0) * _slope(q_z, 1) - _slope(in_plane, 1) * _slope(q_z, 0))
        lowest = geometry.horizon_q_z
        if geometry.critical_angle_rad:  # rays below the critical angle all lie on the horizon
            lowest = float(np.nextafter(lowest, np.inf))
        above = q_z >= lowest if below_horizon == "mask" else np.ones(shape, bool)
        q_z = np.abs(q_z) if below_horizon == "fold" else q_z
        phi = np.degrees(np.arctan2(q_z, in_plane))
        return cls(q_xy, q_z, np.hypot(q_xy, q_z), phi, area, above)

    def along(self, coordinate: Along, *, signed: bool) -> Float64:
        """Return one coordinate of all pixels; `signed`: with the sign of q_xy, if it has one."""
        if coordinate == "q_xy":
            return self.q_xy if signed else np.abs(self.q_xy)
        if coordinate == "phi" and signed:
            return np.where(self.q_xy < 0, -self.phi, self.phi)
        values: Float64 = getattr(self, coordinate)
        return values


def bin_areas(
    along: Along, edges: Float64, across: tuple[float, float], sides: int, lowest_q_z: float
) -> Float64:
    """Return the area of each bin in the plane of |q_xy| and q_z, times `sides`, 1/angstrom².

    along: the coordinate of `edges` (n + 1,); `across` is the range of the other one
    lowest_q_z: below it nothing is seen; that part of a bin along q_xy or q_z is left out
    """
    low, high = across
    if along == "q":
        widths = np.radians(high - low) / 2 * np.diff(edges**2)
    elif along == "phi":
        widths = np.radians(np.diff(edges)) / 2 * (high**2 - low**2)
    elif along == "q_xy":
        widths = np.diff(edges) * (high - max(low, lowest_q_z))
    else:
        widths = np.diff(np.maximum(edges, lowest_q_z)) * (high - low)
    return np.maximum(widths, 0) * sides


def _slope(values: Float64, axis: int) -> Float64:
    return np.gradient(values, axis=axis) if values.shape[axis] > 1 else np.zeros_like(values)
