"""Average precision and its kin, by hand-made cases and against a slow independent count."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gixi_bluesky.processing.evaluation.average_precision import (
    KnownBoxes,
    Verdicts,
    average_precision,
    box_iou,
    judge,
    judge_by_q,
)
from gixi_bluesky.processing.types import Detections

NONE = np.empty((0, 4), np.float32)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def detections(*rows: tuple[float, tuple[float, float, float, float]]) -> Detections:
    return Detections(boxes(*(box for _, box in rows)), np.array([s for s, _ in rows], np.float32))


A, B, C = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10)
ALMOST_A = (0, 0, 10, 8)


def test_finding_everything_and_nothing_else_is_perfect():
    found = [detections((0.9, A), (0.4, B)), detections((0.6, C))]
    known = [KnownBoxes(boxes(A, B), NONE), KnownBoxes(boxes(C), NONE)]
    assert average_precision(judge(found, known, 0.5)) == 1.0


def test_finding_nothing_is_worth_nothing():
    known = [KnownBoxes(boxes(A), NONE)]
    assert average_precision(judge([detections()], known, 0.5)) == 0.0
    assert average_precision(judge([detections((0.9, B))], known, 0.5)) == 0.0


def test_without_anything_to_find_there_is_no_precision():
    verdicts = judge([detections((0.9, A))], [KnownBoxes(NONE, NONE)], 0.5)
    assert np.isnan(average_precision(verdicts))
    assert verdicts.hits.tolist() == [False]
    assert np.isnan(average_precision(judge([], [], 0.5)))


def test_one_false_box_above_the_second_hit():
    # precision 1 up to recall 1/2, then 2/3.
    found = [detections((0.9, A), (0.8, C), (0.7, B))]
    verdicts = judge(found, [KnownBoxes(boxes(A, B), NONE)], 0.5)
    assert verdicts.hits.tolist() == [True, False, True]
    assert average_precision(verdicts) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_the_second_box_on_a_peak_is_false():
    verdicts = judge([detections((0.6, A), (0.9, ALMOST_A))], [KnownBoxes(boxes(A), NONE)], 0.5)
    assert verdicts.scores.tolist() == pytest.approx([0.9, 0.6])
    assert verdicts.hits.tolist() == [True, False]
    assert verdicts.owners[0].tolist() == [1]


@pytest.mark.parametrize(("iou", "hit"), [(0.79, True), (0.81, False)])
def test_a_hit_overlaps_enough(iou, hit):
    verdicts = judge([detections((0.9, ALMOST_A))], [KnownBoxes(boxes(A), NONE)], iou)
    assert verdicts.hits.tolist() == [hit]


@pytest.mark.parametrize("rule", [lambda d, k: judge(d, k, 0.3), judge_by_q])
def test_ignored_boxes_are_neither_hit_nor_miss(rule):
    known = [KnownBoxes(boxes(A), boxes(B))]
    verdicts = rule([detections((0.9, B), (0.8, A), (0.7, C))], known)
    assert verdicts.scores.tolist() == pytest.approx([0.8, 0.7])
    assert verdicts.hits.tolist() == [True, False]
    assert verdicts.n_known == 1


def test_a_hit_counts_although_an_ignored_box_lies_there_too():
    verdicts = judge([detections((0.9, A))], [KnownBoxes(boxes(A), boxes(ALMOST_A))], 0.3)
    assert verdicts.hits.tolist() == [True]


def test_by_q_the_phi_of_a_box_hardly_matters():
    tall, short = (0, 0, 10, 100), (0, 0, 10, 15)
    known = [KnownBoxes(boxes(tall), NONE)]
    assert judge([detections((0.9, short))], known, 0.3).hits.tolist() == [False]
    assert judge_by_q([detections((0.9, short))], known).hits.tolist() == [True]


def test_by_q_ten_pixels_are_too_far():
    known = [KnownBoxes(boxes((0, 0, 100, 10)), NONE)]
    near, far = (9.5, 0, 109.5, 10), (10.5, 0, 110.5, 10)
    assert judge_by_q([detections((0.9, near))], known).hits.tolist() == [True]
    assert judge_by_q([detections((0.9, far))], known).hits.tolist() == [False]


coordinates = st.integers(0, 12)
random_boxes = st.lists(
    st.tuples(coordinates, coordinates, st.integers(1, 8), st.integers(1, 8)), max_size=4
).map(lambda rows: boxes(*((x, y, x + w, y + h) for x, y, w, h in rows)))


@given(random_boxes, random_boxes)
def test_overlap_counts_the_unit_cells_that_two_boxes_share(one, other):
    def cells(box: np.ndarray) -> set[tuple[int, int]]:
        x0, y0, x1, y1 = (int(v) for v in box)
        return {(x, y) for x in range(x0, x1) for y in range(y0, y1)}

    expected = [[len(cells(a) & cells(b)) / len(cells(a) | cells(b)) for b in other] for a in one]
    np.testing.assert_allclose(
        box_iou(one, other), np.array(expected).reshape(len(one), len(other)), atol=1e-6
    )


@settings(max_examples=60)
@given(random_boxes, random_boxes)
def test_by_q_the_matching_is_the_best_of_all(found, known):
    owner = judge_by_q(
        [Detections(found, np.full(len(found), 0.5, np.float32))], [KnownBoxes(known, NONE)]
    ).owners[0]

    def cost(pairs: list[tuple[int, int]]) -> tuple[int, float] | None:
        if any(box_iou(found[i][None], known[j][None])[0, 0] <= 0.1 for i, j in pairs):
            return None
        distance = sum(abs(found[i][[0, 2]].mean() - known[j][[0, 2]].mean()) for i, j in pairs)
        return (-len(pairs), float(distance))

    size = min(len(found), len(known))
    options = [
        cost([(i, j) for i, j in zip(chosen, range(len(known)), strict=True) if i >= 0])
        for chosen in set(permutations([*range(len(found)), *[-1] * len(known)], len(known)))
    ]
    best = min((o for o in options if o is not None), default=(0, 0.0))
    ours = cost([(int(i), j) for j, i in enumerate(owner) if i >= 0])
    assert ours is not None
    assert ours[0] == best[0] >= -size
    assert ours[1] == pytest.approx(best[1])


@given(st.lists(st.booleans(), max_size=30), st.integers(0, 10))
def test_average_precision_is_the_mean_best_precision_at_each_hit(hits, missed):
    known = sum(hits) + missed
    if not known:
        return
    verdicts = Verdicts(
        scores=np.linspace(1, 0, len(hits)),
        hits=np.array(hits, bool),
        owners=(np.zeros(known, np.int64),),
    )
    best_from = [
        max(sum(hits[:n]) / n for n in range(k + 1, len(hits) + 1)) for k in range(len(hits))
    ]
    expected = sum(p for p, hit in zip(best_from, hits, strict=True) if hit) / known
    assert average_precision(verdicts) == pytest.approx(expected)
