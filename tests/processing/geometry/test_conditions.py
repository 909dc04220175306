"""Values that each frame brings along: energy, distance, angle, monitor; maps built when needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyFAI.detectors import Detector
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

import gixi_bluesky as gixi
from gixi_bluesky.config import Config, parse_config
from gixi_bluesky.errors import ConfigError, GeometryError
from gixi_bluesky.processing.geometry.conditions import Conditions, sources
from gixi_bluesky.processing.geometry.instrument import Geometry

SHAPE = (161, 201)
NUMBERS = {
    "energy_kev": 12.4,
    "distance_mm": 200.0,
    "pixel_size_mm": [1.0, 1.0],
    "beam_center_px": [10.0, 80.0],
    "incidence_angle_deg": 0.5,
}


def config(folder: Path, geometry: Any = NUMBERS, **corrections: Any) -> Config:
    tree = {
        "geometry": geometry,
        "grid": {"q_max_inv_angstrom": 2.5, "shape": [32, 64]},
        "detector": {"weights": "classical"},
        "corrections": {"solid_angle": False, "polarization": None, **corrections},
    }
    return parse_config(tree, folder=folder)


def pipeline(folder: Path, geometry: Any = NUMBERS, **corrections: Any) -> gixi.Pipeline:
    return gixi.Pipeline(config(folder, geometry, **corrections))


def without(*names: str, **more: Any) -> dict[str, Any]:
    return {name: value for name, value in NUMBERS.items() if name not in names} | more


@pytest.mark.parametrize(
    ("name", "source", "raw", "value"),
    [
        ("energy_kev", {"from": "mono", "unit": "eV"}, 10200.0, 10.2),
        ("energy_kev", {"from": "mono", "offset": 0.2}, 10.0, 10.2),
        ("distance_mm", {"from": "arm", "unit": "m", "scale": -1, "offset": 0.3}, 0.05, 250.0),
        ("distance_mm", {"from": "arm", "unit": "um"}, 250e3, 250.0),
        ("incidence_angle_deg", {"from": "th", "unit": "mrad"}, np.radians(250), 0.25),
    ],
)
def test_units_scale_and_offset(
    tmp_path: Path, name: str, source: Any, raw: float, value: float
) -> None:
    settings = config(tmp_path, without(name, **{name: source}))
    (key,) = sources(settings.geometry, settings.corrections).items()
    assert key[0] == name
    assert key[1].value(raw) == pytest.approx(value)


def test_a_frame_with_its_own_values_is_as_if_they_were_configured(tmp_path: Path) -> None:
    frame = np.random.default_rng(0).poisson(50, SHAPE).astype(np.int32)
    moving = pipeline(
        tmp_path,
        without("energy_kev", wavelength_angstrom={"from": "wl"}, distance_mm={"from": "arm"}),
    )
    for wavelength, distance in ((1.0, 200.0), (1.1, 200.0), (1.0, 220.0)):
        fixed = without("energy_kev", wavelength_angstrom=wavelength, distance_mm=distance)
        expected = pipeline(tmp_path, fixed)(frame)
        own = Conditions(wavelength_angstrom=wavelength, distance_mm=distance)
        found = moving(frame, conditions=own)
        np.testing.assert_array_equal(found.polar_image, expected.polar_image)


@pytest.mark.slow
def test_maps_are_built_when_a_value_really_changes(tmp_path: Path) -> None:
    frame = np.ones(SHAPE)
    moving = pipeline(tmp_path, without("energy_kev", energy_kev={"from": "mono"}))
    for energy in (12.0, 12.1, 12.0, 12.1, 12.0 + 1e-6, 12.1 - 1e-6):
        moving(frame, conditions=Conditions(energy_kev=energy))
    assert moving.maps_built == 2
    moving(frame, 0.5 + 1e-6, conditions=Conditions(energy_kev=12.0))
    assert moving.maps_built == 2
    moving(frame, 0.501, conditions=Conditions(energy_kev=12.0))
    assert moving.maps_built == 3


@given(
    st.builds(
        Conditions,
        incidence_angle_deg=st.floats(0, 10),
        energy_kev=st.floats(4, 120),
        distance_mm=st.floats(50, 5000),
    )
)
def test_rounding_is_far_below_a_pixel(exact: Conditions) -> None:
    rounded = exact.rounded()
    assert rounded == rounded.rounded()
    for name, value in exact.given().items():
        change = abs(getattr(rounded, name) - value)
        assert change <= (5.1e-5 if name == "incidence_angle_deg" else 1.1e-5 * value)


def poni(path: Path, distance: float, wavelength: float) -> Path:
    detector = Detector(1e-3, 1e-3, max_shape=SHAPE, orientation=3)
    AzimuthalIntegrator(
        distance, 0.01, 0.08, 0.02, -0.03, 0.1, detector=detector, wavelength=wavelength
    ).save(str(path))
    return path


def test_energy_and_distance_of_a_frame_move_what_a_poni_states(tmp_path: Path) -> None:
    poni(tmp_path / "stated.poni", 0.2, 1e-10)
    settings = config(
        tmp_path,
        {
            "poni": "stated.poni",
            "wavelength_angstrom": {"from": "wl"},
            "distance_mm": {"from": "arm", "unit": "m"},
        },
    ).geometry
    moved = Conditions(wavelength_angstrom=1.2, distance_mm=300.0)
    found = Geometry.from_settings(settings, SHAPE, moved)
    detector = Detector(1e-3, 1e-3, max_shape=SHAPE, orientation=3)
    reference = AzimuthalIntegrator(
        0.3, 0.01, 0.08, 0.02, -0.03, 0.1, detector=detector, wavelength=1.2e-10
    )
    rows, columns = np.indices(SHAPE).astype(float)
    np.testing.assert_allclose(
        np.hypot(*found.q_at(rows, columns)), reference.array_from_unit(unit="q_A^-1"), rtol=1e-5
    )


def test_the_monitor_divides_counts_and_their_errors(tmp_path: Path) -> None:
    frame = np.random.default_rng(0).poisson(400, SHAPE).astype(np.int32)
    plain = pipeline(tmp_path)(frame).polar
    divided = pipeline(tmp_path, monitor={"from": "i0", "scale": 1e-5})
    normal = divided(frame, conditions=Conditions(monitor=2.0)).polar
    np.testing.assert_allclose(normal.intensity, plain.intensity / 2, rtol=1e-6)
    np.testing.assert_allclose(normal.variance, plain.variance / 4, rtol=1e-6)


def test_values_that_no_one_gives_are_reported(tmp_path: Path) -> None:
    moving = pipeline(tmp_path, without("distance_mm", distance_mm={"from": "arm"}))
    with pytest.raises(GeometryError, match="takes distance_mm from 'arm'"):
        moving(np.ones(SHAPE))
    with pytest.raises(GeometryError, match="'arm' of the run's documents"):
        Geometry.from_settings(
            config(tmp_path, without("distance_mm", distance_mm={"from": "arm"})).geometry
        )
    with pytest.raises(ConfigError, match="unit"):
        config(tmp_path, without("distance_mm", distance_mm={"from": "arm", "unit": "keV"}))
    with pytest.raises(ConfigError, match="exactly one"):
        config(tmp_path, NUMBERS | {"wavelength_angstrom": {"from": "wl"}})
