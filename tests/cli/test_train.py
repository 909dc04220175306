"""`gixi-bluesky train`: from nothing to weights that load, and on from where it was stopped."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from gixi_bluesky.errors import TrainingError, WeightsError
from gixi_bluesky.processing.detector import find_weights, load_detector
from gixi_bluesky.processing.detector.judging.box_judge import BoxJudge
from gixi_bluesky.processing.detector.weights import load_tensors
from gixi_bluesky.processing.training import dataset, workers
from gixi_bluesky.processing.training.curves import read_curve
from gixi_bluesky.processing.training.dataset import load_image
from gixi_bluesky.processing.training.loop import Recipe
from gixi_bluesky.processing.types import Detections

pytestmark = pytest.mark.slow  # starts processes or networks in most tests


def write_image(path, seed, space):
    rng = np.random.default_rng(seed)
    grey = rng.normal(70, 10, (64, 64))
    grey[10:50, 20:26] += 120
    np.savez(
        path,
        grey=(np.clip(grey, 1, 255) * 257).astype(np.uint16),
        boxes=np.array([[20, 10, 25, 49]], np.float32),
        ignored=np.empty((0, 4), np.float32),
        kinds=np.array([1]),
        snr=np.array([20.0]),
        space=np.array(space),
    )


@pytest.fixture
def simulated(monkeypatch):
    """Tiny images instead of simulated ones; returns the seeds that were asked for."""
    asked = []

    @contextmanager
    def quick(images, seeds, held_out, held_out_seeds, count, space):
        asked.append((seeds, held_out_seeds, count))
        for folder, some in ((images, seeds[:2]), (held_out, held_out_seeds[:2])):
            folder.mkdir(parents=True, exist_ok=True)
            for seed in some:
                write_image(folder / f"{seed:08d}-0.npz", seed, space)
        yield

    monkeypatch.setattr(workers, "simulation", quick)
    monkeypatch.setattr(Recipe.__init__, "__defaults__", _with_reports_every(3))
    return asked


def _with_reports_every(steps):
    names = [f.name for f in Recipe.__dataclass_fields__.values()][1:]
    defaults = dict(zip(names, Recipe.__init__.__defaults__, strict=True))
    return tuple({**defaults, "report_every": steps, "warm_up": 2}.values())


def test_training_leaves_weights_a_curve_and_a_checkpoint(run, simulated, tmp_path):
    out = tmp_path / "mine"
    result = run("train", "--out", out, "--images", 12, "--workers", 3, "--seed", 8, "--name", "x")
    assert result.exit_code == 0, result.output
    assert simulated == [(range(8, 10), range(900_000, 900_010), 3)]
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert [row["seen"] for row in read_curve(out / "curve.jsonl")] == [6, 12]
    assert load_detector(out / "x.safetensors").name == "x"
    assert result.stdout == ""
    assert "12 of 12 images" in result.stderr


def test_the_same_command_again_goes_on(run, simulated, tmp_path):
    run("train", "--out", tmp_path, "--images", 6, "--device", "cpu")
    more = ("--images", 12, "--batch", 3, "--learning-rate", 1e-4)
    result = run("train", "--out", tmp_path, *more, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "6 of" not in result.stderr
    stored = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert stored["seen"] == 12
    assert (stored["recipe"]["batch"], stored["recipe"]["learning_rate"]) == (3, 1e-4)


def test_weights_of_cartesian_images_ask_for_such_a_grid(run, simulated, tmp_path):
    small = ("--images", 6, "--device", "cpu", "--name", "x")
    result = run("train", "--out", tmp_path, *small, "--space", "cartesian")
    assert result.exit_code == 0, result.output
    assert load_detector(tmp_path / "x.safetensors", space="cartesian").name == "x"
    with pytest.raises(WeightsError, match="know cartesian images only"):
        load_detector(tmp_path / "x.safetensors")


def test_training_goes_on_from_weights(run, simulated, tmp_path):
    run("train", "--out", tmp_path / "first", "--images", 6, "--device", "cpu", "--name", "x")
    weights = tmp_path / "first" / "x.safetensors"
    few = ("--images", 2, "--learning-rate", 1e-12, "--device", "cpu")
    result = run("train", "--out", tmp_path / "second", *few, "--from", weights)
    assert result.exit_code == 0, result.output
    stored = torch.load(tmp_path / "second" / "checkpoint.pt", weights_only=True)
    for name, value in load_tensors(*find_weights(weights)).items():
        if name.endswith(("weight", "bias")):
            torch.testing.assert_close(stored["averaged"][name], value, rtol=0, atol=1e-6)
    assert stored["began_with"].startswith("x ")
    run("train", "--out", tmp_path / "second", "--images", 4, "--device", "cpu")
    again = torch.load(tmp_path / "second" / "checkpoint.pt", weights_only=True)
    assert (again["seen"], again["began_with"]) == (4, stored["began_with"])


@pytest.mark.parametrize("option", ["--from", "--judge"])
@pytest.mark.parametrize(
    ("weights", "words"),
    [("classical", "none"), ("light-cartesian-2026", "cartesian"), ("none", "'none'")],
)
def test_unfit_weights_are_refused_before_images_are_made(run, tmp_path, option, weights, words):
    result = run("train", option, weights, "--out", tmp_path / "mine", "--images", 8)
    assert result.exit_code != 0
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "mine").exists()


def test_images_of_another_space_are_not_mixed_in(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    write_image(images / "00000000-0.npz", 0, "polar")
    seeds = (range(1, 2), tmp_path / "held-out", range(900_000, 900_001))
    mixed = workers.simulation(images, *seeds, 1, "cartesian")
    with pytest.raises(TrainingError, match="has polar images; expected cartesian"), mixed:
        pass


def test_a_judge_is_fitted_to_what_weights_find(run, tmp_path, monkeypatch):
    asked = []

    def quick(seed, folder, contrast, structures):
        asked.append(seed)
        paths = [folder / f"{seed:08d}-{i}.npz" for i in range(2)]
        for path in paths:
            write_image(path, seed, "polar")
        return paths

    monkeypatch.setattr(dataset, "simulate_to_disk", quick)
    out = tmp_path / "mine"
    result = run("train", "--judge", "light-2026", "--out", out, "--images", 9, "--seed", 40)
    assert result.exit_code == 0, result.stderr
    assert asked == [40, 41]
    with np.load(out / "box-judge.npz") as arrays:
        judge = BoxJudge(**arrays)
    image = np.full((448, 448), 0.3, np.float32)
    image[100:200, 50:56] = 0.9
    boxes = np.array([[50, 100, 55, 199], [300, 20, 304, 24]], np.float32)
    judged = judge(image, Detections(boxes, np.array([0.9, 0.4], np.float32)))
    assert len(judged)
    assert ((judged.scores > 0) & (judged.scores < 1)).all()


def test_seeds_kept_for_evaluation_are_refused(run, tmp_path):
    result = run("train", "--out", tmp_path / "mine", "--seed", 899_999, "--images", 16)
    assert result.exit_code == 2
    assert "no network is judged on what trained it" in result.stderr
    assert not (tmp_path / "mine").exists()


@pytest.mark.system
def test_workers_simulate_what_was_asked_for(tmp_path):
    images, held_out = tmp_path / "images", tmp_path / "held-out"
    with workers.simulation(images, range(2, 3), held_out, range(900_000, 900_001), 1):
        there = sorted(path.name for path in tmp_path.glob("*/*.npz"))
    assert there == [f"{seed:08d}-{i}.npz" for seed in (2, 900_000) for i in range(8)]
    assert all(load_image(path).image.shape == (512, 1024) for path in images.glob("*.npz"))
