"""The training loop: it learns, reports, and goes on where it was stopped."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from gixi_bluesky.errors import ConfigError, TrainingError
from gixi_bluesky.processing.detector.networks.torch_pass import as_input, detect
from gixi_bluesky.processing.evaluation.average_precision import average_precision, judge
from gixi_bluesky.processing.training import loop
from gixi_bluesky.processing.training.dataset import load_image
from gixi_bluesky.processing.training.loop import (
    CHECKPOINT,
    CURVE,
    Recipe,
    averaged_network,
    train,
)

QUICK = Recipe(images=8, batch=2, warm_up=2, report_every=2)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_a_few_dozen_steps_on_one_image_find_its_boxes(tmp_path, images, held_out):
    recipe = Recipe(images=160, batch=2, warm_up=10, average=0.9, learning_rate=3e-3)
    net = train(recipe, tmp_path / "run", images, held_out)
    one = load_image(next(images.glob("*.npz")))
    found = detect(net, as_input(one.image[None]))[0]
    best = found.above(0.3, 10)
    verdicts = judge([best], [one.known], 0.5)
    assert (verdicts.owners[0] >= 0).all()
    assert average_precision(verdicts) > 0.95


def test_each_report_follows_a_checkpoint_and_a_row_of_the_curve(tmp_path, images, held_out):
    folder, rows = tmp_path / "run", []

    def report(row):
        stored = torch.load(folder / CHECKPOINT, weights_only=True)
        rows.append(row)
        assert stored["seen"] == row["seen"]

    train(QUICK, folder, images, held_out, report=report)
    written = [json.loads(line) for line in (folder / CURVE).read_text().splitlines()]
    assert written == rows
    assert [row["seen"] for row in rows] == [4, 8]
    assert all(0 <= row["ap0.3"] <= 1 for row in rows)


def test_training_goes_on_from_its_checkpoint(tmp_path, images, held_out):
    folder = tmp_path / "run"
    train(QUICK, folder, images, held_out)
    before = torch.load(folder / CHECKPOINT, weights_only=True)
    rows = []
    train(replace(QUICK, images=12), folder, images, held_out, report=rows.append)
    after = torch.load(folder / CHECKPOINT, weights_only=True)
    assert (before["seen"], after["seen"]) == (8, 12)
    assert [row["seen"] for row in rows] == [12]
    steps = [one["optimiser"]["state"][0]["step"].item() for one in (before, after)]
    assert steps == [4, 6]


def test_a_finished_training_is_left_as_it_is(tmp_path, images, held_out):
    folder = tmp_path / "run"
    first = train(QUICK, folder, images, held_out)
    again = train(QUICK, folder, images, held_out)
    for one, other in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_kill_while_saving_leaves_the_last_checkpoint(tmp_path, images, held_out, monkeypatch):
    folder = tmp_path / "run"
    train(QUICK, folder, images, held_out)
    before = (folder / CHECKPOINT).read_bytes()
    whole = torch.save

    def killed(stored, path):
        whole({"half": 1}, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        train(replace(QUICK, images=12), folder, images, held_out)
    assert (folder / CHECKPOINT).read_bytes() == before


@pytest.mark.slow
def test_the_same_recipe_on_the_same_files_gives_the_same_network(tmp_path, images, held_out):
    nets = [train(QUICK, tmp_path / name, images, held_out) for name in ("one", "other")]
    other = train(replace(QUICK, seed=2), tmp_path / "another", images, held_out)
    states = [net.state_dict() for net in nets]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["verdict.weight"], other.state_dict()["verdict.weight"])


def test_the_averaged_network_is_what_the_checkpoint_holds(tmp_path, images, held_out):
    net = train(QUICK, tmp_path / "run", images, held_out)
    stored = torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)
    again = averaged_network(stored)
    assert not again.training
    assert all(torch.equal(again.state_dict()[key], value) for key, value in
               net.state_dict().items())  # fmt: skip


def test_without_images_there_is_no_training(tmp_path, held_out):
    with pytest.raises(ConfigError, match="simulate some before training"):
        train(QUICK, tmp_path / "run", tmp_path, held_out)


def test_a_loss_that_is_no_number_ends_it_and_the_last_checkpoint_stays(
    tmp_path, images, held_out, monkeypatch
):
    folder = tmp_path / "run"
    train(QUICK, folder, images, held_out)
    kept = (folder / CHECKPOINT).read_bytes()
    real = loop.loss_of

    def broken(net, images, targets):
        return {name: part * torch.nan for name, part in real(net, images, targets).items()}

    monkeypatch.setattr(loop, "loss_of", broken)
    with pytest.raises(TrainingError, match="lower the learning rate"):
        train(replace(QUICK, images=16), folder, images, held_out)
    assert (folder / CHECKPOINT).read_bytes() == kept


@pytest.mark.slow
def test_a_training_with_a_time_limit_ends_with_it(tmp_path, images, held_out):
    rows = []
    recipe = replace(QUICK, images=10**6, minutes=0.05)
    train(recipe, tmp_path / "run", images, held_out, report=rows.append)
    assert 3.0 <= rows[-1]["seconds"] < 60.0
    assert rows[-1]["seen"] < 10**6
