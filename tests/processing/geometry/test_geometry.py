"""Geometry against pyFAI, there and back, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pyFAI import units
from pyFAI.detectors import Detector
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

from gixi_bluesky.errors import GeometryError
from gixi_bluesky.processing.geometry.calibration import binning_note, orient
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.geometry.intensity_factors import (
    polarization_factor,
    solid_angle_factor,
)
from gixi_bluesky.processing.settings import GeometrySettings, GivenPerFrame

SHAPE = (60, 50)

EXPLICIT = {
    "wavelength_angstrom": 0.6888,
    "distance_mm": 809.0,
    "pixel_size_mm": (0.2, 0.2),
    "beam_center_px": (222.0, 545.0),
    "incidence_angle_deg": 0.5,
}

angles = st.floats(-0.4, 0.4)
geometries = st.builds(
    Geometry,
    wavelength_angstrom=st.floats(0.3, 2.0),
    distance_m=st.floats(0.1, 2.0),
    pixel_size_m=st.tuples(st.floats(1e-3, 1e-2), st.floats(1e-3, 1e-2)),
    poni_m=st.tuples(st.floats(-0.1, 0.3), st.floats(-0.1, 0.3)),
    rotations_rad=st.tuples(angles, angles, st.floats(-3, 3)),
    incidence_angle_rad=st.floats(0, 0.1),
)


def integrator(
    geometry: Geometry, shape: tuple[int, int] = SHAPE, orientation: int = 3
) -> AzimuthalIntegrator:
    detector = Detector(*geometry.pixel_size_m, max_shape=shape, orientation=orientation)
    return AzimuthalIntegrator(
        geometry.distance_m,
        *geometry.poni_m,
        *geometry.rotations_rad,
        detector=detector,
        wavelength=geometry.wavelength_angstrom * 1e-10,
    )


def reference_q(
    ai: AzimuthalIntegrator, shape: tuple[int, int], incidence: float, sample_orientation: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """q_xy and q_z of every pixel by pyFAI, 1/angstrom."""

    def array(name: str) -> np.ndarray:
        unit = units.get_unit_fiber(
            name, incident_angle=incidence, sample_orientation=sample_orientation
        )
        return ai.center_array(shape, unit=unit, scale=True)

    return array("qip_A^-1"), array("qoop_A^-1")


def pixels(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(float)
    return rows, columns


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(geometries)
def test_q_agrees_with_pyfai_to_a_thousandth(geometry: Geometry) -> None:
    q_xy, q_z = geometry.q_at(*pixels(SHAPE))
    expected_xy, expected_z = reference_q(integrator(geometry), SHAPE, geometry.incidence_angle_rad)
    tolerance = 1e-3 * np.hypot(expected_xy, expected_z) + 1e-6
    # On the line q_xy = 0 the sign is a matter of rounding.
    away = np.abs(expected_xy) > 1e-4
    assert np.all(np.abs(q_z - expected_z) <= tolerance)
    assert np.all(np.abs(q_xy - expected_xy)[away] <= tolerance[away])


@settings(max_examples=30, deadline=None)
@given(geometries)
def test_modulus_of_q_is_that_of_the_scattering_angle(geometry: Geometry) -> None:
    q = np.hypot(*geometry.q_at(*pixels(SHAPE)))
    expected = integrator(geometry).center_array(SHAPE, unit="q_A^-1", scale=True)
    np.testing.assert_allclose(q, expected, rtol=1e-3, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(geometries, angles, st.sampled_from(["in plane", "out of plane"]))
def test_an_arm_of_one_circle_turns_the_detector_as_pyfai_does(
    geometry: Geometry, angle: float, circle: str
) -> None:
    rot1, rot2, _ = geometry.rotations_rad
    if circle == "in plane":
        base, moved = (rot1, 0.0, 0.0), (rot1 + angle, 0.0, 0.0)
        found = replace(geometry, rotations_rad=base).with_arm(angle, 0.0)
    else:  # pyFAI's rot2 turns the detector down
        base, moved = (rot1, rot2, 0.0), (rot1, rot2 - angle, 0.0)
        found = replace(geometry, rotations_rad=base).with_arm(0.0, angle)
    expected = reference_q(
        integrator(replace(geometry, rotations_rad=moved)), SHAPE, geometry.incidence_angle_rad
    )
    for q, reference in zip(found.q_at(*pixels(SHAPE)), expected, strict=True):
        np.testing.assert_allclose(np.abs(q), np.abs(reference), rtol=1e-3, atol=1e-3)


@given(st.floats(0, 1.2), st.floats(-0.7, 1.2))
def test_an_arm_of_two_circles_looks_where_diffractometers_do(
    in_plane: float, out_of_plane: float
) -> None:
    """Either way cos 2theta = cos(in plane) cos(out of plane)."""
    flat = Geometry(1.0, 0.5, (1e-3, 1e-3), (0.01, 0.02)).with_arm(in_plane, out_of_plane)
    up, right, beam = (float(part) for part in flat.direction(9.5, 19.5))
    assert up == pytest.approx(math.sin(out_of_plane), abs=1e-12)
    assert right == pytest.approx(math.cos(out_of_plane) * math.sin(in_plane), abs=1e-12)
    assert beam == pytest.approx(math.cos(in_plane) * math.cos(out_of_plane), abs=1e-12)
    other = Geometry(1.0, 0.5, (1e-3, 1e-3), (0.01, 0.02))
    other = other.with_arm(in_plane, out_of_plane, carrier="out_of_plane")
    up, right, beam = (float(part) for part in other.direction(9.5, 19.5))
    assert up == pytest.approx(math.sin(out_of_plane) * math.cos(in_plane), abs=1e-12)
    assert right == pytest.approx(math.sin(in_plane), abs=1e-12)
    assert beam == pytest.approx(math.cos(in_plane) * math.cos(out_of_plane), abs=1e-12)
    # The rows of pixels stay horizontal, as the circle that turns them about the beam is missing.
    heights = flat.direction([9.5, 9.5], [0.0, 40.0])[0] * flat.path_lengths_m(9.5, [0.0, 40.0])
    assert heights[0] == pytest.approx(heights[1], abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(geometries)
def test_a_pixel_is_found_again_from_its_q(geometry: Geometry) -> None:
    rows, columns = pixels(SHAPE)
    q_xy, q_z = geometry.q_at(rows, columns)
    found_rows, found_columns = geometry.pixel_at(q_xy, q_z)
    # Along the missing wedge two pixels come together and the root loses half the digits.
    right = geometry.direction(rows, columns)[1]
    away = np.abs(right) > 1e-3
    np.testing.assert_allclose(found_rows[away], rows[away], atol=1e-3)
    np.testing.assert_allclose(found_columns[away], columns[away], atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(geometries)
def test_solid_angle_and_polarisation_agree_with_pyfai(geometry: Geometry) -> None:
    ai = integrator(geometry)
    rows, columns = pixels(SHAPE)
    np.testing.assert_allclose(
        solid_angle_factor(geometry, rows, columns),
        ai.solidAngleArray(SHAPE, absolute=False),
        rtol=1e-3,
    )
    for degree in (0.99, 0.0, -1.0):
        np.testing.assert_allclose(
            polarization_factor(geometry, rows, columns, degree),
            ai.polarization(SHAPE, factor=degree, with_checksum=False),
            rtol=1e-3,
            atol=1e-6,
        )


def test_the_missing_wedge_and_what_lies_behind_have_no_pixel() -> None:
    geometry = Geometry.from_settings(GeometrySettings(**EXPLICIT))
    assert np.isnan(geometry.pixel_at(0.0, 2.0)).all()
    assert np.isnan(geometry.pixel_at(1.9 * geometry.wavenumber, 0.0)).all()
    assert np.isfinite(geometry.pixel_at(1.0, 1.0)).all()


def test_the_beam_centre_of_the_settings_is_where_the_beam_is() -> None:
    geometry = Geometry.from_settings(GeometrySettings(**EXPLICIT))
    assert geometry.beam_center_px == pytest.approx((222.0, 545.0))
    np.testing.assert_allclose(geometry.q_at(222.0, 545.0), (0, 0), atol=1e-12)
    q_xy, q_z = geometry.q_at([222.0, 322.0], [645.0, 545.0])
    assert q_xy[0] > 0
    assert q_z[1] > q_z[0]


def test_the_horizon_is_the_row_of_the_shadow() -> None:
    geometry = Geometry.from_settings(GeometrySettings(**EXPLICIT))
    assert geometry.horizon_q_z == pytest.approx(2 * math.pi / 0.6888 * math.sin(math.radians(0.5)))
    row = 222 + 809 * math.tan(math.radians(0.5)) / 0.2
    assert geometry.q_at(row, 545.0)[1] == pytest.approx(geometry.horizon_q_z, rel=1e-6)


def test_energy_gives_the_wavelength() -> None:
    given_energy = {k: v for k, v in EXPLICIT.items() if k != "wavelength_angstrom"}
    geometry = Geometry.from_settings(GeometrySettings(energy_kev=18.0, **given_energy))
    assert geometry.wavelength_angstrom == pytest.approx(0.68880, abs=1e-5)


def test_an_angle_given_per_frame_waits_for_its_frame() -> None:
    config = GeometrySettings(**EXPLICIT | {"incidence_angle_deg": GivenPerFrame()})
    geometry = Geometry.from_settings(config)
    assert geometry.incidence_angle_deg == 0
    assert geometry.with_incidence(0.3).incidence_angle_deg == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distance_m": -0.8}, "distance_m is -0.8; expected a positive"),
        ({"wavelength_angstrom": math.nan}, "wavelength_angstrom is nan; expected finite"),
        ({"pixel_size_m": (0.0, 1e-4)}, "pixel_size_m"),
        ({"poni_m": (math.inf, 0.0)}, "poni_m"),
        ({"incidence_angle_rad": -0.01}, "incidence angle"),
        ({"incidence_angle_rad": 2.0}, "incidence angle"),
        ({"rotations_rad": (3.0, 0.0, 0.0)}, "turn the detector away"),
    ],
)
def test_impossible_geometries_are_refused(change: dict[str, object], message: str) -> None:
    good = {
        "wavelength_angstrom": 1.0,
        "distance_m": 0.8,
        "pixel_size_m": (1e-4, 1e-4),
        "poni_m": (0.0, 0.0),
    }
    with pytest.raises(GeometryError, match=message):
        Geometry(**good | change)


def test_a_wavelength_reaches_no_further_than_two_k() -> None:
    geometry = Geometry.from_settings(GeometrySettings(**EXPLICIT))
    geometry.require_q(2 * geometry.wavenumber)
    with pytest.raises(GeometryError, match=r"reaches at most 2k = 18\.24; lower q_max"):
        geometry.require_q(18.3)
    with pytest.raises(GeometryError, match="q_max is nan"):
        geometry.require_q(math.nan)


FLIPS = {"none": 1, "horizontal": 2, "both": 3, "vertical": 4}


def write_poni(path: Path, geometry: Geometry, shape: tuple[int, int], orientation: int) -> Path:
    integrator(geometry, shape, orientation).save(str(path))
    return path


@settings(max_examples=15, deadline=None)
@given(geometries, st.sampled_from([1, 2, 3, 4]), st.integers(1, 8))
def test_a_poni_turned_by_any_orientation_gives_every_pixel_its_q(
    tmp_path_factory: pytest.TempPathFactory, geometry: Geometry, detector: int, sample: int
) -> None:
    poni = write_poni(tmp_path_factory.mktemp("poni") / "a.poni", geometry, SHAPE, detector)
    config = GeometrySettings(poni=poni, orientation=sample)
    turned = Geometry.from_settings(config, SHAPE).with_incidence(2.0)
    # pyFAI lays the array by the detector's orientation; ours starts from the array as read.
    ai = integrator(geometry, SHAPE, detector)
    as_read = Geometry.from_settings(GeometrySettings(poni=poni, flip="none"), SHAPE)
    q = np.hypot(*as_read.with_incidence(2.0).q_at(*pixels(SHAPE)))
    np.testing.assert_allclose(
        q, ai.center_array(SHAPE, unit="q_A^-1", scale=True), rtol=1e-3, atol=1e-6
    )
    # In the turned array each pixel keeps its |q|.
    q_turned = np.hypot(*turned.q_at(*pixels(orient(q, config).shape)))
    np.testing.assert_allclose(q_turned, orient(q, config), rtol=1e-9, atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(geometries, st.integers(1, 8))
def test_orientation_means_the_sample_orientation_of_pyfai(
    tmp_path_factory: pytest.TempPathFactory, geometry: Geometry, sample: int
) -> None:
    poni = write_poni(tmp_path_factory.mktemp("poni") / "a.poni", geometry, SHAPE, 3)
    config = GeometrySettings(poni=poni, orientation=sample)
    ours = Geometry.from_settings(config, SHAPE).with_incidence(1.5)
    expected_xy, expected_z = reference_q(
        integrator(geometry), SHAPE, math.radians(1.5), sample_orientation=sample
    )
    q_xy, q_z = ours.q_at(*pixels(orient(expected_xy, config).shape))
    tolerance = 1e-3 * np.hypot(q_xy, q_z) + 1e-6
    away = np.abs(q_xy) > 1e-4
    assert np.all(np.abs(q_z - orient(expected_z, config)) <= tolerance)
    assert np.all(np.abs(q_xy - orient(expected_xy, config))[away] <= tolerance[away])


@pytest.mark.parametrize(("flip", "sample"), FLIPS.items())
def test_a_flip_is_one_of_the_orientations(flip: str, sample: int) -> None:
    frame = np.arange(6).reshape(2, 3)
    by_flip = orient(frame, GeometrySettings(**EXPLICIT, flip=flip))
    by_number = orient(frame, GeometrySettings(**EXPLICIT, orientation=sample))
    np.testing.assert_array_equal(by_flip, by_number)
    assert np.shares_memory(by_flip, frame)


def test_a_poni_that_states_its_orientation_needs_no_flip(tmp_path: Path) -> None:
    geometry = Geometry(1.0, 0.2, (1e-3, 1e-3), (0.01, 0.02))
    poni = write_poni(tmp_path / "top.poni", geometry, SHAPE, orientation=2)
    config = GeometrySettings(poni=poni)
    frame = np.arange(60 * 50).reshape(SHAPE)
    np.testing.assert_array_equal(orient(frame, config), np.flipud(frame))
    assert Geometry.from_settings(config, SHAPE).poni_m == pytest.approx((0.01, 0.02))


def test_poni_files_of_every_version_say_the_same(tmp_path: Path) -> None:
    numbers = "Distance: 0.2\nPoni1: 0.01\nPoni2: 0.02\nRot1: 0.1\nRot2: 0\nRot3: 0\n"
    texts = {
        "1": f"PixelSize1: 0.001\nPixelSize2: 0.002\n{numbers}Wavelength: 1e-10\n",
        "2": "poni_version: 2\nDetector: Detector\nDetector_config: "
        '{"pixel1": 0.001, "pixel2": 0.002, "max_shape": null}\n' + numbers + "Wavelength: 1e-10\n",
        "2.1": "poni_version: 2.1\nDetector: Detector\nDetector_config: "
        '{"pixel1": 0.001, "pixel2": 0.002, "max_shape": null, "orientation": 3}\n'
        + numbers
        + "Wavelength: 1e-10\n",
    }
    read = []
    for version, text in texts.items():
        path = tmp_path / f"{version}.poni"
        path.write_text(text)
        read.append(Geometry.from_settings(GeometrySettings(poni=path), SHAPE))
    assert read[0] == read[1] == read[2]
    assert read[0].pixel_size_m == (0.001, 0.002)
    assert read[0].wavelength_angstrom == pytest.approx(1.0)


def test_a_poni_of_another_detector_is_refused_and_a_binned_frame_is_not(tmp_path: Path) -> None:
    geometry = Geometry(1.0, 0.2, (1e-3, 1e-3), (0.01, 0.02))
    poni = write_poni(tmp_path / "a.poni", geometry, SHAPE, orientation=3)
    config = GeometrySettings(poni=poni, flip="none")
    with pytest.raises(GeometryError, match="the frame is 61 x 50 pixels, but"):
        Geometry.from_settings(config, (61, 50))
    binned = Geometry.from_settings(config, (30, 25))
    assert binned.pixel_size_m == pytest.approx((2e-3, 2e-3))
    assert binned.poni_m == pytest.approx((0.01, 0.02))


@pytest.mark.parametrize("shape", [(20, 50), (60, 25), (30, 10), (120, 100), (40, 40)])
def test_frames_binned_unlike_in_two_directions_are_a_region(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    geometry = Geometry(1.0, 0.2, (1e-3, 1e-3), (0.01, 0.02))
    poni = write_poni(tmp_path / "a.poni", geometry, SHAPE, orientation=3)
    with pytest.raises(GeometryError, match="roi_offset_px"):
        Geometry.from_settings(GeometrySettings(poni=poni, flip="none"), shape)


def test_binning_is_reported(tmp_path: Path) -> None:
    geometry = Geometry(1.0, 0.2, (1e-3, 1e-3), (0.01, 0.02))
    poni = write_poni(tmp_path / "a.poni", geometry, SHAPE, orientation=3)
    config = GeometrySettings(poni=poni, flip="none")
    assert "taken as 2 x 2 binned" in str(binning_note(config, (30, 25)))
    assert binning_note(config, SHAPE) is None
    region = GeometrySettings(poni=poni, flip="none", roi_offset_px=(1, 2))
    assert binning_note(region, (30, 25)) is None


@settings(max_examples=20, deadline=None)
@given(geometries, st.sampled_from([1, 2, 3, 4]), st.integers(1, 8), st.data())
def test_a_region_of_the_detector_has_the_q_of_its_pixels(
    tmp_path_factory: pytest.TempPathFactory,
    geometry: Geometry,
    detector: int,
    sample: int,
    data: st.DataObject,
) -> None:
    poni = write_poni(tmp_path_factory.mktemp("poni") / "a.poni", geometry, SHAPE, detector)
    row, column = (data.draw(st.integers(0, n - 7)) for n in SHAPE)
    shape = (
        data.draw(st.integers(1, SHAPE[0] - row)),
        data.draw(st.integers(1, SHAPE[1] - column)),
    )
    whole = GeometrySettings(poni=poni, orientation=sample)
    region = whole.model_copy(update={"roi_offset_px": (row, column)})
    full = Geometry.from_settings(whole, SHAPE)
    part = Geometry.from_settings(region, shape)
    numbers = np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE)
    laid = orient(numbers, whole)
    q = np.empty((laid.size, 2))
    q[laid.ravel()] = np.stack(full.q_at(*pixels(laid.shape))).reshape(2, -1).T
    numbers = orient(numbers[row : row + shape[0], column : column + shape[1]], region)
    found = np.stack(part.q_at(*pixels(numbers.shape))).reshape(2, -1).T
    np.testing.assert_allclose(found, q[numbers.ravel()], rtol=1e-9, atol=1e-9)


def test_a_region_beyond_the_detector_is_refused(tmp_path: Path) -> None:
    geometry = Geometry(1.0, 0.2, (1e-3, 1e-3), (0.01, 0.02))
    poni = write_poni(tmp_path / "a.poni", geometry, SHAPE, orientation=3)
    config = GeometrySettings(poni=poni, flip="none", roi_offset_px=(41, 0))
    with pytest.raises(GeometryError, match="reach beyond the 60 x 50"):
        Geometry.from_settings(config, (20, 50))
    with pytest.raises(ValueError, match="roi_offset_px without poni"):
        GeometrySettings(**EXPLICIT, roi_offset_px=(0, 0))


def test_unusable_poni_files_are_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match="cannot read the PONI file"):
        Geometry.from_settings(GeometrySettings(poni=tmp_path / "none.poni"))
    (tmp_path / "text.poni").write_text("no calibration at all\n")
    with pytest.raises(GeometryError, match="is not a PONI file"):
        Geometry.from_settings(GeometrySettings(poni=tmp_path / "text.poni"))
    geometry = Geometry(1.0, 0.2, (1e-3, 1e-3), (0.01, 0.02))
    poni = write_poni(tmp_path / "a.poni", geometry, SHAPE, orientation=3)
    with pytest.raises(GeometryError, match="give the wavelength in one place"):
        Geometry.from_settings(GeometrySettings(poni=poni, wavelength_angstrom=1.1), SHAPE)


def test_without_pyfai_a_poni_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    geometry = Geometry(1.0, 0.2, (1e-3, 1e-3), (0.01, 0.02))
    poni = write_poni(tmp_path / "a.poni", geometry, SHAPE, orientation=3)
    monkeypatch.setitem(__import__("sys").modules, "pyFAI.io.ponifile", None)
    with pytest.raises(GeometryError, match=r"pip install 'gixi_bluesky\[pyfai\]'"):
        Geometry.from_settings(GeometrySettings(poni=poni), SHAPE)


def test_settings_refuse_half_a_geometry() -> None:
    with pytest.raises(ValidationError, match="missing distance_mm"):
        GeometrySettings(wavelength_angstrom=1.0)


def test_a_poni_without_flip_that_looks_upside_down_is_warned_about(tmp_path: Path) -> None:
    geometry = Geometry(1.0, 0.2, (1e-3, 1e-3), (0.05, 0.02))
    poni = write_poni(tmp_path / "a.poni", geometry, SHAPE, orientation=3)
    with structlog.testing.capture_logs() as logs:
        Geometry.from_settings(GeometrySettings(poni=poni), SHAPE)
        Geometry.from_settings(GeometrySettings(poni=poni, flip="none"), SHAPE)
    assert [log["log_level"] for log in logs] == ["warning"]
    assert "`flip: vertical`" in logs[0]["event"]
