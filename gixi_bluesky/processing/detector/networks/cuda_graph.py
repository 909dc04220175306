"""The dense part of the light network on a GPU, replayed as one CUDA graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gixi_bluesky.processing.detector.networks.light import LightNet, Proposals

__all__ = ["CapturedPass", "Pass"]

Pass = tuple[list[Tensor], Proposals]

_WARM_UPS = 3  # cuDNN chooses its algorithms first, which must not be captured


class CapturedPass:
    """Feature maps and proposals for images of one shape, launched at once.

    The network is small: launching its hundred kernels one by one takes a GPU longer than running
    them. What a call returns is overwritten by the next.
    """

    def __init__(self, net: LightNet, images: Tensor) -> None:
        self._images = images.clone()
        cuda: Any = torch.cuda  # its stubs know half of it
        aside = cuda.Stream(images.device)
        aside.wait_stream(cuda.current_stream(images.device))
        with cuda.stream(aside):
            for _ in range(_WARM_UPS):
                net.propose(net.features(self._images))
        cuda.current_stream(images.device).wait_stream(aside)
        self._graph = cuda.CUDAGraph()
        with cuda.graph(self._graph):
            maps = net.features(self._images)
            self._result = maps, net.propose(maps)

    def __call__(self, images: Tensor) -> Pass:
        """Run (n, 3, n_phi, n_q) images of the shape that was captured."""
        self._images.copy_(images)
        self._graph.replay()
        return self._result
