"""What frames of one size and one set of conditions have in common, from the settings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.geometry.conditions import Conditions
from gixi_bluesky.processing.geometry.instrument import Geometry, orientation_of
from gixi_bluesky.processing.pixels.counts import PixelCorrection
from gixi_bluesky.processing.pixels.masks import load_mask
from gixi_bluesky.processing.settings import CorrectionSettings, GeometrySettings

__all__ = ["FrameSetup"]


@dataclass(frozen=True, slots=True)
class FrameSetup:
    """The geometry, mask and pixel corrections of frames after `orient`.

    shape: (rows, columns)
    mask: (rows, columns), True = masked; None = no mask
    """

    geometry: Geometry
    shape: tuple[int, int]
    mask: NDArray[np.bool_] | None
    pixels: PixelCorrection | None

    @classmethod
    def of(
        cls,
        settings: GeometrySettings,
        corrections: CorrectionSettings,
        shape: tuple[int, int],
        conditions: Conditions | None = None,
    ) -> FrameSetup:
        """Read the files that the settings name; `shape` is that of the array as read.

        Raises GeometryError for files and values that cannot be used.
        """
        turn = orientation_of(settings)
        mask = None if settings.mask is None else turn.apply(load_mask(settings.mask, shape))
        geometry = Geometry.from_settings(settings, shape, conditions)
        if corrections.critical_angle_deg is not None:
            geometry = geometry.with_critical_angle(corrections.critical_angle_deg)
        pixels = PixelCorrection.from_settings(corrections, shape, turn.apply)
        return cls(geometry, turn.shape(shape), mask, pixels)

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(rows, columns), True where a pixel is not masked and its dark and flat are known."""
        valid = np.ones(self.shape, bool) if self.mask is None else ~self.mask
        return valid if self.pixels is None else valid & self.pixels.usable
