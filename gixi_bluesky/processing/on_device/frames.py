"""Raw frames on a device: outliers, dark, flat, saturation and what is no data."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gixi_bluesky.processing.geometry.array_orientation import Orientation
from gixi_bluesky.processing.on_device.transfers import Transfers
from gixi_bluesky.processing.pixels.counts import PixelCorrection
from gixi_bluesky.processing.pixels.outliers import Outliers

__all__ = ["DeviceFrame", "DeviceFrames"]

# Torch does not index or compare every unsigned type; numbers are the same in the wider one.
_WIDER = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.float64}


@dataclass(frozen=True, slots=True)
class DeviceFrame:
    """The counts of one frame on a device, in memory order: `layout` turns them.

    counts: float32, after dark and flat; 0 where there is no data
    lacking: bool, where there is none; None if all is there
    shape: (rows, columns) after `layout`; integer: whether the detector counts in whole numbers
    exposures: how many the frame is the sum of
    pixels: the correction that was made
    """

    counts: Tensor
    lacking: Tensor | None
    layout: Orientation
    shape: tuple[int, int]
    integer: bool
    exposures: int
    pixels: PixelCorrection | None


class DeviceFrames:
    """Brings frames to a device, each once and in its own dtype.

    Keeps the dark and flat of the last correction there: not for several threads at once.
    """

    def __init__(self, device: torch.device, dummy: tuple[float, ...]) -> None:
        self._device, self._dummy = device, dummy
        self.transfers = Transfers(device)
        self._laid: tuple[PixelCorrection, Orientation, Tensor, Tensor] | None = None

    def upload(self, turned: NDArray[Any]) -> Tensor:
        """Return the memory of a frame after `orient` on the device; the copy goes on meanwhile."""
        memory = Orientation.of_memory(turned).inverse.apply(turned)
        if memory.dtype.itemsize > np.dtype(np.float64).itemsize:  # no torch dtype
            memory = memory.astype(np.float64)
        return self.transfers.up(memory)

    def corrected(
        self,
        raw: Tensor,
        turned: NDArray[Any],
        outliers: Outliers,
        pixels: PixelCorrection | None,
        exposures: int,
    ) -> DeviceFrame:
        """Return the counts of an uploaded frame, as `PixelCorrection` and `GridMean` have them.

        turned: the frame on the host, of which dtype and layout are read
        """
        layout = Orientation.of_memory(turned)
        values = raw.to(_WIDER.get(raw.dtype, raw.dtype))
        if len(outliers):
            place = layout.place(outliers.rows, outliers.columns, turned.shape)
            values[tuple(self._there(index) for index in place)] = self._there(outliers.values).to(
                values.dtype
            )
        counts = values.to(torch.float32)
        integer = turned.dtype.kind in "iu"
        if integer:
            lacking = _marked(values, turned.dtype)
        elif pixels is None:
            lacking = _unknown(counts, self._dummy)
        else:
            lacking = _unknown(values, pixels.dummy)
        if pixels is not None:
            if pixels.saturation is not None and exposures == 1:
                lacking |= values >= _limit(pixels.saturation, turned.dtype)
            dark, inverse_flat = self._on_device(pixels, layout)
            counts = (counts - dark * float(exposures)) * inverse_flat
            lacking |= ~torch.isfinite(counts)
        whole = not bool(lacking.any())
        return DeviceFrame(
            counts if whole else torch.where(lacking, 0, counts),
            None if whole else lacking,
            layout,
            (turned.shape[0], turned.shape[1]),
            integer,
            exposures,
            pixels,
        )

    def _there(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.array(array, array.dtype.newbyteorder("="))).to(self._device)

    def _on_device(self, pixels: PixelCorrection, layout: Orientation) -> tuple[Tensor, Tensor]:
        """Return dark and 1 / flat in memory order."""
        if self._laid is None or self._laid[0] is not pixels or self._laid[1] != layout:
            laid = (layout.inverse.apply(one) for one in (pixels.dark, pixels.inverse_flat))
            dark, inverse_flat = (self._there(one) for one in laid)
            self._laid = pixels, layout, dark, inverse_flat
        return self._laid[2], self._laid[3]


def _marked(values: Tensor, dtype: np.dtype[Any]) -> Tensor:
    """Return which pixels of an integer frame are no data, as `invalid_pixels` does."""
    lacking = values == np.iinfo(dtype).max
    if dtype.kind == "i":
        lacking |= values < 0
    return lacking


def _unknown(values: Tensor, dummy: tuple[float, ...]) -> Tensor:
    """Return which pixels of a float frame are no data, as `invalid_pixels` does."""
    lacking = ~torch.isfinite(values)
    for value in dummy:
        lacking |= values == value
    return lacking


def _limit(saturation: float, dtype: np.dtype[Any]) -> float:
    """Return the limit as a number of the dtype, as torch would compare integers as float32."""
    return saturation if dtype.kind == "f" else min(ceil(saturation), np.iinfo(dtype).max)
