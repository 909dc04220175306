"""`gixi-bluesky bench`: every stage is timed, several weights side by side."""

from __future__ import annotations

import cv2
import pytest
import torch
import yaml

pytestmark = pytest.mark.slow  # starts processes or networks in most tests


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


def test_json_has_every_stage_and_what_it_ran_on(run, lines, config_file, image):
    result = run(
        "bench", "-c", config_file, "--image", image, "--frames", 5, "--batch", 2, "--threads", 1,
        "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (reported,) = lines(result)
    assert reported["machine"]["threads"] == 1
    assert reported["machine"]["cpus"] >= 1
    assert (reported["shape"], reported["grid"]) == ([300, 320], [128, 256])
    (chain,) = reported["chains"]
    assert (chain["weights"], chain["device"]) == ("classical", "cpu")
    assert chain["peaks"] > 3
    assert chain["maps_ms"] > 0
    assert min(chain["frames_per_second"].values()) > 0
    stages = chain["stages"]
    assert list(stages) == ["remap", "contrast", "sides", "detect", "measure", "match", "whole"]
    for stage in stages.values():
        assert 0 < stage["median_ms"] <= stage["p90_ms"]
        assert stage["cpu_ms"] > 0
        assert stage["ratio"] == stage["cpu_ratio"] == 1
    parts = sum(times["cpu_ms"] for stage, times in stages.items() if stage != "whole")
    assert 0.5 < parts / stages["whole"]["cpu_ms"] < 1.5


def test_several_weights_are_compared_with_the_first(run, lines, config_file, image):
    result = run(
        "bench", "-c", config_file, "--image", image, "--frames", 3, "--batch", 1, "--json",
        "--weights", "classical", "--weights", "light-2026",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    first, second = lines(result)[0]["chains"]
    assert (first["weights"], second["weights"]) == ("classical", "light-2026")
    assert first["stages"]["detect"]["ratio"] == 1
    assert second["stages"]["detect"]["ratio"] != 1


def test_the_table_is_of_the_machine_and_the_stages(run, config_file, image):
    result = run("bench", "-c", config_file, "--image", image, "--frames", 2, "--batch", 2)
    assert result.exit_code == 0, result.output
    for part in ("CPUs", "torch", "300 x 320", "classical on cpu", "detect", "whole", "frames/s"):
        assert part in result.stdout


@pytest.mark.slow
def test_without_a_configuration_a_film_is_simulated(run, lines):
    result = run("bench", "--weights", "classical", "--frames", 1, "--batch", 1, "--json")
    assert result.exit_code == 0, result.output
    (reported,) = lines(result)
    assert (reported["shape"], reported["grid"]) == ([2048, 2048], [512, 1024])
    assert reported["chains"][0]["peaks"] > 5


def test_unknown_weights_are_one_message(run, config_file, image):
    result = run("bench", "-c", config_file, "--image", image, "--weights", "nonsense")
    assert result.exit_code == 2
    assert "got weights 'nonsense'" in result.stderr
    assert result.stdout == ""


def test_an_image_without_its_geometry_is_refused(run, image):
    result = run("bench", "--image", image)
    assert result.exit_code == 2
    assert "--config" in result.stderr


def test_a_mask_wants_the_image_that_it_fits(run, config_file, tmp_path):
    tree = yaml.safe_load(config_file.read_text())
    tree["geometry"]["mask"] = "mask.npy"
    (tmp_path / "masked.yaml").write_text(yaml.safe_dump(tree))
    result = run("bench", "-c", tmp_path / "masked.yaml")
    assert result.exit_code == 2
    assert "geometry.mask" in result.stderr
    assert "give --image" in result.stderr
