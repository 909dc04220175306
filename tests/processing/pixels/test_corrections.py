"""Dark, flat, saturation, absorption and refraction, checked against pyFAI and textbook cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fabio
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyFAI.detectors import Detector
from pyFAI.engines.preproc import preproc
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

import gixi_bluesky as gixi
from gixi_bluesky.config import parse_config
from gixi_bluesky.errors import GeometryError
from gixi_bluesky.processing.geometry.array_orientation import Orientation
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.geometry.intensity_factors import air_factor, sensor_factor
from gixi_bluesky.processing.pixels.counts import PixelCorrection
from gixi_bluesky.processing.remap.remapper import Remapper
from gixi_bluesky.processing.settings import CorrectionSettings, GridSettings

SHAPE = (161, 201)
GEOMETRY = Geometry(
    wavelength_angstrom=1.0,
    distance_m=0.2,
    pixel_size_m=(1e-3, 1e-3),
    poni_m=(0.0108, 0.0812),
    incidence_angle_rad=np.radians(0.5),
)
GRID = GridSettings(q_max_inv_angstrom=3.5, shape=(32, 40))
INDEX = np.indices(SHAPE).astype(float)


def plain(**corrections: Any) -> CorrectionSettings:
    return CorrectionSettings(solid_angle=False, polarization=None, **corrections)


def pixels_of(wanted: CorrectionSettings, turn: Any = np.asarray) -> PixelCorrection:
    pixels = PixelCorrection.from_settings(wanted, SHAPE, turn)
    assert pixels is not None
    return pixels


def remapper(settings: CorrectionSettings, geometry: Geometry = GEOMETRY) -> Remapper:
    pixels = PixelCorrection.from_settings(settings, SHAPE, np.asarray)
    return Remapper(geometry, GRID, settings, SHAPE, None, pixels)


def saved(path: Path, image: np.ndarray) -> Path:
    """Write an image in the format that the name asks for."""
    if path.suffix == ".npy":
        np.save(path, image)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["entry/data"] = image
    else:
        fabio.factory(f"{path.suffix[1:]}image").__class__(data=image).write(str(path))
    return path


@pytest.fixture
def counts() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    flat = rng.normal(1, 0.1, SHAPE).astype(np.float32)
    flat[30:32] = 0
    return {
        "raw": rng.poisson(20 + 280 * flat).astype(np.uint16),
        "dark": rng.poisson(20, SHAPE).astype(np.float32),
        "flat": flat,
    }


def test_counts_and_no_data_are_those_of_pyfai(
    counts: dict[str, np.ndarray], tmp_path: Path
) -> None:
    paths = {name: saved(tmp_path / f"{name}.npy", counts[name]) for name in ("dark", "flat")}
    expected = preproc(**counts, dummy=np.nan, empty=np.nan)
    expected[counts["flat"] == 0] = np.nan
    pixels = pixels_of(plain(**paths))
    found = pixels(counts["raw"])
    np.testing.assert_array_equal(pixels.usable, np.isfinite(expected))
    np.testing.assert_allclose(found[pixels.usable], expected[pixels.usable], rtol=2e-6)


def test_cells_hold_the_mean_and_the_variance_that_pyfai_propagates(
    counts: dict[str, np.ndarray], tmp_path: Path
) -> None:
    rng = np.random.default_rng(2)
    darks = rng.poisson(20, (5, *SHAPE)).astype(np.uint16)
    dark_variance = darks.var(axis=0, ddof=1) / len(darks)
    settings = plain(
        dark=saved(tmp_path / "dark.npy", darks), flat=saved(tmp_path / "flat.npy", counts["flat"])
    )
    polar = remapper(settings)(counts["raw"])
    # Each pixel's own term, as pyFAI has it: its normalisation enters squared.
    parts = preproc(
        counts["raw"],
        dark=darks.mean(axis=0),
        flat=counts["flat"],
        variance=counts["raw"].astype(float).ravel(),
        dark_variance=dark_variance.ravel(),
        split_result=4,
    )
    usable = counts["flat"] > 0
    normal = np.where(usable, parts[..., 2], 1)
    expected = np.where(usable, parts[..., 0] / normal, np.nan)
    variance = np.where(usable, parts[..., 1] / normal**2, np.nan)
    uncorrected = Remapper(GEOMETRY, GRID, plain(gain=1.0), SHAPE, ~usable)
    np.testing.assert_allclose(
        polar.intensity, uncorrected(np.nan_to_num(expected)).intensity, rtol=1e-4
    )
    reference = uncorrected(np.nan_to_num(variance)).variance  # a pixel's variance is its value
    ratio = (polar.variance / reference)[np.isfinite(reference)]
    assert np.mean(ratio) == pytest.approx(1, abs=0.005)
    assert np.std(ratio) < 0.05


def test_the_stated_variance_is_that_of_repeated_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    flat = 1 + 0.3 * np.sin(INDEX[0] / 9)
    settings = plain(
        dark=saved(tmp_path / "dark.npy", np.full(SHAPE, 50.0)),
        flat=saved(tmp_path / "flat.npy", flat),
    )
    remap = remapper(settings)
    polars = [remap(rng.poisson(40 * flat + 50).astype(np.uint32)) for _ in range(150)]
    assert np.nanmean(polars[0].intensity) == pytest.approx(40, rel=0.01)
    scatter = np.var([p.intensity for p in polars], axis=0, ddof=1)
    ratio = scatter / np.mean([p.variance for p in polars], axis=0)
    assert np.nanmean(ratio) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("suffix", [".npy", ".h5", ".edf", ".tif"])
def test_files_of_every_kind_are_turned_as_the_frame_is(tmp_path: Path, suffix: str) -> None:
    dark = saved(tmp_path / f"dark{suffix}", INDEX[0].astype(np.float32))
    turn = Orientation.from_flip("vertical").apply
    pixels = pixels_of(plain(dark=dark), turn)
    np.testing.assert_allclose(pixels(turn(INDEX[0] + 7)), 7)


def test_saturated_pixels_are_no_data_before_the_dark_is_taken(tmp_path: Path) -> None:
    dark = saved(tmp_path / "dark.npy", np.full(SHAPE, 100.0))
    frame = np.full(SHAPE, 150, np.uint16)
    frame[60:80] = 1000
    polar = remapper(plain(dark=dark, saturation=1000))(frame)
    assert np.nanmax(polar.intensity) == pytest.approx(50)
    rows, columns = GEOMETRY.pixel_at(
        *(polar.q * f(np.radians(polar.phi))[:, None] for f in (np.cos, np.sin))
    )
    inside = (rows > 66) & (rows < 74) & (columns < 198)
    assert inside.any()
    polar = Remapper(
        GEOMETRY,
        GRID.model_copy(update={"side": "right"}),
        plain(saturation=1000),
        SHAPE,
        None,
        pixels_of(plain(saturation=1000)),
    )(frame)
    assert np.isnan(polar.intensity[inside]).all()


@pytest.mark.parametrize(
    ("name", "image", "message"),
    [
        ("dark", np.zeros((3, 4)), r"the dark .* has shape \(3, 4\); expected \(161, 201\)"),
        ("flat", np.zeros((2, *SHAPE)), r"the flat .* has shape \(2, 161, 201\)"),
        ("flat", np.zeros(SHAPE), "no pixel is left"),
        ("dark", np.full(SHAPE, "x"), "expected numbers"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path: Path, name: str, image: np.ndarray, message: str
) -> None:
    with pytest.raises(GeometryError, match=message):
        pixels_of(plain(**{name: saved(tmp_path / "file.npy", image)}))
    with pytest.raises(GeometryError, match="cannot read the dark"):
        pixels_of(plain(dark=tmp_path / "absent.npy"))


def integrator(rotations: tuple[float, float, float]) -> AzimuthalIntegrator:
    detector = Detector(1e-3, 1e-3, max_shape=SHAPE, orientation=3)
    return AzimuthalIntegrator(
        0.2, *GEOMETRY.poni_m, *rotations, detector=detector, wavelength=1e-10
    )


@settings(max_examples=25, deadline=None)
@given(
    transmission=st.floats(0.05, 0.95),
    rotations=st.tuples(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3), st.floats(-3, 3)),
)
def test_the_absorption_of_the_sensor_is_that_of_pyfai(
    transmission: float, rotations: tuple[float, float, float]
) -> None:
    geometry = Geometry(1.0, 0.2, (1e-3, 1e-3), GEOMETRY.poni_m, rotations)
    expected = integrator(rotations).calc_transmission(transmission, SHAPE)
    np.testing.assert_allclose(sensor_factor(geometry, *INDEX, transmission), expected, rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(per_m=st.floats(0, 5))
def test_air_weakens_rays_by_the_way_that_pyfai_gives_them(per_m: float) -> None:
    x, y, z = (array.reshape(SHAPE) for array in np.moveaxis(_positions(), -1, 0))
    way = np.sqrt(x * x + y * y + z * z)
    found = -np.log(air_factor(GEOMETRY, *INDEX, per_m))
    np.testing.assert_allclose(found, per_m * (way - 0.2), atol=1e-6)


def _positions() -> np.ndarray:
    return np.stack(integrator((0, 0, 0)).calc_pos_zyx(corners=False), axis=-1)


def test_absorption_is_divided_out_of_the_cells() -> None:
    lit = air_factor(GEOMETRY, *INDEX, 2.0) * sensor_factor(GEOMETRY, *INDEX, 0.7)
    settings = plain(air_attenuation_per_m=2.0, sensor_transmission=0.7)
    polar = remapper(settings)(1000 * lit)
    assert np.nanstd(polar.intensity) < 5
    assert np.nanmean(polar.intensity) == pytest.approx(1000, rel=2e-3)


ANGLES = st.floats(0.02, 1.0)


@settings(max_examples=25, deadline=None)
@given(incidence=ANGLES, critical=ANGLES, exit_angle=st.floats(0.01, 30))
def test_refraction_follows_snell(incidence: float, critical: float, exit_angle: float) -> None:
    """cos(outside) = n cos(inside) with n = cos(critical), and |k| inside is n |k|."""
    geometry = GEOMETRY.with_incidence(incidence).with_critical_angle(critical)
    out = np.radians(exit_angle)
    tilt = np.radians(incidence)
    rows, columns = GEOMETRY.pixel_of(np.sin(out + tilt), 0.0, np.cos(out + tilt))
    q_z = GEOMETRY.with_incidence(incidence).q_at(rows, columns)[1]
    k = GEOMETRY.wavenumber
    assert q_z == pytest.approx(k * (np.sin(tilt) + np.sin(out)), abs=1e-9)
    n = np.cos(np.radians(critical))
    inside = sum(n * k * np.sin(np.arccos(min(np.cos(angle) / n, 1.0))) for angle in (tilt, out))
    assert geometry.q_at(rows, columns)[1] == pytest.approx(inside, abs=2e-6 * k)


@settings(max_examples=25, deadline=None)
@given(incidence=ANGLES, critical=ANGLES)
def test_refraction_has_a_way_back(incidence: float, critical: float) -> None:
    geometry = GEOMETRY.with_incidence(incidence).with_critical_angle(critical)
    q_xy, q_z = geometry.q_at(*INDEX)
    above = q_z > geometry.horizon_q_z + 1e-9
    rows, columns = geometry.pixel_at(q_xy[above], q_z[above])
    np.testing.assert_allclose(rows, INDEX[0][above], atol=1e-5)
    np.testing.assert_allclose(columns, INDEX[1][above], atol=1e-4)


def test_near_the_critical_angle_q_z_is_lower_by_a_hundredth() -> None:
    """The size that makes it worth correcting: 0.01 1/angstrom at 10 keV, 0.2 deg."""
    geometry = Geometry(1.24, 0.2, (1e-4, 1e-4), (0.001, 0.01)).with_incidence(0.2)
    rows, columns = geometry.pixel_at(0.5, 0.3)
    shift = 0.3 - geometry.with_critical_angle(0.17).q_at(rows, columns)[1]
    assert 0.005 < shift < 0.02


def test_rays_below_the_critical_angle_are_no_data() -> None:
    geometry = GEOMETRY.with_incidence(3.0).with_critical_angle(2.0)
    frame = np.ones(SHAPE)
    exit_angle = np.degrees(
        np.arcsin(
            GEOMETRY.with_incidence(3.0).q_at(*INDEX)[1] / GEOMETRY.wavenumber
            - np.sin(np.radians(3.0))
        )
    )
    frame[(exit_angle > 0) & (exit_angle < 2.0)] = 100
    polar = remapper(plain(), geometry)(frame)
    assert np.nanmax(polar.intensity) == pytest.approx(1)
    assert np.isfinite(polar.intensity).mean() > 0.4


def test_the_pipeline_applies_them_and_its_hash_covers_the_files(tmp_path: Path) -> None:
    def pipeline(**corrections: Any) -> gixi.Pipeline:
        tree = {
            "geometry": {
                "wavelength_angstrom": 1.0,
                "distance_mm": 200.0,
                "pixel_size_mm": [1.0, 1.0],
                "beam_center_px": [10.0, 80.0],
                "flip": "vertical",
            },
            "grid": {"q_max_inv_angstrom": 3.5, "shape": [32, 64]},
            "detector": {"weights": "classical"},
            "corrections": {"solid_angle": False, "polarization": None, **corrections},
        }
        return gixi.Pipeline(parse_config(tree, folder=tmp_path))

    saved(tmp_path / "dark.npy", INDEX[0])
    (tmp_path / "copy").mkdir()
    saved(tmp_path / "copy" / "dark.npy", INDEX[0])
    saved(tmp_path / "other.npy", INDEX[0] + 1)
    corrected = pipeline(dark="dark.npy")
    np.testing.assert_allclose(np.nanmax(corrected(INDEX[0] + 7).polar_image), 7, rtol=1e-5)
    hashes = [
        pipeline(dark=name).provenance.result_hash
        for name in ("dark.npy", "copy/dark.npy", "other.npy")
    ]
    assert hashes[0] == hashes[1] != hashes[2]
    assert corrected.provenance.correction_sha256.keys() == {"dark"}
    assert pipeline(saturation=9).provenance.result_hash not in hashes
    bent = pipeline(critical_angle_deg=0.2)
    assert bent.remapper(SHAPE).geometry.critical_angle_rad == pytest.approx(np.radians(0.2))
