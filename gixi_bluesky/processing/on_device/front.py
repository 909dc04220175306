"""Frames remapped and made ready for the network on its device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gixi_bluesky.log import get_logger
from gixi_bluesky.processing.detector import Detector
from gixi_bluesky.processing.detector.networks.light_detector import LightDetector
from gixi_bluesky.processing.on_device.device_means import DeviceImage, DeviceMean
from gixi_bluesky.processing.on_device.frames import DeviceFrame, DeviceFrames
from gixi_bluesky.processing.on_device.transfers import Arriving
from gixi_bluesky.processing.pixels.counts import PixelCorrection
from gixi_bluesky.processing.pixels.outliers import Outliers
from gixi_bluesky.processing.remap.grid_means import GridMean
from gixi_bluesky.processing.remap.remapper import Remapper
from gixi_bluesky.processing.settings import CorrectionSettings
from gixi_bluesky.processing.types import CartesianImage, Detections, PolarImage, RemappedImage

__all__ = ["DeviceFront", "PreparedFrame"]

_log = get_logger()


@dataclass(frozen=True, slots=True)
class PreparedFrame:
    """A frame on its grids; the arrays hold nothing before `wait` returned.

    prepared: as the network takes it, on the host; on_device: the same on its device
    """

    polar: PolarImage
    cartesian: CartesianImage | None
    q_image: CartesianImage | None
    prepared: NDArray[Any]
    on_device: Tensor
    arriving: tuple[Arriving, ...]

    def wait(self) -> None:
        """Wait until all arrays are here."""
        for one in self.arriving:
            one.wait()


class DeviceFront:
    """Remap and contrast on the device of a light network; maps leave with their remapper."""

    def __init__(self, detector: LightDetector, corrections: CorrectionSettings) -> None:
        self._detector, self._device = detector, torch.device(detector.device)
        self._frames = DeviceFrames(self._device, corrections.dummy)
        self._means: WeakKeyDictionary[GridMean, DeviceMean] = WeakKeyDictionary()
        self._exhausted = False

    @classmethod
    def of(cls, detector: Detector, corrections: CorrectionSettings) -> DeviceFront | None:
        """Return the front of a detector, None for one whose images cannot be made in torch."""
        one = detector if isinstance(detector, LightDetector) else None
        return cls(one, corrections) if one is not None and one.single_tile else None

    def detect(self, ready: Sequence[PreparedFrame]) -> list[Detections]:
        """Find the peaks of frames, best first; their arrays are here when it returns."""
        found = self._detector.boxes(torch.stack([one.on_device for one in ready]))
        for one in ready:
            one.wait()
        return self._detector.judged(np.stack([one.prepared for one in ready]), found)

    @torch.inference_mode()
    def __call__(
        self,
        remapper: Remapper,
        turned: NDArray[Any],
        outliers: Outliers,
        how: tuple[PixelCorrection | None, int],
        monitor: float | None,
        *,
        q_image: bool,
    ) -> PreparedFrame | None:
        """Return a frame after `orient` on its grids, None where the device has no memory for it.

        how: correction of the run, if it brought a dark, and the number of exposures
        monitor: what the counts are divided by
        Raises FrameError for a frame without data on a grid.
        """
        for _ in range(2):  # again after the unused memory was given back
            if self._exhausted:
                return None
            try:
                return self._ready(remapper, turned, outliers, how, monitor, q_image=q_image)
            except torch.OutOfMemoryError as error:
                problem = str(error)
            torch.cuda.empty_cache()  # does nothing where no GPU was used
        self._exhausted = True
        self._means.clear()
        _log.warning("gpu_memory_exhausted", stage="remap", device="cpu", error=problem)
        return None

    def _ready(
        self,
        remapper: Remapper,
        turned: NDArray[Any],
        outliers: Outliers,
        how: tuple[PixelCorrection | None, int],
        monitor: float | None,
        *,
        q_image: bool,
    ) -> PreparedFrame:
        pixels, exposures = how[0] or remapper.pixels, how[1]
        raw = self._frames.upload(turned)
        frame = self._frames.corrected(raw, turned, outliers, pixels, exposures)
        arriving: list[Arriving] = []

        def on(mean: GridMean) -> tuple[RemappedImage, DeviceImage]:
            image = self._mean(mean, frame)
            image = image if monitor is None else image.over(monitor)
            parts = [self._frames.transfers.down(one) for one in (image.intensity, image.variance)]
            arriving.extend(parts)
            return RemappedImage(parts[0].array, parts[1].array, image.pixels), image

        on_host, searched = on(remapper.polar_mean)
        polar = remapper.as_polar(on_host, searched.noise)
        cartesian = None
        if remapper.cartesian_mean is not None:
            on_host, searched = on(remapper.cartesian_mean)
            cartesian = remapper.as_cartesian(on_host)
        stored = remapper.as_q_image(on(remapper.q_mean)[0]) if q_image else None
        prepared = self._detector.prepare_on_device(searched.intensity)
        arriving.append(self._frames.transfers.down(prepared))
        return PreparedFrame(
            polar, cartesian, stored, arriving[-1].array, prepared, tuple(arriving)
        )

    def _mean(self, mean: GridMean, frame: DeviceFrame) -> DeviceImage:
        if mean not in self._means:
            self._means[mean] = DeviceMean(self._device)
        return self._means[mean](mean, frame)
