"""From detector frames to images in reciprocal space, with variance and pixel counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import GeometryError
from gixi_bluesky.processing.geometry.grids import CartesianGrid, Grid, PolarGrid, QGrid
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.geometry.intensity_factors import intensity_factor
from gixi_bluesky.processing.pixels.counts import PixelCorrection
from gixi_bluesky.processing.pixels.noise import Noise
from gixi_bluesky.processing.remap.footprint import Footprint
from gixi_bluesky.processing.remap.grid_means import GridMean
from gixi_bluesky.processing.remap.sides import Sides
from gixi_bluesky.processing.remap.stored_maps import StoredMaps
from gixi_bluesky.processing.settings import CorrectionSettings, GridSettings
from gixi_bluesky.processing.types import CartesianImage, PolarImage, RemappedImage

__all__ = ["Remapper"]

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_Q_CELLS = 512  # of a stored image on (q_z, q_xy), from 0 to the reach of the polar grid


class Remapper:
    """Averages frames of one geometry over the cells of the polar grid; built once, then cheap.

    shape: (rows, columns) of the frames after `orient`; mask: the same shape, True = masked.
    pixels: what is done to each pixel first; stored: keep the maps on disk for other processes.
    Raises GeometryError for a grid beyond the wavelength's reach or off the detector.
    """

    def __init__(
        self,
        geometry: Geometry,
        grid: GridSettings,
        corrections: CorrectionSettings,
        shape: tuple[int, int],
        mask: Bool | None = None,
        pixels: PixelCorrection | None = None,
        *,
        stored: bool = False,
    ) -> None:
        geometry.require_q(grid.q_max_inv_angstrom)
        if mask is not None and mask.shape != tuple(shape):
            message = f"the mask has shape {mask.shape}; expected {tuple(shape)}, the frame's"
            raise GeometryError(message)
        self.geometry = geometry
        mirror = grid.below_horizon == "fold"
        if mirror and geometry.incidence_angle_rad:
            message = (
                f"grid.below_horizon is fold, at an incidence of {geometry.incidence_angle_deg:g} "
                "deg; only in transmission, at 0 deg, are both signs of q_z alike"
            )
            raise GeometryError(message)
        self.grid = PolarGrid(grid.q_max_inv_angstrom, grid.shape, grid.side, mirror)
        self._q, self._phi = self.grid.q, self.grid.phi
        self.shape = (int(shape[0]), int(shape[1]))
        self._corrections, self._stored = corrections, stored
        self._horizon = grid.below_horizon == "mask"
        self.masked = mask
        self._valid = np.ones(self.shape, bool) if mask is None else ~mask
        if pixels is not None:
            self._valid &= pixels.usable
        self.pixels = pixels
        self.polar_mean = self._average(self.grid)
        self._cartesian: tuple[CartesianGrid, GridMean] | None = None
        if grid.space == "cartesian":
            searched = CartesianGrid(self.grid.q_max, self.grid.shape, self.grid.side, mirror)
            self._cartesian = searched, self._average(searched)
        self._pictures: dict[QGrid, GridMean] = {}

    def __call__(
        self, frame: NDArray[Any], pixels: PixelCorrection | None = None, exposures: int = 1
    ) -> PolarImage:
        """Return the polar image of one frame (rows, columns), after `orient`.

        pixels: instead of those that it was built with; exposures: how many the frame sums
        Raises FrameError for a wrong shape or dtype and for a frame without data on the grid.
        """
        return self.as_polar(*self.polar_mean(frame, pixels, exposures))

    def as_polar(self, image: RemappedImage, noise: Noise) -> PolarImage:
        """Return an image on the polar grid, and its noise, with the axes."""
        return PolarImage(
            image.intensity,
            image.variance,
            image.pixels,
            q=self._q,
            phi=self._phi,
            gain=noise.gain,
            readout_noise=math.sqrt(noise.floor),
        )

    def cartesian(
        self, frame: NDArray[Any], pixels: PixelCorrection | None = None, exposures: int = 1
    ) -> CartesianImage | None:
        """Return the frame on (q_z, |q_xy|), within the polar grid's reach, if searched there."""
        if self.cartesian_mean is None:
            return None
        return self.as_cartesian(self.cartesian_mean(frame, pixels, exposures)[0])

    @property
    def cartesian_mean(self) -> GridMean | None:
        """The mean over the cells that are searched, None where these are polar."""
        return None if self._cartesian is None else self._cartesian[1]

    def as_cartesian(self, image: RemappedImage) -> CartesianImage | None:
        """Return an image on the searched cartesian grid with the axes."""
        if self._cartesian is None:
            return None
        grid, _ = self._cartesian
        return _on_axes(image, grid.q, grid.q_z)

    def q_map(
        self,
        frame: NDArray[Any],
        shape: tuple[int, int] = (512, 512),
        q_xy_range: tuple[float, float] | None = None,
        q_z_range: tuple[float, float] | None = None,
    ) -> CartesianImage:
        """Return the same frame on (q_z, q_xy), both signs of q_xy, for the picture.

        The ranges default to what the detector sees of the polar grid's circle.
        """
        seen = self._seen
        grid = QGrid(q_xy_range or seen[0], q_z_range or seen[1], shape)
        return _on_axes(self._picture(grid)(frame)[0], grid.q_xy, grid.q_z)

    def q_image(
        self, frame: NDArray[Any], pixels: PixelCorrection | None = None, exposures: int = 1
    ) -> CartesianImage:
        """Return the frame on (q_z, q_xy), both signs of q_xy, as it is stored.

        The cells are square, 1/512 of the polar grid's reach wide. Where the geometry changes
        from frame to frame, the range is that of the polar grid, else what the detector sees.
        """
        return self.as_q_image(self.q_mean(frame, pixels, exposures)[0])

    @property
    def q_mean(self) -> GridMean:
        """The mean over the cells of the stored image on (q_z, q_xy)."""
        return self._picture(self._q_grid)

    def as_q_image(self, image: RemappedImage) -> CartesianImage:
        """Return an image on the stored (q_z, q_xy) grid with the axes."""
        return _on_axes(image, self._q_grid.q_xy, self._q_grid.q_z)

    @cached_property
    def _q_grid(self) -> QGrid:
        q_max = self.grid.q_max
        step = q_max / _Q_CELLS
        ranges = self._seen if self._stored else ((-q_max, q_max), (0.0, q_max))
        numbers = [round((high - low) / step) for low, high in ranges]
        q_xy, q_z = ((low, low + n * step) for (low, _), n in zip(ranges, numbers, strict=True))
        return QGrid(q_xy, q_z, (numbers[1] + 1, numbers[0] + 1))

    @cached_property
    def _seen(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return the range of q_xy and of q_z that the detector sees of the grid's circle."""
        q_max = self.grid.q_max
        rows, columns = np.meshgrid(*(np.linspace(0, n - 1, 65) for n in self.shape))
        q_xy, q_z = self.geometry.q_at(rows, columns)
        return (max(q_xy.min(), -q_max), min(q_xy.max(), q_max)), (0.0, min(q_z.max(), q_max))

    def _picture(self, grid: QGrid) -> GridMean:
        if grid not in self._pictures:
            self._pictures = {grid: self._average(grid)}
        return self._pictures[grid]

    @cached_property
    def sides(self) -> Sides:
        """Compares both sides of the beam; built at first use."""
        return Sides(self.geometry, self._valid, self.grid.q_max)

    def _average(self, grid: Grid) -> GridMean:
        return GridMean(self._footprint(grid), self._valid.shape, self._corrections, self.pixels)

    def _footprint(self, grid: Grid) -> Footprint:
        decides = (self.geometry, grid, self._horizon, _deciding(self._corrections))
        kept = StoredMaps(decides, self._valid) if self._stored else None
        if kept is not None and (found := kept.load()) is not None:
            return found
        centers = [self.geometry.pixel_at(*center) for center in grid.centers()]
        scale = _correction(self.geometry, centers, self._corrections)
        built = Footprint.build(
            self.geometry, grid, centers, self._valid, scale, horizon=self._horizon
        )
        if kept is not None:
            kept.store(built)
        return built


def _on_axes(image: RemappedImage, q_xy: Float64, q_z: Float64) -> CartesianImage:
    return CartesianImage(image.intensity, image.variance, image.pixels, q_xy=q_xy, q_z=q_z)


def _deciding(corrections: CorrectionSettings) -> tuple[object, ...]:
    """Return what `_correction` reads."""
    return (
        corrections.solid_angle,
        corrections.polarization,
        corrections.air_attenuation_per_m,
        corrections.sensor_transmission,
    )


def _correction(
    geometry: Geometry,
    centers: Sequence[tuple[Float64, Float64]],
    settings: CorrectionSettings,
) -> Float32:
    """Return what multiplies the counts of each cell, (rows, columns); 1 where out of reach.

    Taken at the cells' centres, as all of it changes slowly over the detector; the sides of a
    folded grid are averaged, they differ only by the detector's tilt.
    """
    factors = [1 / intensity_factor(geometry, *center, settings) for center in centers]
    mean = np.mean(factors, axis=0)
    return np.where(np.isfinite(mean), mean, 1).astype(np.float32)
