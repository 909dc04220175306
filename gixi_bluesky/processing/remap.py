"""From detector frames to images in reciprocal space, with variance and pixel counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import FrameError, GeometryError
from gixi_bluesky.processing.footprint import Footprint
from gixi_bluesky.processing.geometry import Geometry
from gixi_bluesky.processing.grids import Grid, PolarGrid, QGrid
from gixi_bluesky.processing.masks import invalid_pixels, require_image
from gixi_bluesky.processing.noise import Noise
from gixi_bluesky.processing.orientation import Orientation
from gixi_bluesky.processing.settings import CorrectionSettings, GridSettings
from gixi_bluesky.processing.types import PolarImage, RemappedImage

__all__ = ["QImage", "Remapper"]

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class QImage(RemappedImage):
    """A frame on (q_z, q_xy); row 0 is the lowest q_z.

    q_xy: (columns,) float64, signed, 1/angstrom
    q_z: (rows,) float64, 1/angstrom
    """

    q_xy: Float64
    q_z: Float64


class Remapper:
    """Averages frames of one geometry over the cells of the polar grid; built once, then cheap.

    shape: (rows, columns) of the frames after `orient`; mask: the same shape, True = masked.
    Raises GeometryError for a grid beyond the wavelength's reach or off the detector.
    """

    def __init__(
        self,
        geometry: Geometry,
        grid: GridSettings,
        corrections: CorrectionSettings,
        shape: tuple[int, int],
        mask: Bool | None = None,
    ) -> None:
        geometry.require_q(grid.q_max_inv_angstrom)
        if mask is not None and mask.shape != tuple(shape):
            message = f"the mask has shape {mask.shape}; expected {tuple(shape)}, the frame's"
            raise GeometryError(message)
        self.geometry = geometry
        self.grid = PolarGrid(grid.q_max_inv_angstrom, grid.shape, grid.side)
        self.shape = (int(shape[0]), int(shape[1]))
        self._corrections = corrections
        self._horizon = grid.below_horizon == "mask"
        self._valid = np.ones(self.shape, bool) if mask is None else ~mask
        self._polar = _Average(geometry, self.grid, corrections, self._valid, self._horizon)
        self._pictures: dict[QGrid, _Average] = {}

    def __call__(self, frame: NDArray[Any]) -> PolarImage:
        """Return the polar image of one frame (rows, columns), after `orient`.

        Raises FrameError for a wrong shape or dtype and for a frame without data on the grid.
        """
        image = self._polar(frame)
        return PolarImage(
            image.intensity, image.variance, image.pixels, q=self.grid.q, phi=self.grid.phi
        )

    def q_map(
        self,
        frame: NDArray[Any],
        shape: tuple[int, int] = (512, 512),
        q_xy_range: tuple[float, float] | None = None,
        q_z_range: tuple[float, float] | None = None,
    ) -> QImage:
        """Return the same frame on (q_z, q_xy), both signs of q_xy, for the picture.

        The ranges default to what the detector sees of the polar grid's circle.
        """
        q_max = self.grid.q_max
        if q_xy_range is None or q_z_range is None:
            rows, columns = np.meshgrid(*(np.linspace(0, n - 1, 65) for n in self.shape))
            q_xy, q_z = self.geometry.q_at(rows, columns)
            q_xy_range = q_xy_range or (max(q_xy.min(), -q_max), min(q_xy.max(), q_max))
            q_z_range = q_z_range or (0.0, min(q_z.max(), q_max))
        grid = QGrid(q_xy_range, q_z_range, shape)
        if grid not in self._pictures:
            self._pictures = {
                grid: _Average(self.geometry, grid, self._corrections, self._valid, self._horizon)
            }
        image = self._pictures[grid](frame)
        return QImage(image.intensity, image.variance, image.pixels, q_xy=grid.q_xy, q_z=grid.q_z)


class _Average:
    """The weighted mean over one grid; knows the pixels that the last frame lacked."""

    def __init__(
        self,
        geometry: Geometry,
        grid: Grid,
        corrections: CorrectionSettings,
        valid: Bool,
        horizon: bool,
    ) -> None:
        self._corrections = corrections
        self._footprint = Footprint.build(geometry, grid, valid, horizon=horizon)
        self._correction = _correction(geometry, grid, corrections)
        self._whole = self._scales(self._footprint.weight())
        if not self._whole.pixels.any():
            message = (
                "no cell of the grid is data: the detector sees none of it, or all is masked; "
                "check beam centre, flip, q_max, side and mask"
            )
            raise GeometryError(message)
        self._lacking = np.empty(0, np.int64)
        self._scaled = self._whole

    def __call__(self, frame: NDArray[Any]) -> RemappedImage:
        frame = require_image(np.asarray(frame))
        if frame.shape != self._footprint.detector_shape:
            message = (
                f"the frame is {frame.shape[0]} x {frame.shape[1]} pixels after turning; "
                f"expected {self._footprint.detector_shape[0]} x "
                f"{self._footprint.detector_shape[1]}"
            )
            raise FrameError(message)
        layout = _layout(frame)
        if layout != self._footprint.layout:
            self._footprint = self._footprint.laid(layout)
            self._lacking = np.empty(0, np.int64)
            self._scaled = self._whole
        memory = np.ascontiguousarray(layout.inverse.apply(frame))
        sums, scales = self._sums(memory)
        return self._image(sums, scales, integer=frame.dtype.kind in "iu")

    def _sums(self, memory: NDArray[Any]) -> tuple[Float32, _Scales]:
        """Return the sum of each cell's data and what turns sums into means."""
        if memory.dtype.kind == "f":
            with np.errstate(over="ignore"):  # beyond float32 is infinite, hence no data
                counts = memory.astype(np.float32, copy=False)
            if not self._corrections.dummy:
                sums = self._footprint.sums(counts)
                # A NaN or an infinity in any pixel that counts shows in the total.
                if np.isfinite(sums.sum()):
                    return sums, self._whole
            lacking = invalid_pixels(counts, self._corrections.dummy)
        else:
            low, high = memory.min(), memory.max()
            counts = memory.astype(np.float32)
            if low >= 0 and high < np.iinfo(memory.dtype).max:
                return self._footprint.sums(counts), self._whole
            lacking = invalid_pixels(memory)
        scales = self._scales_without(lacking)
        return self._footprint.sums(np.where(lacking, np.float32(0), counts)), scales

    def _scales_without(self, lacking: Bool) -> _Scales:
        """Return the scales when pixels (memory order) lack; gaps stay, so the last are kept."""
        where = np.flatnonzero(lacking)
        if not np.array_equal(where, self._lacking):
            scaled = self._scales(self._footprint.weight(~lacking))
            if not scaled.pixels.any():
                message = "no pixel on the grid is data: all are masked, gaps or not finite"
                raise FrameError(message)
            self._lacking, self._scaled = where, scaled
        return self._scaled

    def _scales(self, weight: Float32) -> _Scales:
        with np.errstate(divide="ignore", invalid="ignore"):
            per_weight = np.where(weight > 0, 1 / weight, np.nan).astype(np.float32)
            # Pixels that lack take their share of the squares with them.
            full = self._footprint.weight()
            squares = self._footprint.squares * np.where(full > 0, weight / full, 0)
        scale = per_weight * self._correction
        weight.setflags(write=False)
        return _Scales(scale, (squares * scale * scale).astype(np.float32), weight)

    def _image(self, sums: Float32, scales: _Scales, *, integer: bool) -> RemappedImage:
        intensity = sums * scales.mean
        noise = Noise.of_frame(self._corrections, intensity, scales.unit_variance, integer=integer)
        variance = noise.variance(intensity, scales.unit_variance, 1 / self._correction)
        return RemappedImage(intensity, variance, scales.pixels)


@dataclass(frozen=True, slots=True)
class _Scales:
    """What turns a cell's sum into its mean; NaN where the cell is no data.

    mean: corrected mean per sum; unit_variance: variance of the corrected mean if every raw
    pixel's were 1; pixels: weight in pixels, 0 where no data; each (rows, columns) float32
    """

    mean: Float32
    unit_variance: Float32
    pixels: Float32


def _correction(geometry: Geometry, grid: Grid, settings: CorrectionSettings) -> Float32:
    """Return what multiplies the counts of each cell, (rows, columns); 1 where out of reach.

    Taken at the cells' centres, where solid angle and polarisation change slowly; the sides of a
    folded grid are averaged, they differ only by the detector's tilt.
    """
    factors = []
    for q_xy, q_z in grid.centers():
        rows, columns = geometry.pixel_at(q_xy, q_z)
        factor = np.ones(grid.shape)
        if settings.solid_angle:
            factor *= geometry.solid_angle_factor(rows, columns)
        if settings.polarization is not None:
            factor *= geometry.polarization_factor(rows, columns, settings.polarization)
        factors.append(1 / factor)
    mean = np.mean(factors, axis=0)
    return np.where(np.isfinite(mean), mean, 1).astype(np.float32)


def _layout(frame: NDArray[Any]) -> Orientation:
    """Return how the frame's memory became its rows and columns, so that no flip is copied."""
    rows, columns = frame.strides
    return Orientation(abs(rows) < abs(columns), rows < 0, columns < 0)
