"""The maps of all configured cuts for frames of one geometry; built once, then cheap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import FrameError, GeometryError
from gixi_bluesky.processing.cuts.bins import Bins, Strip, edges_of
from gixi_bluesky.processing.cuts.coordinates import PixelCoordinates
from gixi_bluesky.processing.cuts.settings import UNITS, CutSettings
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.geometry.intensity_factors import intensity_factor
from gixi_bluesky.processing.pixels.counts import PixelCorrection
from gixi_bluesky.processing.pixels.masks import invalid_pixels, require_image
from gixi_bluesky.processing.pixels.noise import Noise
from gixi_bluesky.processing.settings import CorrectionSettings, GridSettings
from gixi_bluesky.processing.types import Cut

__all__ = ["CutMaps"]

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_ALL_PHI = (0.0, 90.0)


@dataclass(frozen=True, slots=True)
class _CutMap:
    """One cut: its bins, the strip of pixels under it and those of its background."""

    settings: CutSettings
    bins: Bins
    strip: Strip
    background: tuple[tuple[float, Strip], ...]


@dataclass(frozen=True, slots=True)
class _Counts:
    """One frame with its noise, flat; no data is zero.

    lacking: which pixels are no data, None if all are; variance: None = that of the counts alone
    """

    values: Float32
    lacking: Bool | None
    variance: Float32 | None
    noise: Noise


@dataclass(frozen=True, slots=True)
class _Lacking:
    """The pixels that the last frame lacked; gaps stay, so they are kept.

    pixels: (rows, columns); number, factor, area: of each pixel, flat, 0 where it is data
    """

    pixels: Bool
    number: Float32
    factor: Float32
    area: Float32


class CutMaps:
    """Averages frames of one geometry along the configured cuts, each pixel once.

    shape: (rows, columns) of frames after `orient`; valid: the same shape, True = usable
    pixels: what is done to each pixel first
    changing: the geometry differs from frame to frame, the bins are the same all the same
    Raises GeometryError for a cut of which the detector sees nothing.
    """

    def __init__(
        self,
        cuts: Mapping[str, CutSettings],
        geometry: Geometry,
        grid: GridSettings,
        corrections: CorrectionSettings,
        valid: Bool,
        pixels: PixelCorrection | None = None,
        *,
        changing: bool = False,
    ) -> None:
        self._shape = valid.shape
        self._dummy = () if pixels is not None else corrections.dummy
        self._corrections = corrections
        self._pixels = pixels
        rows, columns = np.mgrid[: valid.shape[0], : valid.shape[1]]
        factor = intensity_factor(geometry, rows, columns, corrections)
        self._factor = factor.astype(np.float32)
        coordinates = PixelCoordinates.of(geometry, valid.shape, grid.below_horizon)
        self._area = coordinates.area.astype(np.float32)
        self._lacking: _Lacking | None = None
        self._maps: dict[str, _CutMap] = {}
        for name, settings in cuts.items():
            side = settings.side or grid.side
            edges = edges_of(
                settings,
                side,
                coordinates,
                grid.q_max_inv_angstrom,
                grid.shape[1],
                changing=changing,
            )

            def strip(
                across: tuple[float, float],
                settings: CutSettings = settings,
                side: str = side,
                edges: Float64 = edges,
            ) -> Strip:
                bins, horizon = Bins(edges, across), geometry.horizon_q_z
                lowest = horizon if grid.below_horizon == "mask" else -np.inf
                return Strip.of(settings, bins, side, coordinates, valid, self._factor, lowest)

            across = settings.across_range or _ALL_PHI
            try:
                self._maps[name] = _CutMap(
                    settings,
                    Bins(edges, across),
                    strip(across),
                    tuple((sum(part) / 2, strip(part)) for part in settings.background),
                )
            except GeometryError as error:
                message = f"the cut {name!r} is empty: {error}; check its ranges, side and mask"
                raise GeometryError(message) from error

    def __call__(
        self,
        frame: NDArray[Any],
        noise: Noise,
        pixels: PixelCorrection | None = None,
        exposures: int = 1,
    ) -> dict[str, Cut]:
        """Return the curves of one frame (rows, columns), after `orient`, by the cuts' names.

        noise: of one pixel, as the polar image was given it
        pixels: instead of those that it was built with; exposures: how many the frame sums
        Raises FrameError for a wrong shape or dtype.
        """
        frame = require_image(np.asarray(frame))
        if frame.shape != self._shape:
            message = f"the frame has shape {frame.shape} after turning; expected {self._shape}"
            raise FrameError(message)
        counts = self._counts(frame, noise, pixels or self._pixels, exposures)
        return {name: self._cut(name, one, counts) for name, one in self._maps.items()}

    def _counts(
        self, frame: NDArray[Any], noise: Noise, pixels: PixelCorrection | None, exposures: int
    ) -> _Counts:
        corrected = frame if pixels is None else pixels(frame, exposures)
        variance = None if pixels is None else pixels.variance(frame, noise, exposures)
        with np.errstate(over="ignore"):  # beyond float32 is infinite, hence no data
            values = np.ascontiguousarray(corrected, dtype=np.float32)
        lacking = None
        if self._dummy or not _whole(corrected, values):
            lacking = invalid_pixels(corrected, self._dummy)
            values = np.where(lacking, np.float32(0), values)
            variance = None if variance is None else np.where(lacking, np.float32(0), variance)
        return _Counts(values.ravel(), lacking, _flat(variance), noise)

    def _cut(self, name: str, one: _CutMap, counts: _Counts) -> Cut:
        intensity, error, n_pixels, coverage = self._means(one.strip, counts)
        if one.background:
            low, variance = self._background(one, counts)
            intensity = intensity - low
            error = np.sqrt(error**2 + variance)
        along, axis = one.settings.along, one.bins.centers
        return Cut(name, along, UNITS[along], axis, intensity, error, n_pixels, coverage)

    def _means(
        self, strip: Strip, counts: _Counts
    ) -> tuple[Float64, Float64, NDArray[np.int64], Float64]:
        n_pixels, norm, area = strip.n_pixels, strip.norm, strip.area
        if counts.lacking is not None:
            gone, gone_norm, gone_area = self._gone(strip, counts.lacking)
            n_pixels, norm, area = n_pixels - gone, norm - gone_norm, area - gone_area
        seen = n_pixels > 0
        total = strip.total(counts.values)
        if counts.variance is None:
            variance = counts.noise.gain * np.maximum(total, 0) + counts.noise.floor * n_pixels
        else:
            variance = strip.total(counts.variance)
        with np.errstate(divide="ignore", invalid="ignore"):
            intensity = np.where(seen, total / norm, np.nan)
            error = np.where(seen, np.sqrt(variance) / norm, np.nan)
            coverage = np.clip(np.nan_to_num(area / strip.full_area, posinf=0.0), 0.0, 1.0)
        return intensity, error, n_pixels, coverage

    def _gone(self, strip: Strip, lacking: Bool) -> tuple[NDArray[np.int64], Float64, Float64]:
        """Return how many pixels a frame lacks in each bin, with their factors and areas."""
        if self._lacking is None or not np.array_equal(lacking, self._lacking.pixels):
            gone = lacking.astype(np.float32)
            factor, area = gone * self._factor, gone * self._area
            self._lacking = _Lacking(lacking, gone.ravel(), factor.ravel(), area.ravel())
        one = self._lacking
        number = np.rint(strip.total(one.number)).astype(np.int64)
        return number, strip.total(one.factor), strip.total(one.area)

    def _background(self, one: _CutMap, counts: _Counts) -> tuple[Float64, Float64]:
        """Return the background under the cut and its variance; one side where the other lacks."""
        places = np.array([place for place, _ in one.background])
        means = [self._means(strip, counts)[:2] for _, strip in one.background]
        levels, errors = (np.array(values) for values in zip(*means, strict=True))
        weights = np.ones_like(levels) / len(levels)
        if len(places) == 2:
            centre = sum(one.bins.across) / 2
            right = (centre - places[0]) / (places[1] - places[0])
            weights = np.broadcast_to(np.array([[1 - right], [right]]), levels.shape)
        known = np.isfinite(levels)
        weights = np.where(known.all(axis=0), weights, known.astype(float))
        nothing = ~known.any(axis=0)
        level = np.where(nothing, np.nan, (weights * np.nan_to_num(levels)).sum(axis=0))
        return level, (weights**2 * np.nan_to_num(errors) ** 2).sum(axis=0)


def _whole(frame: NDArray[Any], values: Float32) -> bool:
    """Return whether every pixel of a frame is data, without a search; `values`: its counts."""
    if frame.dtype.kind == "f":
        return bool(np.isfinite(values.sum(dtype=np.float64)))
    # Negative numbers are beyond the signed maximum when read as unsigned.
    highest = frame.view(frame.dtype.str.replace("i", "u")).max()
    return bool(highest < np.iinfo(frame.dtype).max)


def _flat(values: Float32 | None) -> Float32 | None:
    return None if values is None else values.ravel()
