"""Several exposures added pixel by pixel, each judged by its own counts first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import FrameError
from gixi_bluesky.processing.pixels.masks import invalid_pixels, require_image
from gixi_bluesky.processing.settings import CorrectionSettings

__all__ = ["FrameSum"]

_MOST_COUNTS = 2**48  # of one pixel; what lies beyond would not stay exact


class FrameSum:
    """Adds frames; a pixel that is no data in one of them is none in the sum.

    Whole counts stay whole, int64 with -1 as no data, so that their noise is known; otherwise
    float64 with NaN. Saturation is that of a single exposure.
    """

    def __init__(self, settings: CorrectionSettings) -> None:
        self._settings = settings
        self._whole: NDArray[np.int64] | None = None
        self._real: NDArray[np.float64] | None = None
        self._lacking: NDArray[np.bool_] | None = None
        self.exposures = 0

    def add(self, frame: NDArray[Any]) -> None:
        """Add (rows, columns) counts; raises FrameError for no image or one of another shape."""
        frame = require_image(frame)
        if self._lacking is None:
            self._lacking = np.zeros(frame.shape, bool)
        if frame.shape != self._lacking.shape:
            message = f"got images of {frame.shape} and {self._lacking.shape} in one sum"
            raise FrameError(message)
        lacking = invalid_pixels(frame, self._settings.dummy)
        if self._settings.saturation is not None:
            lacking |= frame >= self._settings.saturation
        if frame.dtype.kind == "f":
            self._real = _plus(self._real, np.where(lacking, 0, frame))
        else:
            lacking |= frame > _MOST_COUNTS
            self._whole = _plus(self._whole, np.where(lacking, 0, frame).astype(np.int64))
        self._lacking |= lacking
        self.exposures += 1

    def result(self) -> NDArray[Any]:
        """Return the sum, (rows, columns); raises FrameError when nothing was added."""
        if self._real is not None and self._lacking is not None:
            return np.where(self._lacking, np.nan, _plus(self._whole, self._real))
        if self._whole is not None and self._lacking is not None:
            return np.where(self._lacking, np.int64(-1), self._whole)
        message = "got no image to sum; expected at least one"
        raise FrameError(message)


def _plus(total: NDArray[Any] | None, more: NDArray[Any]) -> NDArray[Any]:
    return more if total is None else total + more
