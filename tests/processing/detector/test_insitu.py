"""An in-situ series on a detector with gaps: both halves are used, and no gap is a peak."""

from __future__ import annotations

from pathlib import Path

import fabio
import numpy as np
import pandas as pd
import pytest

import gixi_bluesky as gixi
from gixi_bluesky.config import parse_config
from gixi_bluesky.processing.measure.peaks import CUT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.data,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:fabio"),
]

GEOMETRY = {
    "wavelength_angstrom": 0.976254,
    "distance_mm": 230.0,
    "pixel_size_mm": [0.172, 0.172],
    "beam_center_px": [388.0, 535.5],
    "incidence_angle_deg": 0.3,
    "flip": "vertical",
}
FRAMES = (10, 80, 160)


def read(shared_data: Path, number: int) -> np.ndarray:
    folder = shared_data / "mapi_insitu_cms"
    return fabio.open(next(folder.glob(f"*{number:06d}_maxs.tiff"))).data


def pipeline(folder: Path, weights: str = "classical", **grid: object) -> gixi.Pipeline:
    tree = {
        "geometry": GEOMETRY,
        "grid": {"q_max_inv_angstrom": 3.0, **grid},
        "detector": {"weights": weights},
    }
    return gixi.Pipeline(parse_config(tree, folder=folder))


def test_both_halves_are_folded(tmp_path: Path, shared_data: Path) -> None:
    frame = read(shared_data, 160)
    polars = {
        side: pipeline(tmp_path, side=side)(frame).polar for side in ("fold", "right", "left")
    }
    seen = {side: np.isfinite(polar.intensity) for side, polar in polars.items()}
    both = seen["right"] & seen["left"]
    assert both.sum() > 0.5 * seen["fold"].sum()
    # What one half lacks, the other has: gaps and missing modules close.
    assert seen["fold"].sum() > 1.02 * max(seen["right"].sum(), seen["left"].sum())
    right, left, fold = (polars[side] for side in ("right", "left", "fold"))
    weight = right.pixels + left.pixels
    expected = (right.intensity * right.pixels + left.intensity * left.pixels) / weight
    # All but the few cells that hold a pixel's centre on one side only.
    assert np.isclose(fold.pixels[both], weight[both], rtol=1e-3).mean() > 0.999
    assert np.isclose(fold.intensity[both], expected[both], rtol=2e-3, atol=1e-2).mean() > 0.999


@pytest.mark.parametrize("number", FRAMES)
@pytest.mark.parametrize("weights", ["classical", "default"])
def test_no_peak_lies_on_a_gap(
    tmp_path: Path, shared_data: Path, weights: str, number: int
) -> None:
    """On one half, where gaps stay open: a spot that one hides in part says that it is cut."""
    result = pipeline(tmp_path, weights, side="right")(read(shared_data, number))
    require_data_under(result.peaks, np.isfinite(result.polar_image))


def test_the_spots_are_found_in_q_xy_and_q_z_too(tmp_path: Path, shared_data: Path) -> None:
    result = pipeline(tmp_path, space="cartesian", shape=[1024, 1024])(read(shared_data, 160))
    image = result.cartesian
    assert image is not None
    spots = [(1.60, 63.0), (1.86, 67.3), (2.22, 50.3), (1.65, 31.3), (2.08, 15.8), (1.77, 9.3)]
    peaks = result.peaks
    missed = [
        (q, phi)
        for q, phi in spots
        if not ((np.abs(peaks["q"] - q) < 0.04) & (np.abs(peaks["phi"] - phi) < 2.5)).any()
    ]
    assert len(missed) <= 1, missed
    require_data_under(peaks, np.isfinite(image.intensity))


def require_data_under(peaks: pd.DataFrame, seen: np.ndarray) -> None:
    for peak in peaks.to_dict("records"):
        rows = slice(max(int(peak["y0"]), 0), int(np.ceil(peak["y1"])) + 1)
        columns = slice(max(int(peak["x0"]), 0), int(np.ceil(peak["x1"])) + 1)
        share = seen[rows, columns].mean()
        assert share > (0.2 if peak["fit_flags"] & CUT else 0.6), peak
