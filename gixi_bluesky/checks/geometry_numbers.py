"""Checks of the numbers of a geometry against usual ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gixi_bluesky.processing.settings import GivenPerFrame

if TYPE_CHECKING:
    from gixi_bluesky.processing.geometry.instrument import Geometry
    from gixi_bluesky.processing.settings import GeometrySettings

__all__ = ["doubtful_numbers", "doubtful_placement"]

_DISTANCE_M = (0.02, 10.0)
_WAVELENGTH_ANGSTROM = (0.08, 8.0)  # 1.5 to 150 keV
_PIXEL_M = (5e-6, 2e-3)
_INCIDENCE_DEG = 10.0  # from which on nothing grazes
_FAR_OFF = 1.0  # sizes of the detector between its edge and the beam
_LEAST_ABOVE = 0.4  # share of the detector above the horizon
_GRID_BEYOND = 1.5  # q_max of the grid over that of the detector
_SAMPLES = 200


def doubtful_numbers(geometry: Geometry, settings: GeometrySettings) -> list[str]:
    """Return the values outside of the usual ranges, one sentence each with a likely cause."""
    doubts = [
        *_distance(geometry.distance_m),
        *_wavelength(geometry.wavelength_angstrom),
        *_pixels(geometry.pixel_size_m),
    ]
    if isinstance(settings.incidence_angle_deg, GivenPerFrame):
        return doubts
    angle = geometry.incidence_angle_deg
    if angle == 0:
        doubts.append(
            "the incidence angle is 0, which calibrations leave open; set "
            "geometry.incidence_angle_deg, or keep 0 for transmission"
        )
    elif angle > _INCIDENCE_DEG:
        doubts.append(
            f"an incidence angle of {angle:g} deg is not grazing; it is counted from the sample's "
            "surface, in degrees"
        )
    return doubts


def _distance(metres: float) -> list[str]:
    low, high = _DISTANCE_M
    if low <= metres <= high:
        return []
    text = f"a distance of {metres * 1e3:g} mm from sample to detector is unusual"
    if low <= metres * 1e3 <= high:
        return [f"{text}; were metres meant? distance_mm: {metres * 1e6:g}"]
    if low <= metres * 1e-3 <= high:
        return [f"{text}; were micrometres meant? distance_mm: {metres:g}"]
    return [text]


def _wavelength(angstrom: float) -> list[str]:
    low, high = _WAVELENGTH_ANGSTROM
    if low <= angstrom <= high:
        return []
    text = f"a wavelength of {angstrom:g} angstrom is unusual"
    if low <= angstrom * 10 <= high:
        return [f"{text}; were nanometres meant? wavelength_angstrom: {angstrom * 10:g}"]
    return [f"{text}; energy_kev is in keV, wavelength_angstrom in angstrom"]


def _pixels(metres: tuple[float, float]) -> list[str]:
    low, high = _PIXEL_M
    doubts = []
    if not all(low <= size <= high for size in metres):
        rows, columns = (size * 1e3 for size in metres)
        doubts.append(
            f"pixels of {rows:g} x {columns:g} mm are unusual; pixel_size_mm is in millimetres"
        )
    if max(metres) > 4 * min(metres):
        doubts.append("the pixels are more than four times as long as they are wide")
    return doubts


def doubtful_placement(geometry: Geometry, shape: tuple[int, int], q_max: float) -> list[str]:
    """Return contradictions to a detector of `shape` (rows, columns) after `flip`."""
    doubts = []
    row, column = geometry.beam_center_px
    for name, at, size in (("row", row, shape[0]), ("column", column, shape[1])):
        beyond = max(-at, at - (size - 1)) / size
        if not np.isfinite(at) or beyond > _FAR_OFF:
            doubts.append(
                f"the beam meets {name} {at:.0f} of a detector of {size} {name}s, far off it; "
                "beam_center_px is [row, column] in pixels, after the flip"
            )
    rows, columns = np.meshgrid(
        np.linspace(0, shape[0] - 1, _SAMPLES), np.linspace(0, shape[1] - 1, _SAMPLES)
    )
    q_xy, q_z = geometry.q_at(rows, columns)
    above = float(np.mean(q_z >= geometry.horizon_q_z))
    if above < _LEAST_ABOVE:
        doubts.append(
            f"only {above:.0%} of the detector lies above the sample's horizon; where row 0 is at "
            "the top, geometry.flip is vertical"
        )
    reached = float(np.hypot(q_xy, q_z).max())
    if q_max > _GRID_BEYOND * reached:
        doubts.append(
            f"the detector reaches |q| = {reached:.3g} 1/angstrom and the grid goes to "
            f"{q_max:g}: most of it stays empty; check distance and wavelength, or set "
            f"grid.q_max_inv_angstrom: {reached:.2g}"
        )
    return doubts
