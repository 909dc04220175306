"""The light network as one ONNX graph, from the network's input to the output of stage two.

`LightNet.judge` chooses a level for each proposal and samples it, which exports badly and would run
slowly: here the maps of all levels lie one below the other as rows of channels, and each bin
gathers its four neighbours.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gixi_bluesky import __version__
from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.detector.networks.box_tensors import clip_boxes, decode_boxes
from gixi_bluesky.processing.detector.networks.light import LightNet
from gixi_bluesky.processing.detector.networks.light_architecture import (
    CHANNELS,
    PHI_STRIDES,
    Q_STRIDE,
    fitting_architecture,
)
from gixi_bluesky.processing.detector.networks.onnx_detector import INPUT, OUTPUTS
from gixi_bluesky.processing.detector.networks.second_stage import (
    ALWAYS_PROPOSED,
    CANDIDATES,
    LEAST_PROPOSED,
    PROPOSAL_IOU,
    PROPOSALS,
)
from gixi_bluesky.processing.detector.networks.torch_pass import fused_network
from gixi_bluesky.processing.detector.weights import Manifest, load_arrays, save_content

__all__ = ["dense_graph", "export_onnx"]

_LEFT_OUT = -1.0  # a score below every threshold
Sizes = Sequence[tuple[int, int]]


def export_onnx(
    manifest: Manifest, weights: Path, target: Path, shape: tuple[int, int] = (512, 1024)
) -> Manifest:
    """Write weights as `target`, an ONNX file, with its manifest beside it.

    shape: (n_phi, n_q) of the only grid that the file will fit
    Raises WeightsError without the extra `export`, for weights of another network, and for a grid
    that does not fit.
    """
    if manifest.network != "light" or weights.suffix != ".safetensors":
        message = (
            f"got weights {manifest.name} of the network {manifest.network!r} in {weights.name}; "
            "only .safetensors of a light network can be exported"
        )
        raise WeightsError(message)
    if target.suffix != ".onnx":
        message = f"got the name {target}; expected one that ends with .onnx"
        raise WeightsError(message)
    manifest.grid.require(shape, manifest.name)
    arrays = load_arrays(manifest, weights)
    network = fused_network(fitting_architecture(manifest, arrays), arrays, "cpu")
    return save_content(
        target,
        _graph(network, shape),
        {
            **manifest.model_dump(exclude={"sha256"}),
            "name": f"{manifest.name}-onnx",
            "grid": manifest.grid.model_copy(update={"shape": shape}),
            "source": (
                f"{manifest.name}, sha256 {manifest.sha256}, exported by gixi_bluesky {__version__}"
            ),
        },
    )


def dense_graph(net: LightNet, shape: tuple[int, int]) -> bytes:
    """Return the dense part as an ONNX graph: image (1, n_phi, n_q, 3) → the parts of each level.

    shape: (n_phi, n_q); three outputs a level, in the order of `Level`
    """
    image = torch.zeros(1, *shape, CHANNELS)
    names = [f"{part}_{i}" for i in range(len(PHI_STRIDES)) for part in _PARTS]
    model = _exported(_DensePart(_plain(net)), (image,), [INPUT], names)
    return bytes(model.SerializeToString())


_PARTS = ("logits", "hidden", "features")


class _DensePart(nn.Module):
    """image (1, n_phi, n_q, channels) → logits, hidden, features of each level, channels last."""

    def __init__(self, net: LightNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> list[Tensor]:
        parts = []
        for features in self.net.features(image.permute(0, 3, 1, 2)):
            hidden = self.net.shared(features).relu()
            parts += [self.net.objectness(hidden), hidden, features]
        return [part.permute(0, 2, 3, 1) for part in parts]


def _plain(net: LightNet) -> LightNet:
    """Return a copy with the usual memory layout, the only one that ONNX supports."""
    return copy.deepcopy(net).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload] # torch's stub lacks it


class _FirstStage(nn.Module):
    """image (1, channels, n_phi, n_q) → candidates (c, 5) boxes and scores, rows (r, channels)."""

    def __init__(self, net: LightNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.net.features(image)
        proposals = self.net.propose(maps)
        logits = proposals.logits[0]
        best = logits.topk(min(CANDIDATES, len(logits)))
        boxes = decode_boxes(proposals.deltas[0, best.indices], proposals.anchors[best.indices])
        scores = best.values.sigmoid()
        likely = (scores >= LEAST_PROPOSED) | (torch.arange(len(scores)) < ALWAYS_PROPOSED)
        scores = torch.where(likely, scores, torch.full_like(scores, _LEFT_OUT))
        rows = [self.net.reduce(m)[0].permute(1, 2, 0).flatten(0, 1) for m in maps]
        return torch.cat([boxes, scores[:, None]], 1), torch.cat(rows)


class _SecondStage(nn.Module):
    """rows, proposals (p, 5) → judged (p, 6) boxes, scores and kinds, first (p,); see `remaining`.

    shape: (n_phi, n_q) of the image; sizes: (rows, columns) of each level
    """

    def __init__(self, net: LightNet, shape: tuple[int, int], sizes: Sizes) -> None:
        super().__init__()
        self.net, self.shape = net, shape
        heights, widths = (torch.tensor(each) for each in zip(*sizes, strict=True))
        begins = (heights * widths).cumsum(0) - heights * widths
        self.levels: Any = torch.stack([heights, widths, begins, torch.tensor(PHI_STRIDES)], 1)

    def forward(self, rows: Tensor, proposals: Tensor) -> tuple[Tensor, Tensor]:
        boxes, first = proposals[:, :4], proposals[:, 4]
        verdict = self.net.verdict(self.net.head(self._pooled(rows, boxes).flatten(1)))
        n_phi, n_q = self.shape
        judged = clip_boxes(decode_boxes(verdict[:, 1:5], boxes), (n_phi - 1, n_q - 1))
        kinds = verdict[:, 5:].argmax(1).float()
        return torch.cat([judged, verdict[:, :1].sigmoid(), kinds[:, None]], 1), first

    def _pooled(self, rows: Tensor, boxes: Tensor) -> Tensor:
        """Return (p, channels, *pool), what `LightNet.judge` pools."""
        a = self.net.architecture
        level = ((boxes[:, 3] - boxes[:, 1]) / (PHI_STRIDES[0] * a.pool[0])).clamp(min=1e-3)
        level = level.log2().round().clamp(0, len(PHI_STRIDES) - 1).long()
        height, width, begin, stride = self.levels[level].unbind(1)
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        size = (boxes[:, 2:] - boxes[:, :2] + 1).clamp(min=2.0)
        size = size * torch.tensor((a.context[1], a.context[0]))
        q = (centre[:, :1] + size[:, :1] * _bins(a.pool[1]) + 0.5) / Q_STRIDE - 0.5
        phi = (centre[:, 1:] + size[:, 1:] * _bins(a.pool[0]) + 0.5) / stride[:, None] - 0.5
        left, right, over_q = _neighbours(q, width)
        low, high, over_phi = _neighbours(phi, height)
        low, high = ((begin[:, None] + i * width[:, None])[:, :, None] for i in (low, high))
        left, right, over_q = left[:, None], right[:, None], over_q[:, None, :, None]
        below = rows[low + left] * (1 - over_q) + rows[low + right] * over_q
        above = rows[high + left] * (1 - over_q) + rows[high + right] * over_q
        over_phi = over_phi[:, :, None, None]
        return (below * (1 - over_phi) + above * over_phi).permute(0, 3, 1, 2)


def _bins(count: int) -> Tensor:
    return (torch.arange(count) + 0.5) / count - 0.5


def _neighbours(at: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the indices before and after (p, bins) positions among `count` (p,), and between."""
    last = count[:, None] - 1
    at = torch.minimum(at.clamp(min=0), last)
    before = at.floor()
    return before.long(), torch.minimum(before.long() + 1, last), at - before


def _graph(net: LightNet, shape: tuple[int, int]) -> bytes:
    """Join both stages by non-maximum suppression, for which torch has no operator."""
    try:
        from onnx import checker, compose
    except ImportError as error:
        message = "exporting needs onnx: pip install 'gixi_bluesky[export]'"
        raise WeightsError(message) from error
    net = _plain(net)
    image = torch.zeros(1, CHANNELS, *shape)
    with torch.no_grad():
        # Before torch traces, or stand-ins for tensors would be kept as the anchors of all.
        sizes = net.propose(net.features(image)).sizes
        candidates, rows = _FirstStage(net)(image)
    proposals = candidates[: ALWAYS_PROPOSED // 2]
    first = _exported(_FirstStage(net), (image,), [INPUT], ["candidates", "rows"])
    second = _exported(
        _SecondStage(net, shape, sizes),
        (rows, proposals),
        ["all_rows", "proposals"],
        list(OUTPUTS),
        ({}, {0: torch.export.Dim("proposed", min=1, max=PROPOSALS)}),
    )
    between = _suppression(len(candidates), first)
    parts = [first, between, second]
    first, between, second = (
        compose.add_prefix(part, f"{name}_", rename_inputs=False, rename_outputs=False)
        for part, name in zip(parts, ("first", "between", "second"), strict=True)
    )
    joined = compose.merge_models(
        first, between, [("candidates", "boxes_and_scores")], outputs=["rows", "kept"]
    )
    joined = compose.merge_models(joined, second, [("kept", "proposals"), ("rows", "all_rows")])
    for node in joined.graph.node:
        del node.metadata_props[:]  # where on this machine the code lies
    joined.producer_name, joined.producer_version = "gixi_bluesky", __version__
    checker.check_model(joined)
    return bytes(joined.SerializeToString())


def _suppression(candidates: int, like: Any) -> Any:
    """Return a graph of `suppress`: boxes_and_scores (c, 5) → kept (p, 5), best first."""
    from onnx import TensorProto, helper

    constants: dict[str, tuple[list[float], int]] = {
        "parts": ([4, 1], TensorProto.INT64),
        "last": ([1], TensorProto.INT64),
        "one": ([0], TensorProto.INT64),
        "pair": ([2], TensorProto.INT64),
        "most": ([PROPOSALS], TensorProto.INT64),
        "iou": ([PROPOSAL_IOU], TensorProto.FLOAT),
        "least": ([0.0], TensorProto.FLOAT),
    }
    nodes = [
        helper.make_node("Split", ["boxes_and_scores", "parts"], ["boxes", "column"], axis=1),
        helper.make_node("Unsqueeze", ["boxes", "one"], ["one_image"]),
        helper.make_node("Transpose", ["column"], ["line"], perm=[1, 0]),
        helper.make_node("Unsqueeze", ["line", "one"], ["one_class"]),
        helper.make_node(
            "NonMaxSuppression", ["one_image", "one_class", "most", "iou", "least"], ["chosen"]
        ),
        helper.make_node("Gather", ["chosen", "pair"], ["numbers"], axis=1),
        helper.make_node("Squeeze", ["numbers", "last"], ["indices"]),
        helper.make_node("Gather", ["boxes_and_scores", "indices"], ["kept"], axis=0),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "suppression",
        [info("boxes_and_scores", TensorProto.FLOAT, [candidates, 5])],
        [info("kept", TensorProto.FLOAT, ["proposed", 5])],
        [helper.make_tensor(name, kind, [len(v)], v) for name, (v, kind) in constants.items()],
    )
    return helper.make_model(graph, ir_version=like.ir_version, opset_imports=like.opset_import)


def _exported(
    stage: nn.Module,
    inputs: tuple[Tensor, ...],
    input_names: list[str],
    output_names: list[str],
    dynamic: tuple[dict[int, Any], ...] | None = None,
) -> Any:
    with _quiet():
        program = torch.onnx.export(
            stage.eval(),
            inputs,
            input_names=input_names,
            output_names=output_names,
            dynamic_shapes=dynamic,
            dynamo=True,
            verbose=False,
        )
    return program.model_proto if program else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress torch's warnings about its own internals."""
    torch_log = logging.getLogger("torch.onnx")
    before = torch_log.level
    torch_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        torch_log.setLevel(before)
