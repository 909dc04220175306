"""Peak detectors: networks, and a search without weights, behind the same call."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.detector.classical.search import ClassicalDetector
from gixi_bluesky.processing.detector.engines import chosen_engine
from gixi_bluesky.processing.detector.weights import (
    Manifest,
    find,
    load_arrays,
    load_tensors,
    read_verified,
)
from gixi_bluesky.processing.types import Detections

__all__ = ["Detector", "find_weights", "load_detector", "torch_device"]

_DEFAULTS = {"polar": "light-2026", "cartesian": "light-cartesian-2026"}
_LARGE = "large-2026"

_NETWORKS = ("faster-rcnn", "light")


class Detector(Protocol):
    """Finds peaks in polar or cartesian images, (rows, columns) in either case.

    name, sha256: which detector and which weights, for the provenance
    device, engine: where it runs and which library runs it there
    precision: of its numbers, which decides results
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def engine(self) -> str: ...  # noqa: D102
    @property
    def precision(self) -> str: ...  # noqa: D102

    def prepare(self, polar: NDArray[np.floating]) -> NDArray[np.float32]:
        """Give (..., n_phi, n_q) counts the contrast the detector wants: 0…1, NaN = no data."""

    def __call__(self, images: NDArray[np.float32]) -> list[Detections]:
        """Find peaks in (n, n_phi, n_q) prepared images, best score first."""


def load_detector(
    name_or_path: str | Path = "default",
    device: str = "cpu",
    engine: str = "auto",
    *,
    space: str = "polar",
    tensors_on_cpu: bool = False,
) -> Detector:
    """Return the detector of that name, or of a weights file with its manifest.

    name_or_path: `default` is the one that ships for images of `space`, `large` finds more but
        takes longer; files are .safetensors, or .onnx as `weights export` writes them
    device: cpu, cuda, cuda:1, …, or auto for the first GPU if there is one
    engine: what runs a light network on the CPU: torch, onnx, openvino, or auto for the fastest
        that is installed; all find the same boxes
    space: what the images will be, polar or cartesian (q_z, q_xy)
    tensors_on_cpu: run a light network in torch as on a GPU, for tests and benchmarks
    Raises WeightsError when weights are missing, damaged, unknown or made for another space, and
    for an engine that is not installed.
    """
    if str(name_or_path) == "classical":
        return ClassicalDetector()
    manifest, path = find_weights(name_or_path, space)
    manifest.grid.require_space(space, manifest.name)
    if manifest.network not in _NETWORKS:
        message = (
            f"the manifest of {manifest.name} names the network {manifest.network!r}; "
            f"expected one of {', '.join(_NETWORKS)}"
        )
        raise WeightsError(message)
    # Imported late: each needs a library that is heavy.
    if path.suffix == ".onnx":
        from gixi_bluesky.processing.detector.networks.onnx_detector import OnnxDetector

        return OnnxDetector(manifest, read_verified(manifest, path), device)
    chosen = torch_device(device)
    runs_it = chosen_engine(engine, manifest.network, chosen)
    if manifest.network == "faster-rcnn":
        from gixi_bluesky.processing.detector.networks.faster_rcnn import FasterRCNNDetector

        return FasterRCNNDetector(manifest, load_tensors(manifest, path), chosen)
    from gixi_bluesky.processing.detector.networks.light_detector import LightDetector

    arrays = load_arrays(manifest, path)
    return LightDetector(manifest, arrays, chosen, runs_it, tensors_on_cpu=tensors_on_cpu)


def find_weights(name_or_path: str | Path, space: str = "polar") -> tuple[Manifest, Path]:
    """Return the manifest and the file of weights, by a name that `load_detector` takes, or a path.

    Raises WeightsError when there are none, saying how to get them.
    """
    if str(name_or_path) == "classical":
        message = "got weights 'classical', a search that has none; expected those of a network"
        raise WeightsError(message)
    named = {"default": _DEFAULTS[space], "large": _LARGE}
    return find(named.get(str(name_or_path), name_or_path))


def torch_device(device: str) -> str:
    """Return the device as torch names it; raises WeightsError for a GPU that torch cannot see.

    device: cpu, cuda, cuda:1, …, or auto for the first GPU if there is one
    """
    if device == "cpu":
        return device
    if device == "auto" and not _may_see_gpu():
        return "cpu"
    import torch  # heavy, and other engines do without

    seen = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if seen else "cpu"
    if device.startswith("cuda") and not seen:
        message = (
            f"got device {device!r}, but torch sees no GPU; set detector.device to auto or cpu"
        )
        raise WeightsError(message)
    return device


def _may_see_gpu() -> bool:
    """Return whether torch may see a GPU, without importing it where that is clear."""
    return "torch" in sys.modules or not version("torch").endswith("+cpu")
