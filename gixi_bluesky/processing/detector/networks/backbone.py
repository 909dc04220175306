"""Backbone and feature pyramid: phi is halved again and again, |q| keeps a quarter of its columns.

ResNet-18-like (He 2016) with a feature pyramid (Lin 2017), after the published GIXD detector
(Starostin 2022): lines are a few columns wide and up to the whole image tall.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own idiom

__all__ = ["Architecture", "Backbone", "Pyramid"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes of the two-stage network; stored in the manifest of its weights.

    channels: of the input (1 = image; 2 = image and validity)
    widths: channels of the four stages; the stem has those of the first
    blocks: residual blocks of each stage; pyramid: channels of the pyramid
    anchors: (height, width) in pixels of the anchors of each pyramid level, finest phi first
    roi: bins (phi, q) of a pooled proposal; hidden: units of the second stage's two layers
    """

    channels: int = 1
    widths: tuple[int, int, int, int] = (64, 128, 256, 256)
    blocks: int = 2
    pyramid: int = 64
    anchors: tuple[tuple[tuple[float, float], ...], ...] = (
        ((50, 10), (100, 10)),
        ((200, 10), (300, 10)),
        ((400, 10), (500, 10)),
    )
    roi: tuple[int, int] = (16, 16)
    hidden: int = 32

    @property
    def strides(self) -> tuple[tuple[int, int], ...]:
        """Pixels (phi, q) per cell of each pyramid level."""
        return ((8, 4), (16, 4), (32, 4))


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, before: int, width: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module = nn.Identity()
        if stride != (1, 1) or before != width:
            shortcut = nn.Conv2d(before, width, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Backbone(nn.Module):
    """(n, channels, n_phi, n_q) → three maps with strides (8, 4), (16, 4), (32, 4)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = architecture
        self.conv1 = nn.Conv2d(a.channels, a.widths[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(a.widths[0])
        self.layer1 = _stage(a.widths[0], a.widths[0], a.blocks, (1, 1))
        self.layer2 = _stage(a.widths[0], a.widths[1], a.blocks, (2, 1))
        self.layer3 = _stage(a.widths[1], a.widths[2], a.blocks, (2, 1))
        self.layer4 = _stage(a.widths[2], a.widths[3], a.blocks, (2, 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps, finest phi first."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, stride=2, padding=1)
        fine = self.layer2(self.layer1(x))
        middle = self.layer3(fine)
        return [fine, middle, self.layer4(middle)]

    @torch.no_grad()
    def fold_norms(self) -> None:
        """Merge each batch normalisation into the convolution before it; for inference only."""
        _fold(self, "conv1", "bn1")
        for block in self.modules():
            if isinstance(block, _Block):
                _fold(block, "conv1", "bn1")
                _fold(block, "conv2", "bn2")
                if isinstance(block.downsample, nn.Sequential):
                    _fold(block.downsample, "0", "1")


def _stage(before: int, width: int, blocks: int, stride: tuple[int, int]) -> nn.Sequential:
    rest = (_Block(width, width, (1, 1)) for _ in range(blocks - 1))
    return nn.Sequential(_Block(before, width, stride), *rest)


def _fold(parent: nn.Module, conv: str, norm: str) -> None:
    convolution, statistics = parent.get_submodule(conv).eval(), parent.get_submodule(norm).eval()
    if isinstance(convolution, nn.Conv2d) and isinstance(statistics, nn.BatchNorm2d):
        setattr(parent, conv, nn.utils.fusion.fuse_conv_bn_eval(convolution, statistics))
        setattr(parent, norm, nn.Identity())


class Pyramid(nn.Module):
    """Give every map the context of the coarser ones and the same number of channels."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        widths, out = architecture.widths[1:], architecture.pyramid
        self.inner_blocks = nn.ModuleList(nn.Conv2d(width, out, 1) for width in widths)
        self.layer_blocks = nn.ModuleList(nn.Conv2d(out, out, 3, padding=1) for _ in widths)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Return as many maps of the same sizes."""
        inner = [block(m) for block, m in zip(self.inner_blocks, maps, strict=True)]
        for level in range(len(inner) - 2, -1, -1):
            coarser = F.interpolate(inner[level + 1], size=inner[level].shape[-2:], mode="nearest")
            inner[level] = inner[level] + coarser
        return [block(m) for block, m in zip(self.layer_blocks, inner, strict=True)]
