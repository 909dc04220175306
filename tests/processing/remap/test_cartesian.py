"""Films like a single crystal: spots are searched in (q_xy, q_z), and stay what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gixi_bluesky as gixi
from gixi_bluesky.config import parse_config
from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.geometry.instrument import Geometry

SHAPE = (500, 700)
GEOMETRY = {
    "energy_kev": 12.4,
    "distance_mm": 200.0,
    "pixel_size_mm": [0.3, 0.3],
    "beam_center_px": [20.0, 340.0],
    "incidence_angle_deg": 0.3,
}
# q_xy, q_z, counts in the middle; standard deviations along q_xy and q_z, 1/angstrom.
SPOTS = np.array(
    [
        [0.60, 0.50, 900, 0.010, 0.012],
        [0.60, 1.00, 500, 0.010, 0.012],
        [0.60, 1.50, 300, 0.010, 0.012],
        [1.20, 0.50, 600, 0.010, 0.012],
        [1.20, 1.00, 400, 0.010, 0.012],
        [1.80, 0.50, 300, 0.010, 0.030],
    ]
)
Q_MAX = 2.4


def film(rng: np.random.Generator) -> np.ndarray:
    geometry = Geometry.from_settings(config(Path()).geometry)
    q_xy, q_z = geometry.q_at(*np.indices(SHAPE).astype(float))
    expected = np.full(SHAPE, 20.0)
    for x, z, counts, wide, tall in SPOTS:
        off = ((np.abs(q_xy) - x) / wide) ** 2 + ((q_z - z) / tall) ** 2
        expected += counts * np.exp(-0.5 * off)
    return rng.poisson(np.where(q_z > geometry.horizon_q_z, expected, 0)).astype(np.uint16)


def config(folder: Path, **grid: Any) -> gixi.Config:
    tree = {
        "geometry": GEOMETRY,
        "grid": {"q_max_inv_angstrom": Q_MAX, "shape": [512, 512], **grid},
        "detector": {"weights": "classical"},
        "corrections": {"solid_angle": False, "polarization": None},
    }
    return parse_config(tree, folder=folder)


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    return film(np.random.default_rng(8))


def nearest(result: gixi.FrameResult) -> np.ndarray:
    """Index of the peak nearest to each spot."""
    peaks = result.peaks
    off = np.hypot(peaks["q_xy"].to_numpy() - SPOTS[:, :1], peaks["q_z"].to_numpy() - SPOTS[:, 1:2])
    return off.argmin(axis=1)


@pytest.mark.parametrize("side", ["fold", "right", "left"])
def test_every_spot_is_found_where_it_is(tmp_path: Path, frame: np.ndarray, side: str) -> None:
    result = gixi.Pipeline(config(tmp_path, space="cartesian", side=side))(frame)
    found = result.peaks.iloc[nearest(result)]
    assert len(result.peaks) == len(SPOTS)
    np.testing.assert_allclose(found["q_xy"], SPOTS[:, 0], atol=2e-3)
    np.testing.assert_allclose(found["q_z"], SPOTS[:, 1], atol=3e-3)
    np.testing.assert_allclose(found["q"], np.hypot(SPOTS[:, 0], SPOTS[:, 1]), rtol=1e-3)
    np.testing.assert_allclose(
        found["phi"], np.degrees(np.arctan2(SPOTS[:, 1], SPOTS[:, 0])), atol=0.15
    )
    assert np.all(found["q_error"] < 2e-3)
    assert set(found["kind"]) == {"spot"}


def test_both_grids_measure_the_same_spots(tmp_path: Path, frame: np.ndarray) -> None:
    cartesian = gixi.Pipeline(config(tmp_path, space="cartesian"))(frame)
    polar = gixi.Pipeline(config(tmp_path))(frame)
    assert polar.cartesian is None
    np.testing.assert_array_equal(cartesian.polar_image, polar.polar_image)
    one, other = (r.peaks.iloc[nearest(r)].reset_index() for r in (cartesian, polar))
    np.testing.assert_allclose(one["intensity"], other["intensity"], rtol=0.15)
    np.testing.assert_allclose(one["fwhm_q"], other["fwhm_q"], rtol=0.25)
    np.testing.assert_allclose(one["fwhm_phi"], other["fwhm_phi"], rtol=0.35)


def test_boxes_are_in_pixels_of_the_image_that_was_searched(
    tmp_path: Path, frame: np.ndarray
) -> None:
    result = gixi.Pipeline(config(tmp_path, space="cartesian"))(frame)
    image = result.cartesian
    assert image is not None
    peak = result.peaks.iloc[nearest(result)[0]]
    column, row = (peak["x0"] + peak["x1"]) / 2, (peak["y0"] + peak["y1"]) / 2
    assert image.q_xy[round(column)] == pytest.approx(SPOTS[0, 0], abs=5e-3)
    assert image.q_z[round(row)] == pytest.approx(SPOTS[0, 1], abs=8e-3)
    beyond = np.hypot(image.q_xy, image.q_z[:, None]) > Q_MAX + 0.01
    assert np.isnan(image.intensity[beyond]).all()


CIF = """data_film
_cell_length_a 10.472
_cell_length_b 10.472
_cell_length_c 12.566
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 4/m m m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Pb1 Pb 0 0 0
"""


def test_phases_are_matched_by_the_modulus_of_q(tmp_path: Path, frame: np.ndarray) -> None:
    (tmp_path / "film.cif").write_text(CIF)
    settings = config(tmp_path, space="cartesian")
    matching = settings.matching.model_copy(update={"cif": (tmp_path / "film.cif",)})
    result = gixi.Pipeline(settings.model_copy(update={"matching": matching}))(frame)
    (found,) = result.matches.to_dict("records")
    assert found["n_matched"] >= len(SPOTS) - 1
    assert found["lattice_scale"] == pytest.approx(1, abs=1e-3)


def test_no_gap_becomes_a_spot(tmp_path: Path, frame: np.ndarray) -> None:
    gaps = frame.astype(np.int32)
    gaps[150:167] = -2
    gaps[:, 440:447] = -2
    result = gixi.Pipeline(config(tmp_path, space="cartesian", side="right"))(gaps)
    image = result.cartesian
    assert image is not None
    for _, peak in result.peaks.iterrows():
        rows = slice(round(peak["y0"]), round(peak["y1"]) + 1)
        columns = slice(round(peak["x0"]), round(peak["x1"]) + 1)
        assert np.isfinite(image.intensity[rows, columns]).mean() > 0.5
    assert len(result.peaks) <= len(SPOTS)


def test_networks_made_for_polar_images_are_refused(tmp_path: Path) -> None:
    settings = config(tmp_path, space="cartesian")
    detector = settings.detector.model_copy(update={"weights": "light-2026"})
    with pytest.raises(WeightsError, match="know polar images only"):
        gixi.Pipeline(settings.model_copy(update={"detector": detector}))
