"""The dense part of the light network in OpenVINO: the same layers, compiled for this processor.

The graph is built from the weights layer by layer, so that neither torch nor a stored graph is
needed, and compiled for one grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.detector.networks.light_architecture import (
    CHANNELS,
    PHI_STRIDES,
    Q_STRIDE,
    LightArchitecture,
)
from gixi_bluesky.processing.detector.networks.second_stage import Level

__all__ = ["OpenVINOPass"]

Float32 = NDArray[np.float32]

_EPSILON = 1e-5  # of torch's normalisation
_LAST, _FIRST = (0, 2, 3, 1), (0, 3, 1, 2)  # where the channels are


class OpenVINOPass:
    """Runs the dense part on the CPU; compiled at the first image of a grid."""

    def __init__(
        self, architecture: LightArchitecture, tensors: Mapping[str, Float32], threads: int
    ) -> None:
        self._architecture, self._tensors, self._threads = architecture, tensors, threads
        self._requests: dict[tuple[int, int], Any] = {}

    def __call__(self, image: Float32) -> list[Level]:
        """Run one (n_phi, n_q, 3) image; what is returned is valid until the next call."""
        shape = (image.shape[0], image.shape[1])
        if shape not in self._requests:
            self._requests = {shape: self._compiled(shape)}
        found = self._requests[shape].infer({0: image[None]}, share_inputs=True, share_outputs=True)
        arrays = [array[0] for array in found.values()]
        return [Level(*arrays[i : i + 3]) for i in range(0, len(arrays), 3)]

    def _compiled(self, shape: tuple[int, int]) -> Any:
        import openvino

        options = {
            "INFERENCE_NUM_THREADS": self._threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it
        }
        model = _Graph(self._tensors).model(self._architecture, shape)
        return openvino.Core().compile_model(model, "CPU", options).create_infer_request()


class _Graph:
    """Builds the graph out of named weights."""

    def __init__(self, tensors: Mapping[str, Float32]) -> None:
        import openvino.opset13 as operators

        self._op: Any = operators  # typed by decorators that mypy does not see through
        self._tensors = tensors

    def model(self, a: LightArchitecture, shape: tuple[int, int]) -> Any:
        """Return the model: (1, n_phi, n_q, 3) → logits, hidden, features of each level."""
        import openvino

        image = self._op.parameter([1, *shape, CHANNELS], np.float32, name="image")
        results = []
        for features in self._features(self._transposed(image, _FIRST), a):
            hidden = self._relu(self._convolved(features, *self._layer("shared"), pad=(1, 1)))
            logits = self._convolved(hidden, *self._layer("objectness"))
            results += [self._transposed(x, _LAST) for x in (logits, hidden, features)]
        return openvino.Model([self._op.result(x) for x in results], [image], "light")

    def _features(self, image: Any, a: LightArchitecture) -> list[Any]:
        stem, bias = self._normalised("stem.0", "stem.1")
        stride = (PHI_STRIDES[0] // 2, Q_STRIDE)
        x = self._relu(self._convolved(image, stem, bias, stride=stride, pad=(3, 2)))
        maps = []
        for i, blocks in enumerate(a.blocks):
            down = self._normalised(f"stages.{i}.0", f"stages.{i}.1")
            x = self._convolved(x, *down, stride=(2, 1))
            for j in range(2, 2 + blocks):
                x = self._op.add(x, self._block(x, f"stages.{i}.{j}"))
            maps.append(self._convolved(x, *self._layer(f"lateral.{i}")))
        for i in (1, 0):
            maps[i] = self._op.add(maps[i], self._doubled(maps[i + 1]))
        return [self._smooth(m, f"smooth.{i}") for i, m in enumerate(maps)]

    def _block(self, x: Any, name: str) -> Any:
        tall = self._normalised(f"{name}.depthwise", f"{name}.norm")
        x = self._convolved(x, *tall, pad=(3, 1), depthwise=True)
        x = self._relu(self._convolved(x, *self._layer(f"{name}.expand")))
        return self._convolved(x, *self._layer(f"{name}.project"))

    def _smooth(self, x: Any, name: str) -> Any:
        x = self._convolved(x, *self._layer(f"{name}.0"), pad=(1, 1), depthwise=True)
        return self._convolved(x, *self._layer(f"{name}.1"))

    def _doubled(self, x: Any) -> Any:
        """Repeat every row, as the nearest neighbour in a map of twice the rows."""
        rows = x.get_output_shape(0)[2]
        index = self._op.constant(np.repeat(np.arange(rows), 2))
        return self._op.gather(x, index, self._op.constant(np.int64(2)))

    def _convolved(
        self,
        x: Any,
        weight: Float32,
        bias: Float32,
        *,
        stride: tuple[int, int] = (1, 1),
        pad: tuple[int, int] = (0, 0),
        depthwise: bool = False,
    ) -> Any:
        convolve = self._op.group_convolution if depthwise else self._op.convolution
        kernel = weight[:, None] if depthwise else weight
        y = convolve(x, self._op.constant(kernel), list(stride), list(pad), list(pad), [1, 1])
        return self._op.add(y, self._op.constant(bias.reshape(1, -1, 1, 1)))

    def _transposed(self, x: Any, order: tuple[int, ...]) -> Any:
        return self._op.transpose(x, self._op.constant(np.array(order, np.int64)))

    def _relu(self, x: Any) -> Any:
        return self._op.relu(x)

    def _layer(self, name: str) -> tuple[Float32, Float32]:
        return self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]

    def _normalised(self, convolution: str, norm: str) -> tuple[Float32, Float32]:
        """Return weight and bias of a convolution with its normalisation folded in."""
        t = {p: self._tensors[f"{norm}.{p}"].astype(np.float64) for p in _NORM}
        scale = t["weight"] / np.sqrt(t["running_var"] + _EPSILON)
        weight = self._tensors[f"{convolution}.weight"] * scale[:, None, None, None]
        bias = t["bias"] - t["running_mean"] * scale
        return weight.astype(np.float32), bias.astype(np.float32)


_NORM = ("weight", "bias", "running_mean", "running_var")
