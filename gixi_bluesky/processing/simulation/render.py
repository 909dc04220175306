"""A scene on the detector: mean counts in every pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.geometry.intensity_factors import (
    polarization_factor,
    solid_angle_factor,
)
from gixi_bluesky.processing.simulation.scene import Component, Scene, Streak
from gixi_bluesky.processing.simulation.texture import phi_axis
from gixi_bluesky.processing.tables import FWHM_PER_SIGMA

__all__ = ["Renderer"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

# Of the map that is rendered in (|q|, phi) and looked up by every pixel: much finer than a pixel.
_ROWS, _COLUMNS = 1024, 4096


class Renderer:
    """Renders scenes for one geometry; the maps are computed once, a frame is one or two look-ups.

    With a critical angle in `geometry` the film refracts: what it scatters lies higher than its
    own q says, and `Scene.reflected` of it a second time, as from the beam reflected by the
    substrate (the distorted-wave Born approximation's two brightest terms; Busch et al., J. Appl.
    Cryst. 39 (2006) 433).

    shape: (rows, columns) of the detector, after `orient`
    polarization: degree of horizontal polarisation; None = as if there were none
    unrefracted: the geometry of a film that does not refract
    """

    def __init__(
        self, geometry: Geometry, shape: tuple[int, int], polarization: float | None = 0.99
    ) -> None:
        rows, columns = np.indices(shape, dtype=np.float64)
        self.geometry = geometry
        self.shape = shape
        self.unrefracted = replace(geometry, critical_angle_rad=0.0)
        q_xy, q_z = self.unrefracted.q_at(rows, columns)
        self.q_xy = np.asarray(q_xy, dtype=np.float32)
        self.q_z = np.asarray(q_z, dtype=np.float32)
        _, right, _ = geometry.direction(rows, columns)
        self._q_y = (geometry.wavenumber * right).astype(np.float32)
        self.q = np.linspace(0.0, float(np.hypot(self.q_xy, self.q_z).max()), _COLUMNS)
        inside = np.asarray(geometry.q_at(rows, columns)[1], dtype=np.float32)
        self._transmitted = self._places(inside)
        # The reflected beam comes from below: twice the incident normal component less.
        self._reflected = self._places(np.abs(inside - np.float32(2 * geometry.horizon_q_z)))
        self._radius = np.hypot(self.q_xy, self.q_z)
        self._angle = np.arctan2(self.q_z, np.abs(self.q_xy))
        self.above_horizon = self.q_z >= self.unrefracted.horizon_q_z
        efficiency = np.asarray(solid_angle_factor(geometry, rows, columns), dtype=np.float32)
        if polarization is not None:
            factor = polarization_factor(geometry, rows, columns, polarization)
            efficiency = efficiency * np.asarray(factor, dtype=np.float32)
        self.efficiency = efficiency

    @property
    def pixel_q(self) -> float:
        """Size of a pixel in q where the beam meets the detector, 1/angstrom."""
        size = max(self.geometry.pixel_size_m)
        return self.geometry.wavenumber * size / self.geometry.distance_m

    def components(self, scene: Scene) -> list[Component]:
        """Return every arc, ring and spot of the scene as it lies inside the film."""
        return [
            _blurred(component, self.pixel_q)
            for phase in scene.phases
            for component in phase.components(_ROWS)
            if component.q < self.q[-1] and component.height > 0
        ]

    def apparent(self, scene: Scene) -> Iterator[Component]:
        """Yield the components at the positions of a remap without refraction."""
        refracts = self.geometry.critical_angle_rad > 0
        for component in self.components(scene):
            yield self._shifted(component, 0.0) if refracts else component
            if scene.reflected > 0:
                second = self._shifted(component, 2 * self.geometry.horizon_q_z)
                yield replace(second, height=component.height * scene.reflected)

    def expected(self, scene: Scene) -> Float32:
        """Return the mean counts of every pixel, (rows, columns) float32."""
        surface = np.zeros((_COLUMNS, _ROWS), np.float32)
        for component in self.components(scene):
            self._add(surface, component)
        frame = _looked_up(surface, *self._transmitted)
        if scene.reflected > 0:
            frame += np.float32(scene.reflected) * _looked_up(surface, *self._reflected)
        frame += scene.smooth(self._radius, self._angle)
        for streak in scene.streaks:
            frame += self._streak(streak)
        for rod in scene.rods:
            near = np.abs(np.abs(self.q_xy) - np.float32(rod.q_xy)) < 2.0 * rod.fwhm_xy
            frame[near] += rod.profile(self.q_xy[near], self.q_z[near])
        # Below its horizon the film is shadowed by the sample; air scatter alone remains.
        shadow = replace(scene, phases=(), halos=(), streaks=())
        below = ~self.above_horizon
        frame[below] = shadow.smooth(self._radius[below], self._angle[below])
        return frame * self.efficiency

    def _places(self, q_z: Float32) -> tuple[Float32, Float32]:
        """Return where pixels read the map, (columns, rows) of cv2.remap."""
        q = np.hypot(self.q_xy, q_z)
        phi = np.degrees(np.arctan2(q_z, np.abs(self.q_xy)))
        along_phi = np.asarray(phi * ((_ROWS - 1) / 90.0), np.float32)
        return along_phi, np.asarray(q * ((_COLUMNS - 1) / self.q[-1]), np.float32)

    def _shifted(self, component: Component, lift: float) -> Component:
        """Return the component as seen from outside the film, `lift` higher in q_z inside it."""
        phi = np.radians(phi_axis(len(component.angular)))
        k, horizon = self.geometry.wavenumber, self.geometry.horizon_q_z
        q_xy = component.q * np.cos(phi)
        normal = (component.q * np.sin(phi) + lift - horizon) / k
        critical = np.sin(self.geometry.critical_angle_rad)
        outside = np.copysign(np.hypot(normal, critical), normal) if critical else normal
        q_z = k * outside + self.unrefracted.horizon_q_z
        leaves = normal > 0  # the rest stays in the film
        q, at = np.hypot(q_xy, q_z), np.degrees(np.arctan2(q_z, q_xy))
        seen = np.where(leaves, component.angular, 0.0)
        if not seen.any():
            return replace(component, height=0.0)

        def moved(profile: Float64) -> Float64:
            return np.interp(np.degrees(phi), at[leaves], profile[leaves], left=0.0, right=0.0)

        course, shift = component.course, component.shift
        return replace(
            component,
            q=float(np.average(q, weights=seen)),
            angular=moved(component.angular),
            course=None if course is None else moved(course),
            shift=None if shift is None else moved(shift),
        )

    def _add(self, surface: Float32, component: Component) -> None:
        reach = component.reach_q
        first, last = np.searchsorted(self.q, [component.q - reach, component.q + reach])
        surface[first:last] += component.surface(self.q[first:last], phi_axis(_ROWS)).T

    def _streak(self, streak: Streak) -> Float32:
        sigma = streak.fwhm_q / FWHM_PER_SIGMA
        if streak.kind == "specular":
            across, along = self._q_y, self.q_z
        else:
            across = self.q_z - np.float32(self.unrefracted.horizon_q_z + streak.q_z)
            along = self.q_xy
        profile = streak.counts * np.exp(-0.5 * (across / sigma) ** 2) / (1.0 + (along / 0.3) ** 2)
        return np.asarray(profile, dtype=np.float32)


def _blurred(component: Component, pixel_q: float) -> Component:
    """Widen a line by the pixel it is counted in; its integral stays."""
    fwhm = float(np.hypot(component.fwhm_q, pixel_q))
    return replace(component, fwhm_q=fwhm, height=component.height * component.fwhm_q / fwhm)


def _looked_up(surface: Float32, along_phi: Float32, along_q: Float32) -> Float32:
    looked_up: Float32 = cv2.remap(
        surface, along_phi, along_q, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return looked_up
