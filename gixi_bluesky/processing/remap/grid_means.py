"""The mean of a frame's pixels over the cells of a grid, with variance and pixel counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import FrameError, GeometryError
from gixi_bluesky.processing.geometry.array_orientation import Orientation
from gixi_bluesky.processing.pixels.counts import PixelCorrection
from gixi_bluesky.processing.pixels.masks import invalid_pixels, require_image
from gixi_bluesky.processing.pixels.noise import Noise, sampled
from gixi_bluesky.processing.remap.cell_noise import Lacking, Spread
from gixi_bluesky.processing.remap.footprint import Footprint
from gixi_bluesky.processing.settings import CorrectionSettings
from gixi_bluesky.processing.types import RemappedImage

__all__ = ["GridMean"]

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]


class GridMean:
    """The weighted mean of a frame's pixels over the cells of one grid, with its variance.

    shape: (rows, columns) of the frames after `orient`
    pixels: what is done to each pixel first; of the last frame
    Keeps what the last frame lacked: not for several threads at once.
    Raises GeometryError when no cell is data.
    """

    def __init__(
        self,
        footprint: Footprint,
        shape: tuple[int, ...],
        corrections: CorrectionSettings,
        pixels: PixelCorrection | None,
    ) -> None:
        self.footprint, self._shape = footprint, shape
        self.corrections = corrections
        self.pixels = pixels
        self._dummy = () if pixels is not None else corrections.dummy
        if not self.footprint.weight.any():
            message = (
                "no cell of the grid is data: the detector sees none of it, or all is masked; "
                "check beam centre, flip, q_max, side and mask"
            )
            raise GeometryError(message)
        self._whole: Lacking[Float32] = Lacking(
            None,
            self.footprint.unit_variance,
            self.footprint.unit_variance / self.footprint.scale,
            self.footprint.weight,
        )
        self._last = np.empty(0, np.int64), self._whole  # pixels that lacked, and what follows
        self._spread: Spread[Float32] | None = None
        # Kept from frame to frame: new memory of this size costs more than what is done in it.
        self._counts = np.empty((0, 0), np.float32)
        self._halved = np.empty((0, 0), np.float32)

    def __call__(
        self, frame: NDArray[Any], pixels: PixelCorrection | None = None, exposures: int = 1
    ) -> tuple[RemappedImage, Noise]:
        """Return the frame on the grid and its noise; FrameError as of `Remapper`."""
        frame = require_image(np.asarray(frame))
        if frame.shape != self._shape:
            message = f"the frame has shape {frame.shape} after turning; expected {self._shape}"
            raise FrameError(message)
        integer = frame.dtype.kind in "iu"
        if pixels is not None and pixels is not self.pixels:
            self.pixels, self._spread = pixels, None
        if self.pixels is not None:
            frame = self.pixels(frame, exposures)
        layout = Orientation.of_memory(frame)
        if layout != self.footprint.layout:
            self.footprint = self.footprint.laid(layout)
            self._last = np.empty(0, np.int64), self._whole
        window = layout.inverse.apply(frame[self.footprint.window])
        means, lacking = self._means(np.ascontiguousarray(window))
        intensity = np.take(means, self.footprint.places, mode="clip")  # "raise" is twice slower
        if lacking.share is not None:
            intensity /= lacking.share
        noise = Noise.of_frame(
            self.corrections,
            lambda: sampled(intensity),
            lambda: sampled(lacking.unit_variance),
            integer=integer,
            exposures=exposures,
        )
        per_count, unit_variance = lacking.per_count, lacking.unit_variance
        if self.pixels is not None and self.spreads(integer=integer):
            if self._spread is None:
                self._spread = Spread.of(self.pixels, self.footprint)
            variance = self._spread.variance(noise, intensity, per_count, unit_variance, exposures)
        else:
            variance = noise.variance(intensity, per_count, unit_variance)
        return RemappedImage(intensity, variance, lacking.pixels), noise

    def spreads(self, *, integer: bool) -> bool:
        """Return whether dark and flat spread the noise; an estimate has them in it already."""
        return integer or self.corrections.gain is not None

    def _means(self, window: NDArray[Any]) -> tuple[Float32, Lacking[Float32]]:
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
        shape = self.footprint.halved_shape
        if self._halved.shape != shape:
            self._halved = np.empty(shape, np.float32)
        return self.footprint.means(counts, self._halved)

    def _without(self, lacking: Bool) -> Lacking[Float32]:
        """Return what changes when pixels (memory order) lack; gaps stay, so the last is kept."""
        where = np.flatnonzero(lacking)
        if not np.array_equal(where, self._last[0]):
            share = self.footprint.share(~lacking)
            pixels = np.nan_to_num(self.footprint.weight * share)
            if not pixels.any():
                message = "no pixel on the grid is data: all are masked, gaps or not finite"
                raise FrameError(message)
            # Pixels that lack take their share of the squared weights with them.
            unit_variance = self.footprint.unit_variance / share
            per_count = unit_variance / self.footprint.scale
            self._last = where, Lacking(share, unit_variance, per_count, pixels)
        return self._last[1]
