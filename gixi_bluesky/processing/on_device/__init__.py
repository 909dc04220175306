"""Remap and contrast in torch on the device of the network, from the raw frame on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gixi_bluesky.processing.detector import Detector
    from gixi_bluesky.processing.on_device.front import DeviceFront
    from gixi_bluesky.processing.settings import CorrectionSettings

__all__ = ["device_front"]


def device_front(detector: Detector, corrections: CorrectionSettings) -> DeviceFront | None:
    """Return what remaps on the device of the network, None where arrays do."""
    if not getattr(detector, "takes_tensors", False):
        return None
    # Imported late: it needs torch, which a CPU does without.
    from gixi_bluesky.processing.on_device.front import DeviceFront

    return DeviceFront.of(detector, corrections)
