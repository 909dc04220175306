"""Scorecards: what was found, counted by class, on frames that no detector was trained on."""

from __future__ import annotations

import json
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest

from gixi_bluesky.errors import ConfigError
from gixi_bluesky.processing.detector.classical.search import ClassicalDetector
from gixi_bluesky.processing.evaluation import scorecard
from gixi_bluesky.processing.evaluation.average_precision import KnownBoxes, boxes_on_rings
from gixi_bluesky.processing.evaluation.figure import save_figure
from gixi_bluesky.processing.evaluation.scorecard import (
    Exercise,
    compare,
    evaluation_frames,
    painted_exercises,
)
from gixi_bluesky.processing.simulation.random_scenes import random_frames
from gixi_bluesky.processing.types import Detections

BOXES = np.array(
    [[10, 10, 20, 20], [30, 10, 40, 20], [50, 10, 60, 20], [70, 10, 80, 20]], np.float32
)


def a_frame():
    """Weak spot, medium segment, strong ring, and one too weak to ask for."""
    truth = SimpleNamespace(
        boxes=BOXES,
        q=np.array([0.15, 0.35, 0.55, 0.75]),
        snr=np.array([6.0, 20.0, 80.0, 3.0]),
        visible=np.ones(4),
        kind=("spot", "segment", "ring", "spot"),
    )
    return Exercise(np.zeros((32, 100), np.float32), 0.01 * np.arange(100), truth)


class Scripted:
    """A detector that finds the same on every frame."""

    name, sha256, device = "scripted", "0" * 64, "cpu"

    def __init__(self, boxes, scores):
        self.found = Detections(np.array(boxes, np.float32).reshape(-1, 4), np.float32(scores))

    def prepare(self, polar):
        return polar

    def __call__(self, images):
        return [self.found for _ in images]


def card_of(boxes, scores, frames=1):
    (card,) = compare([Scripted(boxes, scores)], iter([a_frame() for _ in range(frames)]))
    return card


def test_a_perfect_detector_gets_full_marks():
    card = card_of(BOXES[:3], [0.9, 0.8, 0.7])
    assert set(card.average_precision) == {"0.1", "0.3", "0.5", "dq"}
    assert set(card.average_precision.values()) == {1.0}
    assert set(card.recall.values()) == {1.0}
    assert card.precision == 1.0
    assert card.dq_over_q == pytest.approx(0, abs=1e-9)
    assert (card.images, card.peaks) == (1, 3)


def test_recall_is_counted_by_visibility_and_kind():
    card = card_of(BOXES[[0, 2]], [0.9, 0.8])
    assert card.recall == {
        "weak": 1, "medium": 0, "strong": 1, "ring": 1, "segment": 0, "spot": 1
    }  # fmt: skip


def test_what_scores_below_the_threshold_is_no_recall_and_no_false_alarm():
    card = card_of([*BOXES[:3], [85, 10, 95, 20]], [0.9, 0.49, 0.8, 0.4])
    assert card.recall["medium"] == 0
    assert card.precision == 1.0
    assert card.average_precision["0.5"] == pytest.approx(1.0)


def test_a_peak_too_weak_to_ask_for_is_neither_hit_nor_miss():
    card = card_of(BOXES, [0.9, 0.8, 0.7, 0.95])
    assert card.precision == 1.0
    assert card.peaks == 3


def test_the_error_of_q_is_that_of_the_box_centre():
    moved = BOXES[:3] + np.array([1, 0, 1, 0], np.float32)
    card = card_of(moved, [0.9, 0.8, 0.7])
    assert card.dq_over_q == pytest.approx(np.median([0.01 / 0.15, 0.01 / 0.35, 0.01 / 0.55]))


def test_the_calibration_curve_counts_hits_of_similar_score():
    card = card_of([*BOXES[:3], [85, 10, 95, 20]], [0.95, 0.93, 0.31, 0.33], frames=2)
    assert [(round(b.expected, 2), b.observed, b.count) for b in card.calibration] == [
        (0.32, 0.5, 4),
        (0.94, 1.0, 4),
    ]


def test_a_detector_that_finds_nothing_has_a_scorecard_for_json():
    summary = card_of([], []).summary()
    text = json.dumps(summary, allow_nan=False)
    assert json.loads(text)["precision"] is None
    assert summary["average_precision"]["0.3"] == 0
    assert summary["recall"]["strong"] == 0
    assert summary["calibration"] == []


def test_a_ring_in_three_pieces_has_three_boxes_and_a_spot_on_it_is_another_peak():
    ring, spot, faint = [100, 20, 110, 480], [101, 200, 109, 220], [300, 10, 306, 400]
    known = KnownBoxes(np.array([ring, spot, faint], np.float32), np.empty((0, 4), np.float32))
    pieces = [[100, 20, 110, 60], [102, 100, 112, 140], [98, 300, 108, 330]]
    found = np.array([*pieces, spot, [500, 0, 510, 400]], np.float32)
    on_rings = boxes_on_rings(Detections(found, np.ones(5, np.float32)), known)
    assert on_rings.tolist() == [3, 0]
    whole = Detections(np.array([ring, spot], np.float32), np.ones(2, np.float32))
    assert boxes_on_rings(whole, known).tolist() == [1, 0]


def test_without_frames_nothing_can_be_said():
    (card,) = compare([Scripted([], [])], iter([]))
    assert card.images == 0
    assert all(value is None for value in card.summary()["recall"].values())


@pytest.mark.slow
def test_a_real_detector_on_simulated_frames_finds_strong_peaks_best(tmp_path):
    frames = islice(random_frames(910_001, shape=(128, 256)), 3)
    exercises = [Exercise(f.polar.intensity, f.polar.q, f.truth) for f in frames]
    (card,) = compare([ClassicalDetector()], exercises)
    assert card.images == 3
    assert card.peaks > 3
    assert 0 <= card.average_precision["0.5"] <= card.average_precision["0.1"] <= 1
    assert card.recalls[-1] <= 1
    assert card.cpu_s > 0
    save_figure([card], tmp_path / "new" / "curve.png")
    assert (tmp_path / "new" / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("seed", [0, 1499, 900_003, 909_999])
def test_seeds_of_training_and_calibration_are_refused(seed):
    with pytest.raises(ConfigError, match="within 910000 to"):
        evaluation_frames(seed, 4)


def test_frames_go_on_with_the_next_seed_after_two_of_a_set_up(monkeypatch):
    asked = []

    def few(seed, structures, count, space, style):
        asked.append((seed, sorted(s.name for s in structures)))
        for i in range(count):
            polar = SimpleNamespace(intensity=f"{seed}-{i}", q=None)
            yield SimpleNamespace(polar=polar, truth=None, cartesian=None)

    monkeypatch.setattr(scorecard, "random_frames", few)
    exercises = list(evaluation_frames(910_010, 3))
    held_out = ["CsPbBr3", "LaB6", "PbBr2"]
    assert [e.intensity for e in exercises] == ["910010-0", "910010-1", "910011-0"]
    assert asked == [(910_010, held_out), (910_011, held_out)]


def test_q_of_a_box_is_along_the_columns_or_from_both_axes():
    axis = np.linspace(0, 2, 5)
    box = np.array([[1, 2, 3, 4]], np.float32)
    assert Exercise(np.zeros((5, 5)), axis, None).q_at(box) == pytest.approx([1.0])
    cartesian = Exercise(np.zeros((5, 5)), axis, None, q_z=axis)
    assert cartesian.q_at(box) == pytest.approx([np.hypot(1.0, 1.5)])


def test_painted_images_are_other_ones_than_those_of_training():
    images = list(painted_exercises(910_000, 9))
    assert [e.intensity.shape for e in images] == [(512, 512)] * 9
    assert not np.array_equal(images[0].intensity, images[8].intensity)
    with pytest.raises(ConfigError, match="within 910000 to"):
        painted_exercises(9, 8)
