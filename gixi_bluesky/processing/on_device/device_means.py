"""The mean of a frame's pixels over the cells of a grid, with its variance, on a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own idiom

from gixi_bluesky.errors import FrameError
from gixi_bluesky.processing.geometry.array_orientation import Orientation
from gixi_bluesky.processing.on_device.frames import DeviceFrame
from gixi_bluesky.processing.pixels.counts import PixelCorrection
from gixi_bluesky.processing.pixels.noise import Noise, sampled
from gixi_bluesky.processing.remap.cell_noise import Lacking, Spread
from gixi_bluesky.processing.remap.footprint import Footprint, enough
from gixi_bluesky.processing.remap.grid_means import GridMean

__all__ = ["DeviceImage", "DeviceMean"]

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DeviceImage:
    """A frame on a grid as `RemappedImage`, on a device; pixel counts are on the CPU."""

    intensity: Tensor
    variance: Tensor
    pixels: Float32
    noise: Noise

    def over(self, monitor: float) -> Self:
        """Return the image divided by the beam's intensity, which is taken as exact."""
        divisor = float(np.float32(monitor))
        return replace(
            self,
            intensity=self.intensity / divisor,
            variance=self.variance / float(np.float32(monitor) ** 2),
        )


class _Product:
    """The weights of a footprint on a device, for frames of its layout.

    The sum of a cell is that of an embedding bag: like a sparse product it reads each weight once
    and stores no products, and unlike a GPU's it adds in the same order every time.
    """

    def __init__(self, footprint: Footprint, device: torch.device) -> None:
        both = sparse.hstack([footprint.pixels, footprint.blocks], format="csr")
        self._pixels, self._ends, self._weights, self._places = (
            torch.from_numpy(np.ascontiguousarray(array)).to(device)
            for array in (
                both.indices.astype(np.int32, copy=False),
                both.indptr.astype(np.int32, copy=False),
                both.data,
                footprint.places,
            )
        )
        self._even, self._blocks = footprint.whole_blocks, footprint.blocks.shape[1]

    def means(self, window: Tensor) -> Tensor:
        """Return the scaled mean of each cell, (grid rows, columns), as `Footprint.means` does.

        window: float32, in memory order
        """
        halved = F.avg_pool2d(window[self._even][None], 2).reshape(-1)
        halved = F.pad(halved, (0, self._blocks - len(halved)))
        values = torch.cat([window.reshape(-1), halved])
        means = F.embedding_bag(
            self._pixels,
            values[:, None],
            self._ends,
            mode="sum",
            per_sample_weights=self._weights,
            include_last_offset=True,
        )
        return means[:, 0][self._places]


@dataclass(frozen=True, slots=True)
class _Maps:
    """The maps of one footprint on a device.

    weight, full_weight, scale: as of `Footprint`; whole: for frames that lack no pixel
    """

    product: _Product
    weight: Tensor
    full_weight: Tensor
    scale: Tensor
    whole: Lacking[Tensor]

    @classmethod
    def of(cls, footprint: Footprint, device: torch.device) -> _Maps:
        weight, full_weight, scale, unit_variance = (
            torch.from_numpy(array).to(device)
            for array in (
                footprint.weight,
                footprint.full_weight,
                footprint.scale,
                footprint.unit_variance,
            )
        )
        whole = Lacking(None, unit_variance, unit_variance / scale, footprint.weight)
        return cls(_Product(footprint, device), weight, full_weight, scale, whole)


class DeviceMean:
    """The mean of a frame's pixels over the cells of one grid, as `GridMean` has it, on a device.

    The maps are those of the `GridMean`; they reach the device once for each layout of frames.
    Keeps what the last frame lacked: not for several threads at once.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._footprint: Footprint | None = None
        self._maps: _Maps
        self._last: tuple[Tensor, Lacking[Tensor]] | None = None
        self._spread: tuple[PixelCorrection, Spread[Tensor]] | None = None

    def __call__(self, mean: GridMean, frame: DeviceFrame) -> DeviceImage:
        """Return the frame on the grid; FrameError for one without data there.

        mean: the same every time, and not kept, so that the maps leave with it
        """
        footprint = self._laid(mean, frame.layout)
        columns = slice(0, frame.shape[1])
        window = frame.layout.within(footprint.window, columns, frame.shape)
        intensity = self._maps.product.means(frame.counts[window])
        lacking = self._maps.whole
        if frame.lacking is not None:
            lacking = self._without(frame.lacking[window])
        if lacking.share is not None:
            intensity = intensity / lacking.share
        noise = Noise.of_frame(
            mean.corrections,
            _sampled(intensity),
            _sampled(lacking.unit_variance),
            integer=frame.integer,
            exposures=frame.exposures,
        )
        per_count, unit_variance = lacking.per_count, lacking.unit_variance
        if frame.pixels is not None and mean.spreads(integer=frame.integer):
            spread = self._spread_of(frame.pixels, footprint)
            variance = spread.variance(noise, intensity, per_count, unit_variance, frame.exposures)
        else:
            variance = noise.variance(intensity, per_count, unit_variance)
        return DeviceImage(intensity, variance, lacking.pixels, noise)

    def _laid(self, mean: GridMean, layout: Orientation) -> Footprint:
        if self._footprint is None or self._footprint.layout != layout:
            self._footprint = mean.footprint.laid(layout)
            self._maps = _Maps.of(self._footprint, self._device)
            self._last = self._spread = None
        return self._footprint

    def _without(self, lacking: Tensor) -> Lacking[Tensor]:
        """Return what changes when pixels (memory order) lack; gaps stay, so the last is kept."""
        if self._last is None or not torch.equal(lacking, self._last[0]):
            maps = self._maps
            share = maps.product.means((~lacking).float()) / maps.scale
            data = enough(maps.weight * share, maps.full_weight)
            share = torch.where(data, share, torch.nan)
            pixels = torch.nan_to_num(maps.weight * share).cpu().numpy()
            if not pixels.any():
                message = "no pixel on the grid is data: all are masked, gaps or not finite"
                raise FrameError(message)
            unit_variance = maps.whole.unit_variance / share
            without = Lacking(share, unit_variance, unit_variance / maps.scale, pixels)
            self._last = lacking.clone(), without
        return self._last[1]

    def _spread_of(self, pixels: PixelCorrection, footprint: Footprint) -> Spread[Tensor]:
        if self._spread is None or self._spread[0] is not pixels:
            on_host = Spread.of(pixels, footprint)
            parts = (on_host.per_count, on_host.unit, on_host.dark, on_host.dark_variance)
            tensors = [torch.from_numpy(part).to(self._device) for part in parts]
            self._spread = pixels, Spread(*tensors)
        return self._spread[1]


def _sampled(image: Tensor) -> Callable[[], tuple[Float32, ...]]:
    def on_host() -> tuple[Float32, ...]:
        return tuple(part.cpu().numpy() for part in sampled(image))

    return on_host
