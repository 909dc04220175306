"""Boxes: coding is reversible, suppression is the greedy one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gixi_bluesky.processing.detector.boxes import clipped, decoded, distinct, suppress
from gixi_bluesky.processing.detector.networks.box_tensors import (
    clip_boxes,
    decode_boxes,
    encode_boxes,
)


def random_boxes(seed: int, n: int, size: float = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 100, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(1, size, (n, 2))], axis=1).astype(
        np.float32
    )


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return float(shared / (sum(areas) - shared))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_decoding_inverts_encoding(seed):
    boxes, anchors = (torch.from_numpy(random_boxes(seed + i, 20)) for i in (0, 1))
    again = decode_boxes(encode_boxes(boxes, anchors), anchors)
    torch.testing.assert_close(again, boxes, rtol=1e-4, atol=1e-3)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_arrays_and_tensors_are_decoded_and_clipped_alike(seed):
    anchors = random_boxes(seed, 20)
    deltas = np.random.default_rng(seed).normal(0, 3, (20, 4)).astype(np.float32)
    boxes = decode_boxes(torch.from_numpy(deltas), torch.from_numpy(anchors))
    np.testing.assert_allclose(decoded(deltas, anchors), boxes, rtol=1e-5, atol=1e-3)
    clip = clip_boxes(boxes, (60, 80)).numpy()
    np.testing.assert_array_equal(clipped(boxes.numpy(), (60, 80)), clip)


def test_no_change_decodes_to_the_anchor():
    anchors = torch.from_numpy(random_boxes(0, 5))
    torch.testing.assert_close(decode_boxes(torch.zeros(5, 4), anchors), anchors)


def test_an_absurd_size_stays_finite():
    box = decode_boxes(torch.full((1, 4), 1e4), torch.tensor([[0.0, 0.0, 16.0, 16.0]]))
    assert torch.isfinite(box).all()
    assert (box[0, 2] - box[0, 0]).item() == pytest.approx(1000, rel=1e-3)


@given(seed=st.integers(0, 2**32 - 1), iou=st.sampled_from([0.1, 0.5, 0.9]))
@settings(max_examples=30, deadline=None)
def test_suppression_keeps_the_best_of_each_overlapping_group(seed, iou):
    boxes = random_boxes(seed, 40)
    scores = np.random.default_rng(seed).permutation(40).astype(np.float32) / 41 + 0.01
    kept: list[int] = []
    for index in np.argsort(-scores):
        if all(overlap(boxes[index], boxes[other]) <= iou for other in kept):
            kept.append(int(index))
    assert suppress(boxes, scores, iou).tolist() == kept


def test_nothing_is_suppressed_to_nothing():
    assert suppress(np.empty((0, 4), np.float32), np.empty(0, np.float32), 0.5).shape == (0,)


def test_boxes_are_cut_at_the_image():
    clipped = clip_boxes(torch.tensor([[-5.0, -6.0, 300.0, 100.0]]), (64, 128))
    assert clipped.tolist() == [[0, 0, 128, 64]]


def test_two_boxes_side_by_side_on_a_ring_are_one_peak():
    boxes = np.array([[100, 10, 104, 400], [101.5, 30, 105.5, 380]], np.float32)
    assert distinct(boxes, np.array([0.6, 0.9], np.float32)).tolist() == [1]


def test_a_spot_on_a_ring_and_two_arcs_of_one_ring_stay_apart():
    ring, spot = [100, 10, 104, 400], [100, 200, 104, 220]
    lower, upper = [200, 10, 204, 90], [200, 150, 204, 230]
    boxes = np.array([ring, spot, lower, upper], np.float32)
    assert sorted(distinct(boxes, np.array([0.9, 0.8, 0.7, 0.6], np.float32))) == [0, 1, 2, 3]


def test_no_boxes_are_no_peaks():
    assert distinct(np.empty((0, 4), np.float32), np.empty(0, np.float32)).size == 0
