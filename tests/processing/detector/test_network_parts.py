"""The parts of the two-stage network: strides, folding, anchors, pooling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from gixi_bluesky.processing.detector.networks.backbone import Architecture, Backbone, Pyramid
from gixi_bluesky.processing.detector.networks.heads import roi_align
from gixi_bluesky.processing.detector.networks.proposals import anchors_of, propose

SMALL = Architecture(widths=(8, 8, 16, 16), blocks=1, pyramid=8, hidden=8, roi=(4, 4))
WITH_VALIDITY = Architecture(channels=2, widths=(8, 8, 16, 16), pyramid=8)


@pytest.mark.parametrize("architecture", [SMALL, WITH_VALIDITY])
def test_phi_is_compressed_and_q_is_not(architecture):
    images = torch.zeros(2, architecture.channels, 64, 128)
    maps = Pyramid(architecture)(Backbone(architecture)(images))
    shapes = [tuple(m.shape) for m in maps]
    assert shapes == [(2, 8, 64 // phi, 128 // q) for phi, q in architecture.strides]


def test_folding_the_normalisations_changes_nothing():
    torch.manual_seed(0)
    backbone = Backbone(SMALL)
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(module.weight)
    images = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        before = backbone.eval()(images)
        backbone.fold_norms()
        after = backbone(images)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in backbone.modules())
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_anchors_are_centred_on_index_times_stride():
    anchors = anchors_of((2, 3), (8, 4), ((50, 10), (100, 10)))
    assert anchors.shape == (12, 4)
    assert anchors[0].tolist() == [-5, -25, 5, 25]
    assert anchors[1].tolist() == [-5, -50, 5, 50]
    assert anchors[2].tolist() == [-1, -25, 9, 25]
    assert anchors[6].tolist() == [-5, -17, 5, 33]


def test_proposals_come_best_first_and_once():
    anchors = anchors_of((8, 16), (8, 4), ((20, 10), (40, 10)))
    logits = torch.full((len(anchors),), -5.0)
    logits[100], logits[51] = 3.0, 2.0
    found = propose([(logits, torch.zeros(len(anchors), 4))], [anchors], (64, 64))
    torch.testing.assert_close(found[0], anchors[100].clamp(0, 64))
    torch.testing.assert_close(found[1], anchors[51].clamp(0, 64))
    assert len(found.unique(dim=0)) == len(found)


def pooled_by_definition(
    features: np.ndarray, box: np.ndarray, bins: tuple[int, int]
) -> np.ndarray:
    """Average of bilinear samples on a regular grid in each bin, interpolated by scipy."""
    starts, ends = (box[1], box[0]), (box[3], box[2])
    axes = []
    for start, end, n in zip(starts, ends, bins, strict=True):
        size = max(end - start, 1) / n
        samples = int(np.ceil(size))
        axes.append(start + (np.arange(n * samples) + 0.5) * size / samples)
    grid = np.meshgrid(*axes, indexing="ij")
    outside = np.zeros(grid[0].shape, bool)
    for axis, n in zip(grid, features.shape[1:], strict=True):
        outside |= (axis < -1) | (axis > n)
    inner = [axis.clip(0, n - 1) for axis, n in zip(grid, features.shape[1:], strict=True)]
    values = np.stack([map_coordinates(channel, inner, order=1) for channel in features])
    values[:, outside] = 0
    rows, columns = bins
    shape = (len(features), rows, values.shape[1] // rows, columns, values.shape[2] // columns)
    return values.reshape(shape).mean(axis=(2, 4))


def test_pooling_averages_bilinear_samples():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(3, 20, 40)).astype(np.float32)
    corner = rng.uniform([-2, -2], [36, 16], (40, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.1, 30, (40, 2))], axis=1)
    boxes[:, 0::2], boxes[:, 1::2] = boxes[:, 0::2].clip(0, 40), boxes[:, 1::2].clip(0, 20)
    boxes = boxes.astype(np.float32)
    ours = roi_align(torch.from_numpy(features), torch.from_numpy(boxes), (4, 5)).numpy()
    for box, result in zip(boxes, ours, strict=True):
        expected = pooled_by_definition(features, box.astype(np.float64), (4, 5))
        np.testing.assert_allclose(result, expected, atol=1e-4)


def test_pooling_nothing_gives_nothing():
    assert roi_align(torch.zeros(3, 8, 8), torch.empty(0, 4), (4, 4)).shape == (0, 3, 4, 4)
