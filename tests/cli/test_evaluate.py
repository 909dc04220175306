"""`gixi-bluesky evaluate`: a table, JSON lines, a picture, and no seed of the training."""

from __future__ import annotations

from itertools import islice

import cv2
import pytest
import torch

from gixi_bluesky.processing.evaluation import scorecard
from gixi_bluesky.processing.simulation.random_scenes import random_frames

pytestmark = pytest.mark.slow  # starts processes or networks in most tests


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


@pytest.fixture
def small_frames(monkeypatch):
    """Simulated frames on a small grid."""

    def small(seed, images, space, style):
        for frame in islice(random_frames(seed, shape=(128, 256)), images):
            yield scorecard.Exercise(frame.polar.intensity, frame.polar.q, frame.truth)

    monkeypatch.setattr(scorecard, "evaluation_frames", small)


def test_json_has_a_line_for_each_of_the_weights(run, lines, small_frames, tmp_path):
    result = run(
        "evaluate", "--weights", "classical", "--weights", "classical", "--images", 2, "--json",
        "--out", tmp_path / "curve.png",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    one, other = lines(result)
    assert one["weights"] == other["weights"] == "classical"
    assert one["average_precision"] == other["average_precision"]
    assert set(one["recall"]) == {"weak", "medium", "strong", "ring", "segment", "spot"}
    assert one["images"] == 2
    assert (tmp_path / "curve.png").is_file()


def test_the_table_names_what_was_measured(run, small_frames):
    result = run("evaluate", "--weights", "classical", "--images", 2)
    assert result.exit_code == 0, result.output
    for row in ("2 frames", "AP, IoU 0.5", "recall, weak", "precision", "CPU seconds a frame"):
        assert row in result.stdout


def test_training_seeds_are_refused(run):
    result = run("evaluate", "--weights", "classical", "--seed", 3)
    assert result.exit_code == 2
    assert "no network is judged on what trained it" in result.stderr


def test_unknown_weights_are_one_message(run):
    result = run("evaluate", "--weights", "nonsense", "--images", 1)
    assert result.exit_code == 2
    assert "got weights 'nonsense'" in result.stderr


def test_cartesian_frames_are_shown_to_what_knows_them(run, lines):
    result = run("evaluate", "--weights", "classical", "--space", "cartesian", "--images", 2,
                 "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    (card,) = lines(result)
    assert card["images"] == 2
    assert card["recall"]["ring"] is None
    refused = run("evaluate", "--weights", "light-2026", "--space", "cartesian", "--images", 2)
    assert refused.exit_code == 2
    assert "know polar images only" in refused.stderr


def test_painted_images_have_no_cartesian_kind(run):
    result = run("evaluate", "--style", "painted", "--space", "cartesian")
    assert result.exit_code == 2
    assert "painted images are polar" in result.stderr


def test_phases_are_judged_on_simulated_mixtures(run, lines, tmp_path):
    target = tmp_path / "reliability.png"
    result = run("evaluate", "--phases", "peaks", "--images", 2, "--json", "--out", target)
    assert result.exit_code == 0, result.output
    (card,) = lines(result)
    assert card["frames"] == 2
    assert card["candidates"] >= 100
    assert 0 <= card["calibration_error"] <= 1
    assert target.read_bytes().startswith(b"\x89PNG")


def test_the_table_of_phases_names_what_was_measured(run):
    result = run("evaluate", "--phases", "peaks", "--images", 1)
    assert result.exit_code == 0, result.output
    assert "calibration error" in result.output


def test_the_expansion_of_simulated_series_is_evaluated(run, lines):
    (report,) = lines(run("evaluate", "--phases", "series", "--series", 1, "--json"))
    assert report["expansion"]["frames"] == 20
    assert report["expansion"]["found"] > 0.5
    assert 0 < report["expansion"]["length_error"] < 0.005
    table = run("evaluate", "--phases", "series", "--series", 1)
    assert "median error of the expansion" in table.stdout


def test_the_errors_of_measured_peaks_are_evaluated_too(run, lines):
    (report,) = lines(run("evaluate", "--measuring", "--images", 2, "--json"))
    assert report["peaks"] > 20
    assert 0 < report["dq_bins"] < 1
    assert {pull["quantity"] for pull in report["pulls"]} >= {"q", "intensity", "fwhm_phi"}
    table = run("evaluate", "--measuring", "--images", 2)
    assert "strong, in pairs" in table.stdout
