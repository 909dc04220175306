"""The dense part of the light network in onnxruntime; its graph is exported once and cached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky import __version__
from gixi_bluesky.processing.detector.networks.light_architecture import LightArchitecture
from gixi_bluesky.processing.detector.networks.second_stage import Level
from gixi_bluesky.processing.disk_cache import DiskCache

__all__ = ["OnnxPass", "opened_session"]

Float32 = NDArray[np.float32]

_CACHE_BYTES = 200 << 20


class OnnxPass:
    """Runs the dense part on the CPU; the graph is exported at the first image of a grid.

    sha256: of the weights, which names the cached graph
    """

    def __init__(
        self,
        sha256: str,
        architecture: LightArchitecture,
        tensors: Mapping[str, Float32],
        threads: int,
    ) -> None:
        self._sha256, self._threads = sha256, threads
        self._architecture, self._tensors = architecture, tensors
        self._sessions: dict[tuple[int, int], Any] = {}

    def __call__(self, image: Float32) -> list[Level]:
        """Run one (n_phi, n_q, 3) image."""
        shape = (image.shape[0], image.shape[1])
        if shape not in self._sessions:
            self._sessions = {shape: opened_session(self._graph(shape), self._threads)}
        arrays = self._sessions[shape].run(None, {"image": image[None]})
        return [Level(*(a[0] for a in arrays[i : i + 3])) for i in range(0, len(arrays), 3)]

    def _graph(self, shape: tuple[int, int]) -> bytes:
        import torch

        cache = DiskCache("onnx", _CACHE_BYTES)
        key = f"{self._sha256} {shape} {__version__} {torch.__version__}"
        content = cache.get(key)
        if content is None:
            content = self._exported(shape)
            cache.put(key, content)
        return content

    def _exported(self, shape: tuple[int, int]) -> bytes:
        from gixi_bluesky.processing.detector.networks.onnx_graph import dense_graph
        from gixi_bluesky.processing.detector.networks.torch_pass import fused_network

        network = fused_network(self._architecture, self._tensors, "cpu")
        return dense_graph(network, shape)


def opened_session(content: bytes, threads: int) -> Any:
    """Return a session that runs a graph on that many threads of the CPU."""
    import onnxruntime  # an extra

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Waiting threads would otherwise keep cores busy that the scan may want.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
