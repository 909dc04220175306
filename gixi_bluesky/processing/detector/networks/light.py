"""A small two-stage network for polar images: fine in |q|, compressed in phi, aware of no data.

Input is the image, its validity, and the image over its local mean and scatter, in which a faint
line on a steep background looks like a strong one. Strides along phi are 8, 16 and 32 but 2 along
|q|, because lines are a few columns wide and up to the whole image tall. The second stage pools
each proposal from the level whose rows fit its height, so one sample a bin is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own idiom
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gixi_bluesky.processing.detector.networks.light_architecture import (
    CHANNELS,
    PHI_STRIDES,
    Q_STRIDE,
    STEM_KERNEL,
    LightArchitecture,
)

__all__ = ["LightNet", "Proposals"]

_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Proposals:
    """The output of the first stage for every anchor of one batch.

    anchors: (a, 4) [q0, phi0, q1, phi1] pixels; logits: (n, a); deltas: (n, a, 4)
    sizes: (rows, columns) of each level, whose cells hold two anchors each, in row-major order
    """

    anchors: Tensor
    logits: Tensor
    deltas: Tensor
    sizes: tuple[tuple[int, int], ...]


class _Pointwise(nn.Conv2d):
    """A 1x1 convolution; on one CPU thread torch would take a path twice as slow as oneDNN's."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__(before, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        if _ONEDNN and x.device.type == "cpu" and torch.is_inference(x):
            return torch.mkldnn_convolution(x, self.weight, self.bias, (0, 0), (1, 1), (1, 1), 1)
        return super().forward(x)


class _Block(nn.Module):
    """Depthwise 7x3 (tall), two pointwise layers, residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, (7, 3), padding=(3, 1), groups=width, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(width)
        self.expand = _Pointwise(width, 2 * width)
        self.project = _Pointwise(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(F.relu_(self.expand(self.norm(self.depthwise(x)))))

    def fuse(self) -> None:
        if isinstance(self.norm, nn.BatchNorm2d):
            self.depthwise = fuse_conv_bn_eval(self.depthwise, self.norm)
            self.norm = nn.Identity()


class _Stage(nn.Sequential):
    """Halve phi, then refine."""

    def __init__(self, before: int, width: int, blocks: int) -> None:
        down = nn.Conv2d(before, width, (2, 1), stride=(2, 1), bias=False)
        super().__init__(down, nn.BatchNorm2d(width), *(_Block(width) for _ in range(blocks)))


class _Smooth(nn.Sequential):
    """Depthwise 3x3, then pointwise."""

    def __init__(self, width: int) -> None:
        tall = nn.Conv2d(width, width, 3, padding=1, groups=width)
        super().__init__(tall, _Pointwise(width, width))


class LightNet(nn.Module):
    """Backbone, feature pyramid, proposals and the second stage's head."""

    def __init__(self, architecture: LightArchitecture) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.stem = nn.Sequential(
            nn.Conv2d(
                CHANNELS,
                a.widths[0],
                STEM_KERNEL,
                stride=(PHI_STRIDES[0] // 2, Q_STRIDE),
                padding=(3, 2),
                bias=False,
            ),
            nn.BatchNorm2d(a.widths[0]),
            nn.ReLU(inplace=True),
        )
        pairs = zip(a.widths, a.widths[1:], a.blocks, strict=False)
        self.stages = nn.ModuleList(_Stage(*pair) for pair in pairs)
        self.lateral = nn.ModuleList(_Pointwise(w, a.pyramid) for w in a.widths[1:])
        self.smooth = nn.ModuleList(_Smooth(a.pyramid) for _ in PHI_STRIDES)
        self.shared = nn.Conv2d(a.pyramid, a.pyramid, 3, padding=1)
        self.objectness = _Pointwise(a.pyramid, 2)
        self.deltas = _Pointwise(a.pyramid, 8)
        self.reduce = _Pointwise(a.pyramid, a.pool_channels)
        self.head = nn.Sequential(
            nn.Linear(a.pool_channels * a.pool[0] * a.pool[1], a.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(a.hidden, a.hidden),
            nn.ReLU(inplace=True),
        )
        self.verdict = nn.Linear(a.hidden, 1 + 4 + 3)
        # Rare objects: start from a prior of one in a hundred.
        nn.init.constant_(self.objectness.bias, -4.6)  # type: ignore[arg-type] # it has one

    def fuse(self) -> None:
        """Fold the normalisations into the convolutions before them: the same, faster, for good."""
        for part in (self.stem, *self.stages):
            part[0] = fuse_conv_bn_eval(part[0], part[1])
            part[1] = nn.Identity()
        for block in self.modules():
            if isinstance(block, _Block):
                block.fuse()

    def features(self, images: Tensor) -> list[Tensor]:
        """(n, 3, n_phi, n_q) → three maps (n, c, n_phi / 8·2^i, n_q / 2), fine phi first."""
        x = self.stem(images)
        maps = []
        for stage, lateral in zip(self.stages, self.lateral, strict=True):
            x = stage(x)
            maps.append(lateral(x))
        for i in (1, 0):
            maps[i] = maps[i] + F.interpolate(maps[i + 1], size=maps[i].shape[-2:])
        return [smooth(m) for smooth, m in zip(self.smooth, maps, strict=True)]

    def propose(self, maps: Sequence[Tensor]) -> Proposals:
        """Score every anchor of every level."""
        logits, deltas, anchors = [], [], []
        for level, m in enumerate(maps):
            x = F.relu_(self.shared(m))
            logits.append(self.objectness(x).permute(0, 2, 3, 1).flatten(1))
            deltas.append(self.deltas(x).permute(0, 2, 3, 1).reshape(len(m), -1, 4))
            anchors.append(self._anchors(level, m))
        sizes = tuple((m.shape[2], m.shape[3]) for m in maps)
        return Proposals(torch.cat(anchors), torch.cat(logits, 1), torch.cat(deltas, 1), sizes)

    def judge(self, maps: Sequence[Tensor], boxes: Tensor, image: Tensor) -> Tensor:
        """Second stage: (m, 4) boxes of images `image` (m,) → (m, 8) logit, deltas, kinds."""
        a = self.architecture
        reduced = [self.reduce(m) for m in maps]
        height = boxes[:, 3] - boxes[:, 1]
        level = (height / (PHI_STRIDES[0] * a.pool[0])).clamp(min=1e-3).log2().round().long()
        level = level.clamp(0, len(maps) - 1)
        pooled = boxes.new_zeros((len(boxes), a.pool_channels, *a.pool))
        for i, m in enumerate(reduced):
            here = torch.nonzero(level == i)[:, 0]
            if len(here):
                pooled[here] = self._pool(m, boxes[here], image[here], PHI_STRIDES[i])
        return self.verdict(self.head(pooled.flatten(1)))

    def _anchors(self, level: int, m: Tensor) -> Tensor:
        a = self.architecture
        size = (m.shape[2], m.shape[3])
        return _anchors(size, PHI_STRIDES[level], a.anchor_heights[level], a.anchor_width, m.device)

    def _pool(self, m: Tensor, boxes: Tensor, image: Tensor, stride: int) -> Tensor:
        """One sample a bin, in one pass over the batch laid side by side along phi."""
        a = self.architecture
        n, c, rows, columns = m.shape
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        size = (boxes[:, 2:] - boxes[:, :2] + 1).clamp(min=2.0)
        size = size * size.new_tensor((a.context[1], a.context[0]))
        bins_q = (torch.arange(a.pool[1], device=m.device) + 0.5) / a.pool[1] - 0.5
        bins_phi = (torch.arange(a.pool[0], device=m.device) + 0.5) / a.pool[0] - 0.5
        q = (centre[:, :1] + size[:, :1] * bins_q + 0.5) / Q_STRIDE - 0.5
        phi = (centre[:, 1:] + size[:, 1:] * bins_phi + 0.5) / stride - 0.5
        # Clamped within its own image, so that neighbours in the stack never leak in.
        phi = phi.clamp(0, rows - 1) + image[:, None] * rows
        x = (2 * q + 1) / columns - 1
        y = (2 * phi + 1) / (n * rows) - 1
        grid = torch.stack(
            [
                x[:, None, :].expand(-1, a.pool[0], -1),
                y[:, :, None].expand(-1, -1, a.pool[1]),
            ],
            -1,
        )
        tall = m.permute(1, 0, 2, 3).reshape(1, c, n * rows, columns)
        samples = F.grid_sample(
            tall, grid.reshape(1, -1, a.pool[1], 2), padding_mode="border", align_corners=False
        )
        return samples.reshape(c, len(boxes), *a.pool).permute(1, 0, 2, 3)


@lru_cache(maxsize=16)
def _anchors(
    size: tuple[int, int],
    stride: int,
    heights: tuple[float, float],
    width: float,
    device: torch.device,
) -> Tensor:
    """Return the anchors of a map of `size`, two a cell, (cells * 2, 4)."""
    phi = (torch.arange(size[0], device=device) + 0.5) * stride - 0.5
    q = (torch.arange(size[1], device=device) + 0.5) * Q_STRIDE - 0.5
    phi, q = torch.meshgrid(phi, q, indexing="ij")
    half = width / 2
    boxes = [torch.stack([q - half, phi - h / 2, q + half, phi + h / 2], -1) for h in heights]
    return torch.stack(boxes, 2).reshape(-1, 4)
