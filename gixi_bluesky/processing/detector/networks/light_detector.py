"""The light network as a detector: from prepared images to boxes with calibrated scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.detector.contrast import Contrast
from gixi_bluesky.processing.detector.engines import Engine, network_threads
from gixi_bluesky.processing.detector.judging.box_judge import shipped_judge
from gixi_bluesky.processing.detector.networks.light_architecture import (
    LightArchitecture,
    fitting_architecture,
)
from gixi_bluesky.processing.detector.networks.light_input import NetworkInput
from gixi_bluesky.processing.detector.networks.second_stage import (
    Level,
    SecondStage,
    calibrated,
)
from gixi_bluesky.processing.detector.weights import Manifest
from gixi_bluesky.processing.types import Detections

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LightDetector"]

Float32 = NDArray[np.float32]
DensePass = Callable[[Float32], list[Level]]


class LightDetector:
    """Weights of the light network, ready to find peaks.

    device: cpu, or a GPU as torch names it; engine: what runs the dense part on the CPU
    tensors_on_cpu: run all of it in torch on a CPU, too, as on a GPU
    takes_tensors: whether images may lie on the device already
    Raises WeightsError when the weights do not fit the architecture of their manifest.
    """

    precision = "float32"

    def __init__(
        self,
        manifest: Manifest,
        tensors: Mapping[str, Float32],
        device: str = "cpu",
        engine: Engine = "torch",
        *,
        tensors_on_cpu: bool = False,
    ) -> None:
        self.name, self.sha256, self.device = manifest.name, manifest.sha256, device
        self._settings, self._grid = manifest.preprocessing.contrast, manifest.grid
        self._contrast = Contrast(self._settings)
        self._calibration = manifest.calibration
        self._judge = None if manifest.judge is None else shipped_judge(manifest.judge)
        architecture = fitting_architecture(manifest, tensors)
        self._find: Callable[[Any], list[Detections]]  # of an array or a tensor

        def on_cpu() -> _Alone:
            dense = _dense_pass(manifest, architecture, tensors, engine)
            return _Alone(dense, SecondStage(architecture, tensors))

        self.takes_tensors = tensors_on_cpu or device != "cpu"
        self.engine = "torch" if self.takes_tensors else engine
        if not self.takes_tensors:
            self._find = on_cpu()
        else:
            from gixi_bluesky.processing.detector.networks.torch_pass import Batches, TensorPass

            self._find = Batches(TensorPass(architecture, tensors, device), on_cpu)

    def prepare(self, polar: NDArray[np.floating]) -> Float32:
        """Give (..., n_phi, n_q) counts the contrast of the manifest: 0…1, NaN = no data."""
        return self._contrast(polar)

    def __call__(self, images: Float32) -> list[Detections]:
        """Find the peaks of (n, n_phi, n_q) prepared images, best first.

        Raises WeightsError for a grid these weights do not fit.
        """
        return self.judged(images, self.boxes(images))

    @property
    def single_tile(self) -> bool:
        """True where the contrast has one tile, the only one that `prepare_on_device` knows."""
        return self._settings.tiles == (1, 1)

    def prepare_on_device(self, image: Tensor) -> Tensor:
        """Return a (n_phi, n_q) image on the device as `prepare` does."""
        from gixi_bluesky.processing.detector.networks.device_input import device_contrast

        return device_contrast(image, self._settings)

    def boxes(self, images: Float32 | Tensor) -> list[Detections]:
        """Find boxes with calibrated scores, not yet judged together; otherwise as a call."""
        self._grid.require(images.shape[1:], self.name)
        return [calibrated(one, *self._calibration) for one in self._find(images)]

    def judged(self, images: Float32, found: list[Detections]) -> list[Detections]:
        """Return the boxes of prepared images, judged together."""
        if self._judge is None:
            return found
        return [self._judge(image, one) for image, one in zip(images, found, strict=True)]


class _Alone:
    """Runs images one by one: on a CPU a batch takes longer than its images."""

    def __init__(self, dense: DensePass, second: SecondStage) -> None:
        self._dense, self._second = dense, second
        self._input = NetworkInput((0, 0))

    def __call__(self, images: Float32) -> list[Detections]:
        shape = (images.shape[1], images.shape[2])
        if self._input.shape != shape:
            self._input = NetworkInput(shape)
        return [self._second(self._dense(self._input(image)), shape) for image in images]


def _dense_pass(
    manifest: Manifest,
    architecture: LightArchitecture,
    tensors: Mapping[str, Float32],
    engine: Engine,
) -> DensePass:
    """Return what runs the dense part; each needs a package that others do not."""
    threads = network_threads()
    if engine == "openvino":
        from gixi_bluesky.processing.detector.networks.openvino_pass import OpenVINOPass

        return OpenVINOPass(architecture, tensors, threads)
    if engine == "onnx":
        from gixi_bluesky.processing.detector.networks.onnx_pass import OnnxPass

        return OnnxPass(manifest.sha256, architecture, tensors, threads)
    from gixi_bluesky.processing.detector.networks.torch_pass import TorchPass

    return TorchPass(architecture, tensors, threads)
