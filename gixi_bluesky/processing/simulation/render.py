"""A scene as the detector sees it: mean counts in every pixel."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.geometry import Geometry
from gixi_bluesky.processing.simulation.scene import FWHM_PER_SIGMA, Component, Scene, Streak

__all__ = ["Renderer"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

# Of the map that is rendered in (phi, |q|) and looked up by every pixel: much finer than a pixel.
_ROWS, _COLUMNS = 1024, 4096
_REACH_SIGMA = 5.0


class Renderer:
    """Renders scenes for one geometry; the maps are made once, a frame is one look-up.

    shape: (rows, columns) of the detector, after `orient`
    polarization: degree of horizontal polarisation; None = as if there were none
    """

    def __init__(
        self, geometry: Geometry, shape: tuple[int, int], polarization: float | None = 0.99
    ) -> None:
        rows, columns = np.indices(shape, dtype=np.float64)
        q_xy, q_z = geometry.q_at(rows, columns)
        self.geometry = geometry
        self.shape = shape
        self.q_xy = np.asarray(q_xy, dtype=np.float32)
        self.q_z = np.asarray(q_z, dtype=np.float32)
        _, right, _ = geometry.direction(rows, columns)
        self._q_y = (geometry.wavenumber * right).astype(np.float32)
        q = np.hypot(self.q_xy, self.q_z)
        self.q = np.linspace(0.0, float(q.max()), _COLUMNS)
        self._column = (q * ((_COLUMNS - 1) / q.max())).astype(np.float32)
        phi = np.degrees(np.arctan2(self.q_z, np.abs(self.q_xy)))
        self._row = (phi * ((_ROWS - 1) / 90.0)).astype(np.float32)
        self.above_horizon = self.q_z >= geometry.horizon_q_z
        efficiency = np.asarray(geometry.solid_angle_factor(rows, columns), dtype=np.float32)
        if polarization is not None:
            factor = geometry.polarization_factor(rows, columns, polarization)
            efficiency = efficiency * np.asarray(factor, dtype=np.float32)
        self.efficiency = efficiency

    def components(self, scene: Scene) -> list[Component]:
        """Return every arc, ring and spot of the scene that lies on the map."""
        return [
            component
            for phase in scene.phases
            for component in phase.components(_ROWS)
            if component.q < self.q[-1] and component.height > 0
        ]

    def expected(self, scene: Scene) -> Float32:
        """Return the mean counts of every pixel, (rows, columns) float32."""
        surface = np.broadcast_to(scene.smooth(self.q), (_ROWS, _COLUMNS)).astype(np.float32)
        for component in self.components(scene):
            self._add(surface, component)
        frame = self._looked_up(surface)
        for streak in scene.streaks:
            frame += self._streak(streak)
        # Below its horizon the film is shadowed by the sample; air scatter alone remains.
        shadow = replace(scene, phases=(), halos=(), streaks=()).smooth(self.q).astype(np.float32)
        below = ~self.above_horizon
        frame[below] = np.interp(self._column[below], np.arange(_COLUMNS), shadow)
        return frame * self.efficiency

    def _add(self, surface: Float32, component: Component) -> None:
        sigma = component.fwhm_q / FWHM_PER_SIGMA
        reach = _REACH_SIGMA * sigma
        first, last = np.searchsorted(self.q, [component.q - reach, component.q + reach])
        radial = np.exp(-0.5 * ((self.q[first:last] - component.q) / sigma) ** 2)
        surface[:, first:last] += np.outer(component.angular, component.height * radial)

    def _looked_up(self, surface: Float32) -> Float32:
        looked_up: Float32 = cv2.remap(
            surface,
            self._column,
            self._row,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return looked_up

    def _streak(self, streak: Streak) -> Float32:
        sigma = streak.fwhm_q / FWHM_PER_SIGMA
        if streak.kind == "specular":
            across, along = self._q_y, self.q_z
        else:
            across = self.q_z - np.float32(self.geometry.horizon_q_z + streak.q_z)
            along = self.q_xy
        profile = streak.counts * np.exp(-0.5 * (across / sigma) ** 2) / (1.0 + (along / 0.3) ** 2)
        return np.asarray(profile, dtype=np.float32)
