"""Simulated training files: the same for the same seed, whole, and with boxes on the grid."""

from __future__ import annotations

from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest

from gixi_bluesky.errors import ConfigError, TrainingError
from gixi_bluesky.processing.detector.contrast import equalise
from gixi_bluesky.processing.evaluation.average_precision import visible_peaks
from gixi_bluesky.processing.settings import ContrastSettings
from gixi_bluesky.processing.simulation.random_scenes import random_frames
from gixi_bluesky.processing.simulation.seeds import (
    CALIBRATION,
    EVALUATION,
    TRAINING,
    require_within,
    structures_for,
)
from gixi_bluesky.processing.training import dataset
from gixi_bluesky.processing.training.dataset import load_image, require_space, simulate_to_disk

SHAPE = (128, 256)


@pytest.fixture(scope="module")
def frames():
    return list(islice(random_frames(5, shape=SHAPE), 2))


@pytest.fixture
def two_frames(monkeypatch, frames):
    """Spare the files the other frames of a seed, and count how often a seed is drawn."""
    drawn: list[int] = []

    def few(seed, structures, shape, space, style):
        assert style == ("varied" if space == "polar" else "plain")
        drawn.append(seed)
        return frames

    monkeypatch.setattr(dataset, "random_frames", few)
    return drawn


@pytest.mark.slow
def test_the_same_seed_gives_the_same_frames(frames):
    for one, other in zip(frames, random_frames(5, shape=SHAPE), strict=False):
        np.testing.assert_array_equal(one.counts, other.counts)
        np.testing.assert_array_equal(one.polar.intensity, other.polar.intensity)
        np.testing.assert_array_equal(one.truth.boxes, other.truth.boxes)
    other = next(random_frames(6, shape=SHAPE))
    assert other.counts.shape != frames[0].counts.shape or np.any(other.counts != frames[0].counts)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [5, 29, 46])
def test_truth_lies_on_the_grid_and_holds_data(seed):
    for frame in islice(random_frames(seed, shape=SHAPE), 2):
        boxes = frame.truth.boxes
        assert np.all(boxes[:, :2] <= boxes[:, 2:])
        assert np.all(boxes[:, [1, 3]] >= 0)
        assert np.all(boxes[:, [1, 3]] <= SHAPE[0] - 1)
        assert np.all((boxes[:, 2] >= 0) & (boxes[:, 2] <= SHAPE[1] - 1))
        assert np.all((frame.truth.visible > 0) & (frame.truth.visible <= 1))


def test_files_are_the_prepared_frames_to_a_grey_level(tmp_path, frames, two_frames):
    paths = simulate_to_disk(5, tmp_path, ContrastSettings())
    assert [path.name for path in paths] == ["00000005-0.npz", "00000005-1.npz"]
    for path, frame in zip(paths, frames, strict=True):
        one = load_image(path)
        np.testing.assert_allclose(
            one.image, equalise(frame.polar.intensity, ContrastSettings()), atol=0.5 / 65534 + 1e-6
        )
        assert len(one.known.boxes) == len(one.kinds) == len(one.snr)
        assert len(one.known.boxes) + len(one.known.ignored) == len(frame.truth)
        assert np.all(one.snr >= 5)


def test_every_tenth_seed_is_painted(tmp_path, two_frames):
    paths = simulate_to_disk(19, tmp_path, ContrastSettings())
    assert not two_frames  # nothing was simulated
    image = load_image(paths[0]).image
    assert image.shape == (512, 1024)
    assert np.isfinite(image).all()


def test_cartesian_images_are_all_of_a_detector(tmp_path, two_frames):
    simulate_to_disk(19, tmp_path, ContrastSettings(), space="cartesian")
    assert two_frames == [19]
    require_space(tmp_path, "cartesian")
    with pytest.raises(TrainingError, match="has cartesian images; expected polar"):
        require_space(tmp_path, "polar")


def test_a_gamma_bends_the_grey_levels_and_leaves_no_data(tmp_path, two_frames):
    path = simulate_to_disk(5, tmp_path, ContrastSettings())[0]
    plain, bent = load_image(path).image, load_image(path, gamma=1.3).image
    np.testing.assert_allclose(bent, plain**1.3, rtol=1e-4, atol=1e-6)


def test_a_seed_that_is_done_is_not_drawn_again(tmp_path, two_frames):
    first = simulate_to_disk(5, tmp_path, ContrastSettings())
    content = [path.read_bytes() for path in first]
    assert simulate_to_disk(5, tmp_path, ContrastSettings()) == first
    assert [path.read_bytes() for path in first] == content
    assert two_frames == [5]
    assert not list(tmp_path.glob("*.part"))


def test_a_seed_left_half_way_is_drawn_again_the_same(tmp_path, two_frames):
    first = simulate_to_disk(5, tmp_path, ContrastSettings())
    (tmp_path / "00000005.done").unlink()
    before = load_image(first[1])
    first[1].unlink()
    again = simulate_to_disk(5, tmp_path, ContrastSettings())
    assert again == first
    np.testing.assert_array_equal(load_image(again[1]).image, before.image)
    assert two_frames == [5, 5]


def test_shoulders_weak_peaks_and_hidden_ones_are_not_asked_for():
    box = [10.0, 10.0, 20.0, 20.0]
    truth = SimpleNamespace(
        boxes=np.array([box, box, [50, 50, 60, 60], [80, 80, 90, 90]], np.float32),
        snr=np.array([100.0, 20.0, 4.9, 50.0]),
        visible=np.array([1.0, 1.0, 1.0, 0.2]),
    )
    assert visible_peaks(truth).tolist() == [True, False, False, False]


def test_training_calibration_and_evaluation_share_no_seed_and_no_structure():
    ends = [(r.start, r.stop) for r in (TRAINING, CALIBRATION, EVALUATION)]
    assert ends[0][1] <= ends[1][0]
    assert ends[1][1] <= ends[2][0]
    taught = {structure.name for structure in structures_for(TRAINING)}
    judged = {structure.name for structure in structures_for(EVALUATION)}
    assert judged == {"LaB6", "CsPbBr3", "PbBr2"}
    assert taught
    assert not taught & judged


@pytest.mark.parametrize(("first", "count"), [(0, 5), (909_999, 2), (910_000, 0), (-1, 1)])
def test_seeds_of_another_purpose_are_refused(first, count):
    with pytest.raises(ConfigError, match="no network is judged on what trained it"):
        require_within(first, count, EVALUATION)
