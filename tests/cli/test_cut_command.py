"""`cut` and `plot` as a scientist calls them."""

from __future__ import annotations

import numpy as np
import pytest
import yaml


def read(path):
    lines = path.read_text().splitlines()
    header = [line for line in lines if line.startswith("#")]
    return header, np.loadtxt(path, ndmin=2)


def test_a_sector_becomes_three_columns(run, config_file, image, tmp_path):
    out = tmp_path / "film.xy"
    result = run("cut", image, "--config", config_file, "--sector", 10, 80, "--out", out)
    assert result.exit_code == 0, result.stderr
    header, columns = read(out)
    assert header[-1].split() == ["#", "q_A^-1", "I", "sigma"]
    assert any("film.tif" in line for line in header)
    q, intensity, sigma = columns.T
    assert np.all(np.diff(q) > 0)
    # The strongest line of MAPbBr3 within reach, 200 at 2.118, or 100 at 1.059.
    assert min(abs(q[intensity.argmax()] - line) for line in (1.059, 2.118)) < 0.01
    assert np.all(sigma > 0)


def test_without_a_file_the_curve_goes_to_stdout(run, config_file, image):
    result = run("cut", image, "--config", config_file, "--ring", 1.02, 1.10, "--bins", 18)
    assert result.exit_code == 0, result.stderr
    columns = np.array([line.split() for line in result.stdout.splitlines() if line[0] != "#"])
    assert columns.shape[1] == 3
    assert 0 < len(columns) <= 18


def test_configured_cuts_get_a_file_each_and_a_picture(run, config_file, image, tmp_path):
    tree = yaml.safe_load(config_file.read_text())
    tree["cuts"] = {
        "film": {"along": "q", "phi": [10, 80]},
        "rod": {"along": "q_z", "q_xy": [1.0, 1.08]},
    }
    config_file.write_text(yaml.safe_dump(tree))
    out, plot = tmp_path / "cuts.xy", tmp_path / "cuts.png"
    result = run("cut", image, "-c", config_file, "--out", out, "--plot", plot)
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in tmp_path.glob("*.xy")) == ["cuts_film.xy", "cuts_rod.xy"]
    assert plot.read_bytes().startswith(b"\x89PNG")
    one = run("cut", image, "-c", config_file, "--cut", "rod", "--out", tmp_path / "one.xy")
    assert one.exit_code == 0, one.stderr
    np.testing.assert_array_equal(read(tmp_path / "one.xy")[1], read(tmp_path / "cuts_rod.xy")[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "the configuration has no cuts"),
        (["--sector", 10, 80, "--ring", 1, 2], "give one of them"),
        (["--along", "q_z"], "needs a range of q_xy"),
        (["--across", 1, 2], "--across needs --along"),
        (["--ring", 2.0, 1.0], "the lower one first"),
        (["--ring", 8.0, 9.0], "is empty"),
        (["--cut", "film"], "has the cuts [], not ['film']"),
    ],
)
def test_what_cannot_be_cut_is_said(run, config_file, image, options, message):
    result = run("cut", image, "--config", config_file, *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", "").split())


@pytest.mark.slow
def test_a_picture_of_one_frame(run, config_file, image, tmp_path):
    tree = yaml.safe_load(config_file.read_text())
    tree["cuts"] = {"ring": {"along": "phi", "q": [1.02, 1.10]}}
    config_file.write_text(yaml.safe_dump(tree))
    out = tmp_path / "frame.png"
    result = run("plot", image, "--config", config_file, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert out.read_bytes().startswith(b"\x89PNG")
    assert out.stat().st_size > 20_000
