"""The light network in torch: its dense part for one image on a CPU, all of it for a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own idiom

from gixi_bluesky.log import get_logger
from gixi_bluesky.processing.detector.boxes import suppress
from gixi_bluesky.processing.detector.engines import network_threads
from gixi_bluesky.processing.detector.networks.box_tensors import clip_boxes, decode_boxes
from gixi_bluesky.processing.detector.networks.cuda_graph import CapturedPass
from gixi_bluesky.processing.detector.networks.device_input import device_input
from gixi_bluesky.processing.detector.networks.light import LightNet, Proposals
from gixi_bluesky.processing.detector.networks.light_architecture import LightArchitecture
from gixi_bluesky.processing.detector.networks.light_input import network_input
from gixi_bluesky.processing.detector.networks.second_stage import (
    ALWAYS_PROPOSED,
    CANDIDATES,
    LEAST_PROPOSED,
    PROPOSAL_IOU,
    PROPOSALS,
    Level,
    remaining,
)
from gixi_bluesky.processing.detector.networks.torch_threads import on_threads
from gixi_bluesky.processing.types import Detections

__all__ = [
    "Batches",
    "TensorPass",
    "TorchPass",
    "as_input",
    "detect",
    "fused_network",
    "judged",
    "loaded_network",
]

Float32 = NDArray[np.float32]
Find = Callable[[Any], list[Detections]]  # of an array or a tensor of prepared images

_log = get_logger()


def as_input(images: Float32) -> Tensor:
    """Turn prepared images, NaN = no data, into the network's (n, 3, n_phi, n_q) input."""
    return torch.from_numpy(network_input(images)).permute(0, 3, 1, 2)  # channels last in memory


def loaded_network(a: LightArchitecture, tensors: Mapping[str, Float32]) -> LightNet:
    """Return the network of these weights, as a training has it."""
    network = LightNet(a)
    # The counters of the training's batches may be missing; nothing reads them.
    network.load_state_dict(
        {name: torch.from_numpy(array) for name, array in tensors.items()}, strict=False
    )
    return network


def fused_network(a: LightArchitecture, tensors: Mapping[str, Float32], device: str) -> LightNet:
    """Return the network of these weights, its normalisations folded, on a device."""
    network = loaded_network(a, tensors)
    network.eval()
    network.fuse()
    fused: LightNet = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
    return fused


class TorchPass:
    """Runs the dense part on the CPU."""

    def __init__(self, a: LightArchitecture, tensors: Mapping[str, Float32], threads: int) -> None:
        self._network, self._threads = fused_network(a, tensors, "cpu"), threads

    @torch.inference_mode()
    def __call__(self, image: Float32) -> list[Level]:
        """Run one (n_phi, n_q, 3) image."""
        net = self._network
        levels = []
        with on_threads(self._threads):
            for features in net.features(torch.from_numpy(image).permute(2, 0, 1)[None]):
                hidden = F.relu_(net.shared(features))
                parts = (net.objectness(hidden), hidden, features)
                levels.append(Level(*(x[0].permute(1, 2, 0).numpy() for x in parts)))
        return levels


class TensorPass:
    """Runs the network on a device, on a GPU the dense part as one CUDA graph."""

    def __init__(self, a: LightArchitecture, tensors: Mapping[str, Float32], device: str) -> None:
        self._network = fused_network(a, tensors, device)
        self._device = torch.device(device)
        self._captured: dict[torch.Size, CapturedPass] = {}

    @torch.inference_mode()
    def __call__(self, images: Float32 | Tensor) -> list[Detections]:
        """Find the boxes of prepared (n, n_phi, n_q) images, with uncalibrated scores."""
        there = images if isinstance(images, Tensor) else torch.from_numpy(images)
        batch = device_input(there.to(self._device))
        if self._device.type != "cuda":
            with on_threads(network_threads()):
                return detect(self._network, batch)
        # A graph is captured on the current device. TensorFloat-32, torch's default for
        # convolutions, would find other boxes than a CPU.
        precise = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with torch.cuda.device(self._device), precise:
            if batch.shape not in self._captured:  # one grid, few sizes of batches
                self._captured[batch.shape] = CapturedPass(self._network, batch)
            maps, proposals = self._captured[batch.shape](batch)
            return judged(self._network, maps, proposals, (batch.shape[-2], batch.shape[-1]))


class Batches:
    """Runs images in batches on a GPU, in smaller ones or on the CPU when its memory is exhausted.

    on_gpu: finds the boxes of a batch; on_cpu: makes what finds them there, called if it must
    The size of the batches stays reduced, and so does the device, until the process ends.
    """

    def __init__(self, on_gpu: Find, on_cpu: Callable[[], Find], largest: int = 8) -> None:
        self._find, self._on_cpu = on_gpu, on_cpu
        self._size = largest
        self._cpu = False

    def __call__(self, images: Float32 | Tensor) -> list[Detections]:
        """Find the boxes of prepared (n, n_phi, n_q) images, with uncalibrated scores."""
        found: list[Detections] = []
        while len(found) < len(images):
            batch = images[len(found) : len(found) + self._size]
            if self._cpu and isinstance(batch, Tensor):
                batch = batch.cpu().numpy()
            try:
                found += self._find(batch)
            except torch.OutOfMemoryError as error:
                if self._cpu:
                    raise
                self._reduce(len(batch), str(error))
        return found

    def _reduce(self, tried: int, error: str) -> None:
        torch.cuda.empty_cache()  # does nothing where no GPU was used
        if tried > 1:
            self._size = tried // 2
            _log.warning("gpu_memory_exhausted", batch=self._size, error=error)
            return
        self._find, self._cpu = self._on_cpu(), True
        _log.warning("gpu_memory_exhausted", device="cpu", error=error)


@torch.inference_mode()
def detect(net: LightNet, images: Tensor) -> list[Detections]:
    """Find the boxes of (n, 3, n_phi, n_q) images, best first, with uncalibrated scores."""
    maps = net.features(images)
    return judged(net, maps, net.propose(maps), (images.shape[-2], images.shape[-1]))


def judged(
    net: LightNet, maps: Sequence[Tensor], proposals: Proposals, shape: tuple[int, int]
) -> list[Detections]:
    """Return the detections of the second stage for the proposals of each image of `shape`."""
    proposed = _proposed(proposals)
    counts = [len(boxes) for boxes, _ in proposed]
    device = proposals.logits.device
    boxes = torch.from_numpy(np.concatenate([boxes for boxes, _ in proposed])).to(device)
    image = torch.from_numpy(np.repeat(np.arange(len(counts)), counts)).to(device)
    verdict = net.judge(maps, boxes, image)
    boxes = clip_boxes(decode_boxes(verdict[:, 1:5], boxes), (shape[0] - 1, shape[1] - 1))
    kinds = verdict[:, 5:].argmax(1).float()
    # One array, so that the GPU is synchronised once and not three times.
    columns = _array(torch.cat([boxes, verdict[:, :1].sigmoid(), kinds[:, None]], 1))
    parts = np.split(columns, np.cumsum(counts)[:-1])
    return [
        remaining(Detections(part[:, :4], part[:, 4], part[:, 5].astype(np.int64)), first)
        for part, (_, first) in zip(parts, proposed, strict=True)
    ]


def _proposed(proposals: Proposals) -> list[tuple[Float32, Float32]]:
    """Return for each image the boxes (p, 4) for the second stage and their scores (p,)."""
    best = proposals.logits.topk(min(CANDIDATES, proposals.logits.shape[1]))
    scores = _array(best.values.sigmoid())
    likely = np.maximum((scores >= LEAST_PROPOSED).sum(axis=1), ALWAYS_PROPOSED)
    index = best.indices[:, : int(likely.max())]
    deltas = proposals.deltas.gather(1, index[..., None].expand(-1, -1, 4))
    decoded = decode_boxes(deltas.flatten(0, 1), proposals.anchors[index.flatten()])
    boxes = _array(decoded).reshape(*index.shape, 4)
    proposed = []
    for i, count in enumerate(likely):
        boxes_of_image, first = boxes[i, :count], scores[i, :count]
        kept = suppress(boxes_of_image, first, PROPOSAL_IOU)[:PROPOSALS]
        proposed.append((boxes_of_image[kept], first[kept]))
    return proposed


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.float().cpu().numpy().astype(np.float32)
