"""The light network of an ONNX file, run by onnxruntime: the same boxes, sooner on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.detector.contrast import Contrast
from gixi_bluesky.processing.detector.engines import network_threads
from gixi_bluesky.processing.detector.judging.box_judge import shipped_judge
from gixi_bluesky.processing.detector.networks.light_architecture import CHANNELS
from gixi_bluesky.processing.detector.networks.light_input import network_input
from gixi_bluesky.processing.detector.networks.onnx_pass import opened_session
from gixi_bluesky.processing.detector.networks.second_stage import calibrated, remaining
from gixi_bluesky.processing.detector.weights import Manifest
from gixi_bluesky.processing.types import Detections

__all__ = ["INPUT", "OUTPUTS", "OnnxDetector"]

INPUT, OUTPUTS = "image", ("judged", "first")


class OnnxDetector:
    """A graph that `export_onnx` wrote, ready to find peaks.

    Raises WeightsError for another device than the CPU, without onnxruntime, and for a file that
    is no graph or one of another version's.
    """

    precision = "float32"

    def __init__(self, manifest: Manifest, content: bytes, device: str) -> None:
        if device not in ("auto", "cpu"):
            message = (
                f"got device {device!r}, but ONNX weights run on the CPU; set detector.device to "
                "cpu, or detector.weights to the .safetensors file"
            )
            raise WeightsError(message)
        self.name, self.sha256 = manifest.name, manifest.sha256
        self.device, self.engine = "cpu", "onnx"
        self._contrast, self._grid = Contrast(manifest.preprocessing.contrast), manifest.grid
        self._calibration = manifest.calibration
        self._judge = None if manifest.judge is None else shipped_judge(manifest.judge)
        self._session = self._opened(content)
        expected = [1, CHANNELS, *(self._grid.shape or ())]
        if (found := self._session.get_inputs()[0].shape) != expected:
            message = (
                f"the graph {self.name} wants input of {found}; this version makes {expected}: "
                "export the weights again with `gixi-bluesky weights export`"
            )
            raise WeightsError(message)

    def prepare(self, polar: NDArray[np.floating]) -> NDArray[np.float32]:
        """Give (..., n_phi, n_q) counts the contrast of the manifest: 0…1, NaN = no data."""
        return self._contrast(polar)

    def __call__(self, images: NDArray[np.float32]) -> list[Detections]:
        """Find the peaks of (n, n_phi, n_q) prepared images, best first.

        Raises WeightsError for another grid than that of the export.
        """
        self._grid.require(images.shape[1:], self.name)
        return [self._detected(image) for image in images]

    def _detected(self, image: NDArray[np.float32]) -> Detections:
        channels_first = np.ascontiguousarray(network_input(image[None]).transpose(0, 3, 1, 2))
        judged, first = self._session.run(OUTPUTS, {INPUT: channels_first})
        found = Detections(judged[:, :4], judged[:, 4], judged[:, 5].astype(np.int64))
        found = calibrated(remaining(found, first), *self._calibration)
        return found if self._judge is None else self._judge(image, found)

    def _opened(self, content: bytes) -> Any:
        try:
            return opened_session(content, network_threads())
        except ImportError as error:
            message = (
                f"the weights {self.name} are an ONNX file, which needs onnxruntime: "
                "pip install 'gixi_bluesky[export]'"
            )
            raise WeightsError(message) from error
        except Exception as error:  # its errors share no base
            message = f"onnxruntime cannot use the weights {self.name}: {error}"
            raise WeightsError(message) from error
