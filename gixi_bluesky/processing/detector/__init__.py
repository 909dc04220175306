"""Peak detectors: the same call for the networks and for the one that needs no weights."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.detector.classical import ClassicalDetector
from gixi_bluesky.processing.detector.weights import available, find, load_tensors
from gixi_bluesky.processing.types import Detections

__all__ = ["Detector", "load_detector", "torch_device"]

_DEFAULT = "light-2026"
_DEFAULT_CARTESIAN = "light-cartesian-2026"

# Which class reads the weights of which network; imported late, because they need torch.
_NETWORKS = {
    "faster-rcnn": ("gixi_bluesky.processing.detector.faster_rcnn", "FasterRCNNDetector"),
    "light": ("gixi_bluesky.processing.detector.light_detector", "LightDetector"),
}


class Detector(Protocol):
    """Finds peaks in polar or cartesian images, (rows, columns) in either case.

    name, sha256: which detector and which weights, for the provenance; device: where it runs
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102

    def prepare(self, polar: NDArray[np.floating]) -> NDArray[np.float32]:
        """Give (..., n_phi, n_q) counts the contrast the detector wants: 0…1, NaN = no data."""

    def __call__(self, images: NDArray[np.float32]) -> list[Detections]:
        """Find peaks in (n, n_phi, n_q) prepared images, best score first."""


def load_detector(
    name_or_path: str | Path = "default", device: str = "cpu", space: str = "polar"
) -> Detector:
    """Return the detector of that name, or of a weights file (.safetensors with its manifest).

    `default` is the one that ships for images of `space`.
    device: cpu, cuda, cuda:1, …, or auto for the first GPU if there is one
    space: what the images will be, polar or cartesian (q_z, q_xy)
    Raises WeightsError when weights are missing, damaged, unknown or made for another space.
    """
    name = _default(space) if str(name_or_path) == "default" else name_or_path
    if name == "classical":
        return ClassicalDetector()
    manifest, path = find(name)
    manifest.grid.require_space(space, manifest.name)
    if manifest.network not in _NETWORKS:
        message = (
            f"the manifest of {manifest.name} names the network {manifest.network!r}; "
            f"expected one of {', '.join(_NETWORKS)}"
        )
        raise WeightsError(message)
    module, kind = _NETWORKS[manifest.network]
    detector: Detector = getattr(import_module(module), kind)(
        manifest, load_tensors(manifest, path), torch_device(device)
    )
    return detector


def _default(space: str) -> str:
    there = space == "cartesian" and any(w.name == _DEFAULT_CARTESIAN for w in available())
    return _DEFAULT_CARTESIAN if there else _DEFAULT


def torch_device(device: str) -> str:
    """Return the device as torch names it; raises WeightsError for a GPU that torch cannot see.

    device: cpu, cuda, cuda:1, …, or auto for the first GPU if there is one
    """
    import torch  # only the networks need it

    seen = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if seen else "cpu"
    if device.startswith("cuda") and not seen:
        message = (
            f"got device {device!r}, but torch sees no GPU; set detector.device to auto or cpu"
        )
        raise WeightsError(message)
    return device
