"""What the light network is taught: finite whatever the image, and enough to learn from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gixi_bluesky.processing.detector.networks.light import LightNet
from gixi_bluesky.processing.detector.networks.light_architecture import LightArchitecture
from gixi_bluesky.processing.detector.networks.torch_pass import as_input
from gixi_bluesky.processing.evaluation.average_precision import box_iou
from gixi_bluesky.processing.training import losses
from gixi_bluesky.processing.training.losses import Target, loss_of, pair_iou

SMALL = LightArchitecture(
    widths=(8, 8, 8, 8), blocks=(1, 1, 1), pyramid=8, pool_channels=4, hidden=8
)
PARTS_OF_ANY_IMAGE = {"score", "box", "verdict"}


def target(boxes: list[list[float]], ignored: list[list[float]]) -> Target:
    return Target(
        boxes=torch.tensor(boxes).reshape(-1, 4),
        kinds=torch.zeros(len(boxes), dtype=torch.long),
        ignored=torch.tensor(ignored).reshape(-1, 4),
    )


@pytest.fixture
def images() -> torch.Tensor:
    return as_input(np.random.default_rng(0).random((2, 128, 128), dtype=np.float32))


@pytest.fixture
def net() -> LightNet:
    torch.manual_seed(0)
    return LightNet(SMALL)


PEAK, OTHER = [20.0, 10.0, 26.0, 90.0], [60.0, 40.0, 64.0, 70.0]


@pytest.mark.parametrize(
    "targets",
    [
        [target([], []), target([], [])],
        [target([PEAK], []), target([], [])],
        [target([], [PEAK]), target([PEAK, OTHER], [OTHER])],
        [target([[20.0, 10.0, 21.0, 11.0]], []), target([[0.0, 0.0, 127.0, 127.0]], [])],
    ],
)
@pytest.mark.parametrize("mixed", [False, True])
def test_losses_and_their_slopes_are_finite(net, images, targets, mixed):
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        parts = loss_of(net, images, targets)
    assert set(parts) >= PARTS_OF_ANY_IMAGE
    torch.stack([part.float() for part in parts.values()]).sum().backward()
    assert all(torch.isfinite(part) for part in parts.values())
    slopes = [p.grad for p in net.parameters() if p.grad is not None]
    assert all(torch.isfinite(slope).all() for slope in slopes)
    assert any(slope.abs().max() > 0 for slope in slopes)


def test_nothing_to_find_teaches_no_box(net, images):
    parts = loss_of(net, images, [target([], [])] * 2)
    assert parts["box"] == 0
    assert parts["refine"] == 0


def test_ignored_boxes_do_not_count_as_background(net, images):
    # With every anchor near an ignored box there is nothing left to learn from in that region.
    everywhere = [[q, phi - 20, q + 6, phi + 20] for q in range(0, 128, 2) for phi in range(128)]
    open_ = loss_of(net, images, [target([], [])] * 2)["score"]
    ignored = loss_of(net, images, [target([], everywhere)] * 2)["score"]
    assert ignored < open_


def test_anchors_near_a_box_are_all_that_may_stand_for_it(net, images):
    """The columns that are looked at hold every anchor of all that costs little enough."""
    proposals = net.propose(net.features(images))
    boxes = torch.tensor([PEAK, OTHER, [0.0, 0.0, 3.0, 127.0], [123.0, 100.0, 127.0, 110.0]])
    near = losses._near(boxes, proposals)
    everywhere = losses._cost(boxes, proposals.anchors[None])
    for i, found in enumerate(near):
        cheap = torch.nonzero(everywhere[i] <= losses._WORST_COST)[:, 0]
        assert len(cheap)
        assert set(cheap.tolist()) <= set(found.tolist())
    torch.testing.assert_close(
        losses._cost(boxes, proposals.anchors[near]), everywhere.gather(1, near)
    )


def test_a_truth_jittered_inside_out_teaches_no_nonsense(net, images, monkeypatch):
    monkeypatch.setattr(
        losses, "_jittered", lambda boxes, times: boxes[:, [2, 3, 0, 1]].repeat(times, 1)
    )
    parts = loss_of(net, images, [target([PEAK], []), target([OTHER], [])])
    torch.stack(list(parts.values())).sum().backward()
    assert all(torch.isfinite(part) for part in parts.values())
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def test_overlap_of_tensors_is_that_of_arrays():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 20, (2, 7, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 20, (2, 7, 2))], axis=2).astype(np.float32)
    np.testing.assert_allclose(
        pair_iou(torch.from_numpy(boxes[0]), torch.from_numpy(boxes[1])),
        box_iou(boxes[0], boxes[1]),
        rtol=1e-5,
    )
