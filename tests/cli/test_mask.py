"""`gixi-bluesky mask`: a mask file from frames, and what it says of them."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile


@pytest.fixture
def frames(tmp_path):
    rng = np.random.default_rng(2)
    paths = []
    for number in range(5):
        frame = rng.poisson(60, (120, 140)).astype(np.int32)
        frame[30, 40], frame[50, 60] = 9200, 0
        frame[:, 70] = -1
        tifffile.imwrite(tmp_path / f"frame_{number}.tif", frame)
        paths.append(tmp_path / f"frame_{number}.tif")
    return paths


def test_the_mask_holds_the_bad_pixels_and_the_counts_are_printed(run, lines, frames, tmp_path):
    out = tmp_path / "mask.npy"
    result = run("mask", *frames, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    (said,) = lines(result)
    assert (said["hot"], said["dead"], said["absent"], said["blinking"]) == (1, 1, 120, 0)
    mask = np.load(out)
    assert mask.dtype == bool
    assert mask[30, 40]
    assert mask[50, 60]
    assert mask.sum() == 122
    assert "hot: 1" in run("mask", *frames, "--out", out).stdout


def test_masks_are_added_and_too_much_masked_is_warned_about(run, frames, tmp_path):
    most = np.ones((120, 140), bool)
    most[:5] = False
    np.save(tmp_path / "most.npy", most)
    out = tmp_path / "mask.npy"
    result = run("mask", frames[0], "--add", tmp_path / "most.npy", "--out", out)
    assert result.exit_code == 0, result.output
    assert "were the frames exposed?" in result.stderr
    assert "four frames or more" in result.stderr
    assert np.load(out)[5:].all()


def test_another_format_is_refused(run, frames, tmp_path):
    result = run("mask", frames[0], "--out", tmp_path / "mask.edf")
    assert result.exit_code == 2
