"""From detector frames to images in reciprocal space, with variance and pixel counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import FrameError, GeometryError
from gixi_bluesky.processing.geometry.array_orientation import Orientation
from gixi_bluesky.processing.geometry.grids import CartesianGrid, Grid, PolarGrid, QGrid
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.geometry.intensity_factors import intensity_factor
from gixi_bluesky.processing.pixels.counts import PixelCorrection
from gixi_bluesky.processing.pixels.masks import invalid_pixels, require_image
from gixi_bluesky.processing.pixels.noise import Noise
from gixi_bluesky.processing.remap.footprint import Footprint
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
        self._polar = self._average(self.grid)
        self._cartesian: tuple[CartesianGrid, _Average] | None = None
        if grid.space == "cartesian":
            searched = CartesianGrid(self.grid.q_max, self.grid.shape, self.grid.side, mirror)
            self._cartesian = searched, self._average(searched)
        self._pictures: dict[QGrid, _Average] = {}

    def __call__(
        self, frame: NDArray[Any], pixels: PixelCorrection | None = None, exposures: int = 1
    ) -> PolarImage:
        """Return the polar image of one frame (rows, columns), after `orient`.

        pixels: instead of those that it was built with; exposures: how many the frame sums
        Raises FrameError for a wrong shape or dtype and for a frame without data on the grid.
        """
        image, noise = self._polar(frame, pixels, exposures)
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
        if self._cartesian is None:
            return None
        grid, average = self._cartesian
        image, _ = average(frame, pixels, exposures)
        return CartesianImage(
            image.intensity, image.variance, image.pixels, q_xy=grid.q, q_z=grid.q_z
        )

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
        return self._on(grid, frame, None, 1)

    def q_image(
        self, frame: NDArray[Any], pixels: PixelCorrection | None = None, exposures: int = 1
    ) -> CartesianImage:
        """Return the frame on (q_z, q_xy), both signs of q_xy, as it is stored.

        The cells are square, 1/512 of the polar grid's reach wide. Where the geometry changes
        from frame to frame, the range is that of the polar grid, else what the detector sees.
        """
        return self._on(self._q_grid, frame, pixels, exposures)

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

    def _on(
        self,
        grid: QGrid,
        frame: NDArray[Any],
        pixels: PixelCorrection | None,
        exposures: int,
    ) -> CartesianImage:
        if grid not in self._pictures:
            self._pictures = {grid: self._average(grid)}
        image, _ = self._pictures[grid](frame, pixels, exposures)
        return CartesianImage(
            image.intensity, image.variance, image.pixels, q_xy=grid.q_xy, q_z=grid.q_z
        )

    @cached_property
    def sides(self) -> Sides:
        """Compares both sides of the beam; built at first use."""
        return Sides(self.geometry, self._valid, self.grid.q_max)

    def _average(self, grid: Grid) -> _Average:
        return _Average(self._footprint(grid), self._valid.shape, self._corrections, self.pixels)

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


class _Average:
    """The weighted mean over one grid; keeps the pixels that the last frame lacked.

    Not for several threads at once.
    """

    def __init__(
        self,
        footprint: Footprint,
        shape: tuple[int, ...],
        corrections: CorrectionSettings,
        pixels: PixelCorrection | None,
    ) -> None:
        self._footprint, self._shape = footprint, shape
        self._corrections = corrections
        self._pixels = pixels
        self._dummy = () if pixels is not None else corrections.dummy
        if not self._footprint.weight.any():
            message = (
                "no cell of the grid is data: the detector sees none of it, or all is masked; "
                "check beam centre, flip, q_max, side and mask"
            )
            raise GeometryError(message)
        self._whole = _Lacking(
            np.empty(0, np.int64),
            None,
            self._footprint.unit_variance,
            self._footprint.unit_variance / self._footprint.scale,
            self._footprint.weight,
        )
        self._last = self._whole
        self._spread: _Spread | None = None
        # Kept from frame to frame: new memory of this size costs more than what is done in it.
        self._counts = np.empty((0, 0), np.float32)
        self._halved = np.empty((0, 0), np.float32)

    def __call__(
        self, frame: NDArray[Any], pixels: PixelCorrection | None = None, exposures: int = 1
    ) -> tuple[RemappedImage, Noise]:
        frame = require_image(np.asarray(frame))
        if frame.shape != self._shape:
            message = f"the frame has shape {frame.shape} after turning; expected {self._shape}"
            raise FrameError(message)
        integer = frame.dtype.kind in "iu"
        if pixels is not None and pixels is not self._pixels:
            self._pixels, self._spread = pixels, None
        if self._pixels is not None:
            frame = self._pixels(frame, exposures)
        layout = Orientation.of_memory(frame)
        if layout != self._footprint.layout:
            self._footprint = self._footprint.laid(layout)
            self._last = self._whole
        window = layout.inverse.apply(frame[self._footprint.window])
        means, lacking = self._means(np.ascontiguousarray(window))
        intensity = np.take(means, self._footprint.places, mode="clip")  # "raise" is twice slower
        if lacking.share is not None:
            intensity /= lacking.share
        noise = Noise.of_frame(
            self._corrections,
            intensity,
            lacking.unit_variance,
            integer=integer,
            exposures=exposures,
        )
        per_count, unit_variance = lacking.per_count, lacking.unit_variance
        # Noise that was estimated is that of corrected counts already.
        if self._pixels is not None and (integer or self._corrections.gain is not None):
            if self._spread is None:
                self._spread = _Spread.of(self._pixels, self._footprint)
            variance = self._spread.variance(noise, intensity, per_count, unit_variance, exposures)
        else:
            variance = noise.variance(intensity, per_count, unit_variance)
        return RemappedImage(intensity, variance, lacking.pixels), noise

    def _means(self, window: NDArray[Any]) -> tuple[Float32, _Lacking]:
        """Return the mean of each matrix row and what the frame lacks."""
        if window.dtype.kind == "f":
            with np.errstate(over="ignore"):  # beyond float32 is infinite, hence no data
                counts = window.astype(np.float32, copy=False)
            if not self._dummy:
                means = self._mean_of(counts)
                # A NaN or an infinity in any pixel that counts shows in the total.
                if np.isfinite(means[:-1].sum()):
                    return means, self._whole
            lacking = invalid_pixels(counts, self._dummy)
        else:
            if self._counts.shape != window.shape:
                self._counts = np.empty(window.shape, np.float32)
            counts = self._counts
            np.copyto(counts, window, casting="unsafe")
            # Negative numbers are beyond the signed maximum when read as unsigned.
            highest = window.view(window.dtype.str.replace("i", "u")).max()
            if highest < np.iinfo(window.dtype).max:
                return self._mean_of(counts), self._whole
            lacking = invalid_pixels(window)
        return self._mean_of(np.where(lacking, np.float32(0), counts)), self._without(lacking)

    def _mean_of(self, counts: Float32) -> Float32:
        shape = self._footprint.halved_shape
        if self._halved.shape != shape:
            self._halved = np.empty(shape, np.float32)
        return self._footprint.means(counts, self._halved)

    def _without(self, lacking: Bool) -> _Lacking:
        """Return what changes when pixels (memory order) lack; gaps stay, so the last is kept."""
        where = np.flatnonzero(lacking)
        if not np.array_equal(where, self._last.where):
            share = self._footprint.share(~lacking)
            pixels = np.nan_to_num(self._footprint.weight * share)
            if not pixels.any():
                message = "no pixel on the grid is data: all are masked, gaps or not finite"
                raise FrameError(message)
            # Pixels that lack take their share of the squared weights with them.
            unit_variance = self._footprint.unit_variance / share
            self._last = _Lacking(
                where, share, unit_variance, unit_variance / self._footprint.scale, pixels
            )
        return self._last


@dataclass(frozen=True, slots=True)
class _Lacking:
    """The maps of a footprint for frames that lack some pixels, each (grid rows, grid columns).

    where: (n,) flat pixels of the window that lack
    share: valid share of each cell's weight, NaN where it is no data; None if all is there
    unit_variance: variance of the mean if that of every pixel were 1
    per_count: variance of the mean per count, if a pixel's variance were its counts
    pixels: detector pixels per cell, 0 where no data
    """

    where: NDArray[np.int64]
    share: Float32 | None
    unit_variance: Float32
    per_count: Float32
    pixels: Float32


@dataclass(frozen=True, slots=True)
class _Spread:
    """The effect of dark and flat on the noise of each cell, (grid rows, grid columns).

    A pixel's variance is (gain · raw + floor + dark variance) / flat², raw = counts · flat + dark;
    each term is taken as the mean over the cell's pixels.

    per_count: 1 / flat; unit: 1 / flat²; dark: dark / flat², dark_variance: dark variance / flat²
    """

    per_count: Float32
    unit: Float32
    dark: Float32
    dark_variance: Float32

    @classmethod
    def of(cls, pixels: PixelCorrection, footprint: Footprint) -> _Spread:
        def mean(values: Float32) -> Float32:
            known = np.nan_to_num(values[footprint.window])
            window = np.ascontiguousarray(footprint.layout.inverse.apply(known))
            return np.take(footprint.means(window), footprint.places) / footprint.scale

        inverse = pixels.inverse_flat
        square = inverse * inverse
        return cls(
            mean(inverse),
            mean(square),
            mean(pixels.dark * square),
            mean(pixels.dark_variance * square),
        )

    def variance(
        self,
        noise: Noise,
        intensity: Float32,
        per_count: Float32,
        unit_variance: Float32,
        exposures: int,
    ) -> Float32:
        """Return the variance of each cell's mean, as `Noise.variance` does without correction.

        The same dark is taken off each exposure, so its own error grows with their number.
        """
        signal = noise.variance(intensity, per_count * self.per_count, unit_variance * self.unit)
        n = np.float32(exposures)
        extra = np.float32(noise.gain) * n * self.dark + n * n * self.dark_variance
        return signal + unit_variance * np.maximum(extra, 0)


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
