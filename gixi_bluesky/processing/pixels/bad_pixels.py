"""Dead, hot and blinking pixels of a detector, found in some of its frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import FrameError
from gixi_bluesky.processing.pixels.masks import invalid_pixels, require_image
from gixi_bluesky.processing.pixels.outliers import outlying

__all__ = ["BadPixels", "PixelSurvey"]

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]

_SURE_OF_COUNTS = 20.0  # expected in a dead pixel over all frames; none comes by chance in e^-20
_FEWEST_FRAMES = 4  # needed to distinguish a blinking pixel from a steady one
_RESTLESS = 10.0  # variance of a blinking pixel over that of its surroundings


@dataclass(frozen=True, slots=True)
class BadPixels:
    """Unusable pixels, (rows, columns) each, as frames are read; no pixel is in two.

    absent: marked as no data in every frame; dead: without counts, unlike their neighbours
    hot: far above all neighbours; blinking: far more restless than its surroundings
    """

    absent: Bool
    dead: Bool
    hot: Bool
    blinking: Bool

    @property
    def mask(self) -> Bool:
        """(rows, columns), True = masked."""
        return self.absent | self.dead | self.hot | self.blinking

    def counts(self) -> dict[str, int]:
        """Return the number of pixels of each kind."""
        kinds = ("absent", "dead", "hot", "blinking")
        return {kind: int(np.count_nonzero(getattr(self, kind))) for kind in kinds}


class PixelSurvey:
    """Adds frames of one detector, then says which of its pixels are bad.

    Blinking pixels need four frames. Hot means far above the neighbours in the mean of all frames,
    by the rule of `without_outliers`.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._number = np.empty((0, 0), np.float32)
        self._sum = self._squares = np.empty((0, 0))

    def add(self, frame: NDArray[Any]) -> None:
        """Add (rows, columns) counts; raises FrameError for no image or one of another shape."""
        frame = require_image(frame)
        if not self.frames:
            self._number = np.zeros(frame.shape, np.float32)
            self._sum, self._squares = np.zeros(frame.shape), np.zeros(frame.shape)
        if frame.shape != self._number.shape:
            message = f"got images of {frame.shape} and {self._number.shape}; expected one shape"
            raise FrameError(message)
        valid = ~invalid_pixels(frame)
        counts = np.where(valid, frame, 0).astype(np.float64)
        self._number += valid
        self._sum += counts
        self._squares += counts * counts
        self.frames += 1

    def result(self) -> BadPixels:
        """Return the bad pixels; raises FrameError before any frame was added."""
        if not self.frames:
            message = "got no image; expected at least one"
            raise FrameError(message)
        absent = self._number == 0
        seen = np.maximum(self._number, 1)
        mean = np.where(absent, np.nan, self._sum / seen)
        level = _surroundings(mean.astype(np.float32))
        rows, columns = np.nonzero(~absent & (mean > 1.5 * level))
        blinking = self._blinking(~absent, mean, seen)
        hot = np.zeros_like(absent)
        hot[rows, columns] = outlying(mean, None, rows, columns)[0]
        hot &= ~blinking
        around = _surroundings(np.where(absent | hot, np.nan, mean).astype(np.float32))
        # Exactly zero in all frames: where zero is noise, as of flat panels, it is never so.
        dead = ~absent & (self._squares == 0) & (around * self._number > _SURE_OF_COUNTS)
        return BadPixels(absent, dead & ~blinking, hot, blinking)

    def _blinking(self, usable: Bool, mean: NDArray[np.float64], seen: Float32) -> Bool:
        if self.frames < _FEWEST_FRAMES:
            return np.zeros_like(usable)
        variance = (self._squares - self._sum**2 / seen) / np.maximum(seen - 1, 1)
        usable = usable & (self._number >= _FEWEST_FRAMES)
        around = _surroundings(np.where(usable, variance, np.nan).astype(np.float32))
        expected = np.maximum(around, np.nan_to_num(mean))
        return usable & (variance > _RESTLESS * np.maximum(expected, 1.0))


def _surroundings(image: Float32) -> Float32:
    """Return the median of 5 x 5 pixels, gaps filled by the mean of what is known there."""
    known = np.isfinite(image)
    filled = np.where(known, image, np.float32(0))
    share = cv2.blur(known.astype(np.float32), (5, 5))
    mean = cv2.blur(filled, (5, 5)) / np.maximum(share, np.float32(1e-6))
    return np.asarray(cv2.medianBlur(np.where(known, image, mean), 5))
