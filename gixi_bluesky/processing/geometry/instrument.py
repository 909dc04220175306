"""Conversion of detector pixels to reciprocal space, and back.

The laboratory frame and the tilts are pyFAI's (Kieffer & Karkoulis, J. Phys. Conf. Ser. 425
(2013) 202012): a pixel at (p1, p2) on the detector sits at R3 R2 R1 (p1 - poni1, p2 - poni2, L),
axis 1 along growing rows, axis 2 along growing columns, axis 3 along the beam. The sample frame is
turned by the incidence angle a about axis 2: k_i = k (cos a, 0, -sin a) on (beam, horizontal,
normal). |q| = sqrt(q_xy² + q_z²) holds exactly, tilts and all.

With a critical angle c, q_z is that inside the film: refraction keeps q_xy and turns the normal
component k sin(x) of each ray into k sqrt(sin² x - sin² c), zero below c (Busch et al.,
J. Appl. Cryst. 39 (2006) 433).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gixi_bluesky.errors import GeometryError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processing.geometry.calibration import calibration_of, orientation_of
from gixi_bluesky.processing.geometry.conditions import Conditions
from gixi_bluesky.processing.geometry.poni import Poni
from gixi_bluesky.processing.geometry.rotations import rotation_angles, rotation_matrix
from gixi_bluesky.processing.settings import GeometrySettings, GivenPerFrame

__all__ = ["Geometry"]

Float64 = NDArray[np.float64]

_WAVELENGTH_AGREEMENT = 1e-3


@dataclass(frozen=True, slots=True)
class Geometry:
    """Beam, detector and sample of one frame, as seen after `orient`.

    wavelength_angstrom: wavelength, angstrom
    distance_m: sample to the point of normal incidence, m
    pixel_size_m: (row, column) pitch, m
    poni_m: (row, column) point of normal incidence from the corner of pixel (0, 0), m
    rotations_rad: pyFAI's rot1, rot2, rot3, rad
    incidence_angle_rad: between the beam and the sample's surface, rad
    critical_angle_rad: of the film, rad; 0 = no refraction

    Raises GeometryError for values that cannot be.
    """

    wavelength_angstrom: float
    distance_m: float
    pixel_size_m: tuple[float, float]
    poni_m: tuple[float, float]
    rotations_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    incidence_angle_rad: float = 0.0
    critical_angle_rad: float = 0.0

    def __post_init__(self) -> None:
        for f in fields(self):
            if not np.all(np.isfinite(getattr(self, f.name))):
                message = f"{f.name} is {getattr(self, f.name)}; expected finite numbers"
                raise GeometryError(message)
        for name in ("wavelength_angstrom", "distance_m", "pixel_size_m"):
            if not np.all(np.asarray(getattr(self, name)) > 0):
                message = f"{name} is {getattr(self, name)}; expected a positive number"
                raise GeometryError(message)
        if not 0 <= self.incidence_angle_rad < math.pi / 2:
            message = (
                f"the incidence angle is {self.incidence_angle_deg:g} deg; "
                "expected 0 to 90 deg, measured from the sample's surface"
            )
            raise GeometryError(message)
        if not 0 <= self.critical_angle_rad < math.pi / 2:
            message = f"critical_angle_rad is {self.critical_angle_rad:g}; expected 0 to pi/2"
            raise GeometryError(message)
        if self.rotation[2, 2] <= 0:
            message = f"rotations_rad {self.rotations_rad} turn the detector away from the sample"
            raise GeometryError(message)

    @classmethod
    def from_settings(
        cls,
        settings: GeometrySettings,
        shape: tuple[int, int] | None = None,
        conditions: Conditions | None = None,
    ) -> Geometry:
        """Build the geometry; `shape` (rows, columns) is that of the array as read.

        What `conditions` hold of a frame takes the place of settings and PONI.

        The shape is needed to turn a PONI; without it only the settings and the file are checked.
        With neither `flip` nor `orientation` row 0 is the lowest, unless the PONI says otherwise;
        a beam in the upper half is then warned about.
        Angles that come with each frame are 0 where `conditions` do not hold them.
        Raises GeometryError for a PONI that cannot be used or does not fit the shape, and for a
        wavelength or distance that comes with each frame and is not given.
        """
        measured = conditions or Conditions()
        settings = measured.applied(settings)
        if settings.changes_per_frame:
            message = (
                f"wavelength or distance come from {', '.join(settings.changes_per_frame)}; "
                "give them for a frame that has none"
            )
            raise GeometryError(message)
        incidence = _radians(settings.incidence_angle_deg)
        arm = (
            _radians(settings.arm_in_plane_deg),
            _radians(settings.arm_out_of_plane_deg),
            settings.arm_carrier,
        )
        calibration = calibration_of(settings)
        if calibration is not None:
            geometry = _from_poni(calibration, settings, shape, incidence, measured=measured)
            if shape is not None and settings.flip is None and settings.orientation is None:
                _warn_if_upside_down(geometry, orientation_of(settings).shape(shape)[0])
            return geometry.with_arm(*arm)
        if (
            not isinstance(settings.distance_mm, float)
            or settings.pixel_size_mm is None
            or settings.beam_center_px is None
            or settings.wavelength is None
        ):  # GeometrySettings refuses these; constructed without validation they end here.
            message = "incomplete geometry: give wavelength, distance, pixel size and beam centre"
            raise GeometryError(message)
        pixel = (settings.pixel_size_mm[0] * 1e-3, settings.pixel_size_mm[1] * 1e-3)
        row, column = settings.beam_center_px
        return cls(
            wavelength_angstrom=settings.wavelength,
            distance_m=settings.distance_mm * 1e-3,
            pixel_size_m=pixel,
            poni_m=((row + 0.5) * pixel[0], (column + 0.5) * pixel[1]),
            incidence_angle_rad=incidence,
        ).with_arm(*arm)

    def with_incidence(self, incidence_angle_deg: float) -> Geometry:
        """Return the same set-up at another incidence angle."""
        return replace(self, incidence_angle_rad=math.radians(incidence_angle_deg))

    def with_arm(
        self, in_plane_rad: float, out_of_plane_rad: float, carrier: str = "in_plane"
    ) -> Geometry:
        """Return the set-up with the detector turned about the sample, tilt and all, by an arm.

        in_plane_rad: towards growing columns, about the vertical
        out_of_plane_rad: upwards, towards growing rows
        carrier: in_plane or out_of_plane, the circle that carries the other one
        """
        if not (in_plane_rad or out_of_plane_rad):
            return self
        circles = rotation_matrix(in_plane_rad, 0, 0), rotation_matrix(0, -out_of_plane_rad, 0)
        outer, inner = circles if carrier == "in_plane" else circles[::-1]
        turned = outer @ inner
        return replace(self, rotations_rad=rotation_angles(turned @ self.rotation))

    def with_critical_angle(self, critical_angle_deg: float) -> Geometry:
        """Return the same set-up with q_z inside a film of this critical angle."""
        return replace(self, critical_angle_rad=math.radians(critical_angle_deg))

    @property
    def incidence_angle_deg(self) -> float:
        """Incidence angle, deg."""
        return math.degrees(self.incidence_angle_rad)

    @property
    def wavenumber(self) -> float:
        """Wavenumber k = 2 pi / wavelength, 1/angstrom."""
        return 2 * math.pi / self.wavelength_angstrom

    @property
    def horizon_q_z(self) -> float:
        """q_z of the sample's horizon, k sin(incidence), 1/angstrom; below it is the substrate."""
        return self.wavenumber * float(self._inside(math.sin(self.incidence_angle_rad)))

    @property
    def rotation(self) -> Float64:
        """(3, 3) rotation of detector axes (rows, columns, beam) into the laboratory, pyFAI's."""
        return rotation_matrix(*self.rotations_rad)

    @property
    def beam_center_px(self) -> tuple[float, float]:
        """(row, column) where the direct beam meets the detector; pixel centres at integers."""
        rows, columns = self.pixel_of(0.0, 0.0, 1.0)
        return float(rows), float(columns)

    def require_q(self, q_max: float) -> None:
        """Raise GeometryError if `q_max`, 1/angstrom, is beyond what the wavelength can reach."""
        if not 0 < q_max <= 2 * self.wavenumber:
            message = (
                f"q_max is {q_max:g} 1/angstrom; a wavelength of {self.wavelength_angstrom:g} "
                f"angstrom reaches at most 2k = {2 * self.wavenumber:.4g}; lower q_max"
            )
            raise GeometryError(message)

    def direction(self, rows: ArrayLike, columns: ArrayLike) -> tuple[Float64, Float64, Float64]:
        """Return unit vectors from the sample to pixels: along rows (up), columns, and the beam."""
        p1 = (np.asarray(rows, float) + 0.5) * self.pixel_size_m[0] - self.poni_m[0]
        p2 = (np.asarray(columns, float) + 0.5) * self.pixel_size_m[1] - self.poni_m[1]
        norm = np.sqrt(p1 * p1 + p2 * p2 + self.distance_m**2)
        at = (p1, p2, self.distance_m)
        # Most detectors are not tilted: what is zero costs as much as what is not.
        up, right, beam = (
            sum(factor * part for factor, part in zip(axis, at, strict=True) if factor) / norm
            for axis in self.rotation
        )
        return up, right, beam

    def pixel_of(self, up: ArrayLike, right: ArrayLike, beam: ArrayLike) -> tuple[Float64, Float64]:
        """(rows, columns) where directions meet the detector's plane; NaN where they do not."""
        r = self.rotation
        along = [
            r[0, i] * np.asarray(up, float) + r[1, i] * np.asarray(right, float) + r[2, i] * beam
            for i in range(3)
        ]
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.where(along[2] > 0, self.distance_m / along[2], np.nan)
        rows = (self.poni_m[0] + scale * along[0]) / self.pixel_size_m[0] - 0.5
        columns = (self.poni_m[1] + scale * along[1]) / self.pixel_size_m[1] - 0.5
        return rows, columns

    def q_at(self, rows: ArrayLike, columns: ArrayLike) -> tuple[Float64, Float64]:
        """(q_xy, q_z) of pixels, 1/angstrom; q_xy carries the sign of the horizontal direction."""
        up, right, beam = self.direction(rows, columns)
        sin, cos = math.sin(self.incidence_angle_rad), math.cos(self.incidence_angle_rad)
        q_z = self.wavenumber * self._inside(up * cos - beam * sin) + self.horizon_q_z
        q_x = self.wavenumber * (beam * cos + up * sin - cos)
        return np.copysign(np.hypot(q_x, self.wavenumber * right), right), q_z

    def pixel_at(self, q_xy: ArrayLike, q_z: ArrayLike) -> tuple[Float64, Float64]:
        """(rows, columns) of signed q_xy and q_z, 1/angstrom; NaN in the missing wedge and behind.

        |k_i + q| = k fixes the component along the beam, q_x = (2 k q_z sin a - q²)/(2 k cos a).
        """
        k = self.wavenumber
        sin, cos = math.sin(self.incidence_angle_rad), math.cos(self.incidence_angle_rad)
        q_xy = np.asarray(q_xy, float)
        q_z = k * (self._outside((np.asarray(q_z, float) - self.horizon_q_z) / k) + sin)
        q_x = (2 * k * q_z * sin - q_xy * q_xy - q_z * q_z) / (2 * k * cos)
        with np.errstate(invalid="ignore"):
            right = np.copysign(np.sqrt(q_xy * q_xy - q_x * q_x), q_xy) / k
        along_surface, normal = cos + q_x / k, q_z / k - sin
        return self.pixel_of(
            along_surface * sin + normal * cos, right, along_surface * cos - normal * sin
        )

    def _inside(self, normal: ArrayLike) -> Float64:
        """Return the normal component (over k) inside the film of rays with `normal` outside it."""
        outside = np.asarray(normal, float)
        if not self.critical_angle_rad:
            return outside
        critical = math.sin(self.critical_angle_rad)
        return np.sign(outside) * np.sqrt(np.maximum(outside**2 - critical**2, 0))

    def _outside(self, normal: Float64) -> Float64:
        """Undo `_inside`; no ray leaves the film below the critical angle."""
        if not self.critical_angle_rad:
            return normal
        return np.copysign(np.hypot(normal, math.sin(self.critical_angle_rad)), normal)

    def path_lengths_m(self, rows: ArrayLike, columns: ArrayLike) -> Float64:
        """Distance from the sample to pixels, m."""
        p1 = (np.asarray(rows, float) + 0.5) * self.pixel_size_m[0] - self.poni_m[0]
        p2 = (np.asarray(columns, float) + 0.5) * self.pixel_size_m[1] - self.poni_m[1]
        return np.sqrt(p1 * p1 + p2 * p2 + self.distance_m**2)


def _from_poni(
    poni: Poni,
    settings: GeometrySettings,
    shape: tuple[int, int] | None,
    incidence: float,
    *,
    measured: Conditions,
) -> Geometry:
    """Turn the PONI, which holds for the array as its own orientation lays it, as `orient` does."""
    wavelength = settings.wavelength or poni.wavelength_angstrom
    if wavelength is None:
        message = f"{poni.path} holds no wavelength; give wavelength_angstrom or energy_kev"
        raise GeometryError(message)
    fixed = measured.energy_kev is None and measured.wavelength_angstrom is None
    if (
        fixed
        and poni.wavelength_angstrom
        and not math.isclose(wavelength, poni.wavelength_angstrom, rel_tol=_WAVELENGTH_AGREEMENT)
    ):
        message = (
            f"the configuration says {wavelength:g} angstrom and {poni.path} says "
            f"{poni.wavelength_angstrom:g}; give the wavelength in one place"
        )
        raise GeometryError(message)
    whole, binning, corner = shape or (1, 1), 1, (0, 0)
    if shape is not None and settings.roi_offset_px is not None:
        whole = poni.require_region(settings.roi_offset_px, shape)
        corner = orientation_of(settings).corner(settings.roi_offset_px, shape, whole)
    elif shape is not None:
        binning = poni.binning_for(shape)
    pixel = (poni.pixel_size_m[0] * binning, poni.pixel_size_m[1] * binning)
    laid = poni.orientation.shape(whole)
    turn = poni.orientation.inverse.then(orientation_of(settings))
    center = np.array([laid[0] * pixel[0], laid[1] * pixel[1]]) / 2
    matrix = turn.matrix
    poni_m = matrix @ (np.array(poni.poni_m) - center) + np.abs(matrix) @ center
    axes = np.eye(3)
    axes[:2, :2] = matrix
    unturned = Geometry(wavelength, poni.distance_m, pixel, poni.poni_m, poni.rotations_rad)
    size = np.abs(matrix) @ np.array(pixel)
    poni_m -= np.array(corner) * size
    distance = poni.distance_m
    if isinstance(settings.distance_mm, float):  # the detector was moved along its normal
        distance = settings.distance_mm * 1e-3
    return Geometry(
        wavelength_angstrom=wavelength,
        distance_m=distance,
        pixel_size_m=(float(size[0]), float(size[1])),
        poni_m=(float(poni_m[0]), float(poni_m[1])),
        rotations_rad=rotation_angles(axes @ unturned.rotation @ axes.T),
        incidence_angle_rad=incidence,
    )


def _warn_if_upside_down(geometry: Geometry, n_rows: int) -> None:
    """Log that most of the detector would lie below the sample, which a missing flip does."""
    row, _ = geometry.beam_center_px
    if row > n_rows / 2:
        get_logger(beam_row=round(row, 1), rows=n_rows).warning(
            "the calibration puts most rows below the beam; frames with row 0 at the top need "
            "`flip: vertical` (or say `flip: none` if this is right)"
        )


def _radians(angle_deg: float | GivenPerFrame) -> float:
    """Return a fixed angle, rad; one that comes with each frame is 0."""
    return 0.0 if isinstance(angle_deg, GivenPerFrame) else math.radians(angle_deg)
