"""All boxes of a frame judged together, and the features that this rests on."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from gixi_bluesky.errors import ConfigError, WeightsError
from gixi_bluesky.processing.detector.judging.box_context import FEATURES, box_context
from gixi_bluesky.processing.detector.judging.box_judge import BoxJudge, shipped_judge
from gixi_bluesky.processing.detector.judging.ring_proposals import with_proposals
from gixi_bluesky.processing.evaluation.average_precision import KnownBoxes
from gixi_bluesky.processing.training import judging
from gixi_bluesky.processing.types import Detections

ROWS, COLUMNS = np.mgrid[:512, :400]
LINE, WIDTH = 200.0, 6.0


def image(course: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return a noisy line at one |q| with an intensity (512,) along phi, and a gap."""
    rng = np.random.default_rng(seed)
    bell = np.exp(-4 * np.log(2) * ((COLUMNS - LINE) / WIDTH) ** 2)
    grey = 0.2 + 0.03 * rng.standard_normal(ROWS.shape) + bell * course[:, None]
    grey[240:250] = np.nan
    return grey.astype(np.float32)


def box(row: float, height: float) -> list[float]:
    return [LINE - WIDTH / 2, row - height / 2, LINE + WIDTH / 2, row + height / 2]


def found(*boxes: list[float], score: float = 0.9) -> Detections:
    return Detections(np.array(boxes, np.float32), np.full(len(boxes), score, np.float32))


GRAINS = np.random.default_rng(3).uniform(20, 490, 16)
COARSE = np.sum([0.6 * np.exp(-0.5 * ((ROWS[:, 0] - row) / 4) ** 2) for row in GRAINS], axis=0)
RING = box(255, 480)


def of(name: str, table: np.ndarray) -> np.ndarray:
    return table[:, FEATURES.index(name)]


def test_crystallites_of_one_ring_become_one_ring() -> None:
    pieces = found(*(box(row, 16) for row in GRAINS))
    judged = shipped_judge("box-judge-2026")(image(COARSE), pieces).above(0.5, 100)
    assert len(judged) == 1
    assert judged.boxes[0, 3] - judged.boxes[0, 1] > 400


def test_two_spots_of_one_q_stay_two_spots() -> None:
    course = sum(0.6 * np.exp(-0.5 * ((ROWS[:, 0] - row) / 6) ** 2) for row in (120, 380))
    spots = found(box(120, 24), box(380, 24))
    judged = shipped_judge("box-judge-2026")(image(course), spots).above(0.5, 100)
    assert sorted(judged.boxes[:, 1].tolist()) == [108, 368]


def test_a_smooth_ring_stays() -> None:
    judged = shipped_judge("box-judge-2026")(image(np.full(512, 0.3)), found(RING))
    assert judged.scores[0] > 0.8
    assert judged.boxes[0].tolist() == RING


def test_the_same_boxes_come_back_each_time_best_first() -> None:
    pieces = found(*(box(row, 16) for row in GRAINS[:5]), RING, score=0.6)
    one, other = (shipped_judge("box-judge-2026")(image(COARSE), pieces) for _ in range(2))
    np.testing.assert_array_equal(one.boxes, other.boxes)
    np.testing.assert_array_equal(one.scores, other.scores)
    assert (np.diff(one.scores) <= 0).all()


def test_nothing_found_and_an_image_without_data_are_no_errors() -> None:
    judge = shipped_judge("box-judge-2026")
    empty = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32))
    assert len(judge(image(COARSE), empty)) == 0
    dark = np.full((512, 400), np.nan, np.float32)
    judged = judge(dark, found(RING, box(100, 20)))
    assert np.isfinite(judged.scores).all()


def test_features_are_finite_and_say_what_their_names_say() -> None:
    boxes = found(RING, box(120, 24), box(380, 24))
    kept, proposed = np.full(512, 0.3), np.zeros(3, bool)
    spots = sum(0.6 * np.exp(-0.5 * ((ROWS[:, 0] - row) / 6) ** 2) for row in (120, 380))
    smooth, empty = (
        box_context(image(course), boxes.boxes, boxes.scores, proposed)
        for course in (kept + spots, spots)
    )
    assert np.isfinite(smooth).all()
    assert of("tall", smooth).tolist() == [1, 0, 0]
    assert of("small_on_line", smooth)[0] == pytest.approx(np.log1p(2))
    assert of("container", smooth)[1] == pytest.approx(0.9)
    # Between its spots one ring is there and the other is not.
    assert of("between_significance", smooth)[0] > np.log1p(20)
    assert abs(of("between_significance", empty)[0]) < np.log1p(4)


def test_pieces_and_pairs_propose_rings_and_a_ring_keeps_them_from_it() -> None:
    pieces = found(box(60, 20), box(400, 20))
    joined, proposed = with_proposals(pieces, 512)
    assert proposed.tolist() == [False, False, True]
    assert joined.boxes[2, [1, 3]].tolist() == [50, 410]
    _, proposed = with_proposals(found(box(60, 20), box(400, 20), RING), 512)
    assert not proposed.any()
    beside = [LINE + WIDTH / 2, 20, LINE + 1.5 * WIDTH, 480]
    joined, proposed = with_proposals(found(RING, beside), 512)
    assert joined.boxes[proposed].tolist() == [[RING[0], RING[1], beside[2], RING[3]]]


def test_a_manifest_that_names_an_unknown_judge_is_refused() -> None:
    with pytest.raises(WeightsError, match="none of that name"):
        shipped_judge("of-tomorrow")


@pytest.mark.slow
def test_a_judge_learns_that_pieces_of_rings_are_none(monkeypatch, tmp_path) -> None:
    """Fitted to a few frames, the judge keeps the ring and drops its pieces on another frame."""
    pieces = [box(row, 16) for row in GRAINS]
    known = KnownBoxes(np.array([RING], np.float32), np.empty((0, 4), np.float32))
    monkeypatch.setattr(
        judging, "load_image", lambda seed: SimpleNamespace(image=image(COARSE, seed), known=known)
    )
    rng = np.random.default_rng(0)
    frames = list(judging.judged_frames(range(3), lambda _: found(*pieces, RING, score=0.6), rng))
    assert len(frames) == 6
    assert frames[0].hit.sum() == 1
    judge = judging.fit_judge(frames)
    judge.save(tmp_path / "judge.npz")
    with np.load(tmp_path / "judge.npz") as stored:
        again = BoxJudge(**{name: stored[name] for name in stored})
    judged = again(image(COARSE, 99), found(*pieces, RING, score=0.6))
    assert judged.boxes[0].tolist() == RING
    assert judged.scores[0] > judged.scores[1:].max()
    with pytest.raises(ConfigError, match="no simulated files"):
        list(judging.judged_frames([], lambda _: found(RING), rng))
