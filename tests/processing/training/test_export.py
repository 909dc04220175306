"""Calibration against known chances, and weights that load as a detector."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.detector import load_detector
from gixi_bluesky.processing.detector.networks.second_stage import calibrated
from gixi_bluesky.processing.detector.networks.torch_pass import as_input, detect
from gixi_bluesky.processing.evaluation.average_precision import Verdicts
from gixi_bluesky.processing.training.dataset import load_image
from gixi_bluesky.processing.training.export import calibrate, export
from gixi_bluesky.processing.training.loop import CHECKPOINT, Recipe, averaged_network, train


def verdicts(scores, hits) -> Verdicts:
    return Verdicts(np.asarray(scores, float), np.asarray(hits, bool), ())


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (2.0, -1.0), (0.6, 0.8)])
def test_calibration_recovers_the_chances_that_drew_the_hits(slope, offset):
    rng = np.random.default_rng(4)
    scores = rng.uniform(0.02, 0.98, 40_000)
    hits = rng.random(len(scores)) < expit(slope * logit(scores) + offset)
    assert calibrate(verdicts(scores, hits)) == pytest.approx((slope, offset), abs=0.06)


def test_calibration_stays_finite_where_scores_part_hits_from_misses():
    slope, offset = calibrate(verdicts([0.9, 0.8, 0.2, 0.1], [True, True, False, False]))
    assert 0 < slope < 100
    assert np.isfinite(offset)


@pytest.mark.parametrize("hits", [[True, True], [False, False], []])
def test_calibration_needs_hits_and_misses(hits):
    with pytest.raises(WeightsError, match="needs both"):
        calibrate(verdicts(np.full(len(hits), 0.5), hits))


@pytest.mark.slow
def test_an_export_loads_as_a_calibrated_detector(tmp_path, images, held_out):
    folder = tmp_path / "run"
    recipe = Recipe(images=120, warm_up=10, report_every=30, average=0.9, learning_rate=3e-3)
    train(recipe, folder, images, held_out)
    manifest = export(folder, tmp_path / "out", "mine", held_out, images)
    assert manifest.network == "light"
    assert (manifest.grid.multiple, manifest.grid.smallest) == ((32, 2), (64, 64))
    notes = json.loads(manifest.notes)
    assert notes["images_seen"] == 120
    assert notes["recipe"]["seed"] == 1
    assert notes["calibrated_on"] == {"images": 2, "first_seed": 900000, "last_seed": 900001}
    assert notes["trained_on"] == {"images": 1, "first_seed": 0, "last_seed": 0}

    detector = load_detector(tmp_path / "out" / "mine.safetensors")
    image = load_image(next(images.glob("*.npz"))).image[None]
    stored = torch.load(folder / CHECKPOINT, weights_only=True)
    expected = calibrated(
        detect(averaged_network(stored), as_input(image))[0], *manifest.calibration
    )
    # Folding the normalisations into the convolutions changes the last digits.
    np.testing.assert_allclose(detector(image)[0].scores, expected.scores, rtol=1e-4)


def test_an_export_needs_a_checkpoint_and_held_out_files(tmp_path, images, held_out):
    with pytest.raises(WeightsError, match="train there first"):
        export(tmp_path, tmp_path / "out", "mine", held_out)
    folder = tmp_path / "run"
    train(Recipe(images=2, report_every=1), folder, images, held_out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="needs frames held out"):
        export(folder, tmp_path / "out", "mine", tmp_path / "empty")
    assert not (tmp_path / "out").exists()
