"""`list` shows derived runs by readable names; `process --series` takes files as one film."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tifffile

pytestmark = pytest.mark.slow  # starts processes or networks in most tests


@pytest.mark.slow
def test_runs_of_a_results_directory_are_listed(run, lines, config_file, image, tmp_path):
    folder = tmp_path / "scan_a"
    folder.mkdir()
    shutil.copy(image, folder / "film_0001.tif")
    watched = run("process", "--watch", folder, "--config", config_file, "--stop-after", 1)
    assert watched.exit_code == 0, watched.stderr
    listed = run("list", "--config", config_file, "--json")
    assert listed.exit_code == 0, listed.stderr
    (row,) = lines(listed)
    assert (row["n_frames"], row["state"]) == (1, "complete")
    assert list(row["phases"]) == ["MAPbBr3"]
    shown = run("list", "--config", config_file)
    assert row["uid"][:8] in shown.stdout
    assert "MAPbBr3" in shown.stdout
    again = run("list", "--directory", tmp_path / "results", "--json")
    assert lines(again) == [row]


@pytest.mark.slow
def test_a_folder_that_was_analysed_before_is_shown_from_its_run(
    run, lines, config_file, image, tmp_path
):
    folder = tmp_path / "scan_a"
    folder.mkdir()
    for number in range(2):
        shutil.copy(image, folder / f"film_{number}.tif")
    command = ("process", "--watch", folder, "--config", config_file, "--stop-after", 1, "--json")
    first = lines(run(*command))
    second = run(*command)
    assert lines(second) == first
    said = " ".join(second.stderr.split())
    assert "was analysed with the same settings before" in said
    assert "no new images" in said
    shutil.copy(image, folder / "film_2.tif")
    third = {one["image"]: one for one in lines(run(*command))}
    assert sorted(third) == [str(folder / f"film_{number}.tif") for number in range(3)]
    assert len(lines(run(*command, "--again"))) == 3
    listed = lines(run("list", "--config", config_file, "--json"))
    assert sorted(row["n_frames"] for row in listed) == [1, 2, 3]


def test_an_empty_directory_says_what_makes_runs(run, tmp_path):
    listed = run("list", "--directory", tmp_path)
    assert listed.exit_code == 0
    assert "no derived run" in listed.stderr
    assert "gixi-bluesky process" in " ".join(listed.stderr.split())


def test_a_series_follows_its_peaks(run, lines, config_file, frame, tmp_path):
    random = np.random.default_rng(3)
    names = [tmp_path / f"film_{number}.tif" for number in range(3)]
    for name in names:
        tifffile.imwrite(name, random.poisson(frame).astype(np.int32))
    result = run("process", "--series", *names, "--config", config_file, "--json")
    assert result.exit_code == 0, result.stderr
    *frames, film = lines(result)
    assert [one["image"] for one in frames] == [str(name) for name in names]
    strongest = [max(one["peaks"], key=lambda peak: peak["intensity"])["track"] for one in frames]
    assert len(set(strongest)) == 1  # one ring, one number
    assert strongest[0] >= 0
    assert [phase["phase"] for phase in film["phases"]] == ["MAPbBr3"]
    rows = [row for row in film["courses"] if row["track"] == strongest[0]]
    assert [row["frame"] for row in rows] == [0, 1, 2]
    assert film["cells"] == []  # no line is left
    amounts = [row["amount"] for row in film["phase_courses"] if row["phase"] == "MAPbBr3"]
    assert len(amounts) == 3
    assert max(amounts) == pytest.approx(1.0, abs=0.1)
    alone = run("process", *names, "--config", config_file, "--json")
    assert {peak["track"] for one in lines(alone) for peak in one["peaks"]} == {-1}


def test_a_series_takes_files_only(run, config_file, tmp_path):
    result = run("process", "--series", "--watch", tmp_path, "--config", config_file)
    assert result.exit_code == 2
    assert "--series takes image files" in " ".join(result.stderr.replace("│", "").split())
