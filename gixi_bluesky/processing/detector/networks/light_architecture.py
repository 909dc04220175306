"""Sizes of the light network and the shapes of its weights, for every engine that runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.detector.weights import Manifest

__all__ = [
    "CHANNELS",
    "PHI_STRIDES",
    "Q_STRIDE",
    "SIZES",
    "STEM_KERNEL",
    "LightArchitecture",
    "fitting_architecture",
    "require_shapes",
]

CHANNELS = 3
PHI_STRIDES = (8, 16, 32)
Q_STRIDE = 2
STEM_KERNEL = (7, 5)
_TALL = (7, 3)  # of the depthwise convolutions
_ANCHORS = 2  # a cell


@dataclass(frozen=True, slots=True)
class LightArchitecture:
    """Sizes of the network; stored in the manifest of its weights.

    widths: channels of the stem and of the three stages
    blocks: residual blocks of each stage
    anchor_heights: two per level, pixels along phi; anchor_width: pixels along |q|
    pool: bins (phi, q) of a pooled proposal; context: how far it is widened (phi, q)
    """

    widths: tuple[int, int, int, int] = (16, 24, 48, 80)
    blocks: tuple[int, int, int] = (1, 3, 4)
    pyramid: int = 32
    anchor_heights: tuple[tuple[float, float], ...] = ((14, 35), (80, 160), (320, 500))
    anchor_width: float = 6.0
    pool: tuple[int, int] = (16, 8)
    pool_channels: int = 24
    hidden: int = 96
    context: tuple[float, float] = (1.3, 3.0)

    @classmethod
    def from_json(cls, sizes: dict[str, Any]) -> LightArchitecture:
        """Rebuild the architecture from a manifest, whose lists are tuples here."""
        return cls(**{key: _tuples(value) for key, value in sizes.items()})


SIZES = {
    "light": LightArchitecture(),
    "large": LightArchitecture(
        widths=(32, 64, 96, 160), blocks=(2, 4, 6), pyramid=64, pool_channels=32, hidden=192
    ),
}


def fitting_architecture(
    manifest: Manifest, tensors: Mapping[str, NDArray[np.float32]]
) -> LightArchitecture:
    """Return the architecture of a manifest.

    Raises WeightsError unless `tensors` are those of the architecture, by name and shape.
    """
    try:
        architecture = LightArchitecture.from_json(manifest.architecture)
        require_shapes(architecture, tensors)
    except (TypeError, ValueError) as error:
        message = f"the weights {manifest.name} do not fit their manifest: {error}"
        raise WeightsError(message) from error
    return architecture


def require_shapes(a: LightArchitecture, tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Raise ValueError unless `tensors` are those of the architecture, by name and shape."""
    wanted = dict(_shapes(a))
    counters = {name for name in tensors if name.endswith(".num_batches_tracked")}
    if missing := sorted(wanted.keys() - tensors.keys()):
        message = f"{missing[0]} is missing, and {len(missing) - 1} more"
        raise ValueError(message)
    if surplus := sorted(tensors.keys() - wanted.keys() - counters):
        message = f"{surplus[0]} is not part of the network, nor are {len(surplus) - 1} more"
        raise ValueError(message)
    for name, shape in wanted.items():
        if tensors[name].shape != shape:
            message = f"{name} has shape {tensors[name].shape}; expected {shape}"
            raise ValueError(message)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


_Shapes = Iterator[tuple[str, tuple[int, ...]]]


def _shapes(a: LightArchitecture) -> _Shapes:
    yield "stem.0.weight", (a.widths[0], CHANNELS, *STEM_KERNEL)
    yield from _norm("stem.1", a.widths[0])
    for i, (before, width, blocks) in enumerate(
        zip(a.widths[:-1], a.widths[1:], a.blocks, strict=True)
    ):
        yield f"stages.{i}.0.weight", (width, before, 2, 1)
        yield from _norm(f"stages.{i}.1", width)
        for j in range(2, 2 + blocks):
            block = f"stages.{i}.{j}"
            yield f"{block}.depthwise.weight", (width, 1, *_TALL)
            yield from _norm(f"{block}.norm", width)
            yield from _layer(f"{block}.expand", (2 * width, width, 1, 1))
            yield from _layer(f"{block}.project", (width, 2 * width, 1, 1))
        yield from _layer(f"lateral.{i}", (a.pyramid, width, 1, 1))
        yield from _layer(f"smooth.{i}.0", (a.pyramid, 1, 3, 3))
        yield from _layer(f"smooth.{i}.1", (a.pyramid, a.pyramid, 1, 1))
    yield from _layer("shared", (a.pyramid, a.pyramid, 3, 3))
    yield from _layer("objectness", (_ANCHORS, a.pyramid, 1, 1))
    yield from _layer("deltas", (4 * _ANCHORS, a.pyramid, 1, 1))
    yield from _layer("reduce", (a.pool_channels, a.pyramid, 1, 1))
    yield from _layer("head.0", (a.hidden, a.pool_channels * a.pool[0] * a.pool[1]))
    yield from _layer("head.2", (a.hidden, a.hidden))
    yield from _layer("verdict", (1 + 4 + 3, a.hidden))


def _layer(name: str, shape: tuple[int, ...]) -> _Shapes:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _norm(name: str, width: int) -> _Shapes:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (width,)
