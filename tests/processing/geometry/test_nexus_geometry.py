"""NeXus detector groups as the source of the geometry: units, links, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import gixi_bluesky as gixi
from gixi_bluesky.config import parse_config
from gixi_bluesky.errors import ConfigError, GeometryError
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.geometry.nexus_calibration import read_nexus
from gixi_bluesky.processing.settings import GeometrySettings

SHAPE = (400, 500)
STATED: dict[str, tuple[float, str]] = {
    "distance": (250.0, "mm"),
    "beam_center_x": (210.5, "pixel"),
    "beam_center_y": (380.5, "pixel"),
    "x_pixel_size": (172.0, "um"),
    "y_pixel_size": (0.172, "mm"),
}


def write(
    path: Path,
    stated: dict[str, tuple[float, str]] = STATED,
    beam: tuple[str, float, str] = ("incident_wavelength", 0.976, "angstrom"),
    detector: str = "detector",
) -> Path:
    with h5py.File(path, "a") as file:
        entry = file.require_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        instrument = entry.require_group("instrument")
        group = instrument.create_group(detector)
        group.attrs["NX_class"] = "NXdetector"
        for name, (value, units) in stated.items():
            group[name] = value
            if units:
                group[name].attrs["units"] = units
        group["data"] = np.zeros((1, *SHAPE), np.uint16)
        source = instrument.require_group("beam")
        source.attrs["NX_class"] = np.bytes_("NXbeam")
        if beam[0] and beam[0] not in source:
            source[beam[0]] = [beam[1]]
            source[beam[0]].attrs["units"] = np.bytes_(beam[2])
    return path


def settings(path: Path | str, **more: Any) -> GeometrySettings:
    return GeometrySettings.model_validate(
        {"nexus": str(path), "incidence_angle_deg": 0.2, "flip": "vertical", **more}
    )


def by_hand(**more: Any) -> Geometry:
    numbers = {
        "wavelength_angstrom": 0.976,
        "distance_mm": 250.0,
        "pixel_size_mm": [0.172, 0.172],
        # From the edge to centres at integers; then the rows are counted from the other end.
        "beam_center_px": [399.0 - 380.0, 210.0],
        "incidence_angle_deg": 0.2,
        "flip": "vertical",
    }
    return Geometry.from_settings(GeometrySettings.model_validate(numbers | more), SHAPE)


def assert_same(found: Geometry, expected: Geometry) -> None:
    pixels = np.indices(SHAPE).astype(float)
    for one, other in zip(found.q_at(*pixels), expected.q_at(*pixels), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    "beam",
    [
        ("incident_wavelength", 0.976, "angstrom"),
        ("incident_wavelength", 0.0976, "nm"),
        ("incident_wavelength", 0.976, "Å"),
        ("incident_energy", 12398.419843 / 0.976, "eV"),
        ("incident_energy", 12.398419843 / 0.976, "keV"),
    ],
)
def test_a_detector_group_is_as_good_as_numbers(
    tmp_path: Path, beam: tuple[str, float, str]
) -> None:
    if beam[2] == "Å":  # h5py writes text as UTF-8
        path = write(tmp_path / "a.nxs", beam=("", 0, ""))
        with h5py.File(path, "a") as file:
            file["entry/instrument/beam/incident_wavelength"] = beam[1]
            file["entry/instrument/beam/incident_wavelength"].attrs["units"] = "Å"
    else:
        path = write(tmp_path / "a.nxs", beam=beam)
    assert_same(Geometry.from_settings(settings(path), SHAPE), by_hand())


def test_lengths_in_any_unit_and_a_centre_in_metres(tmp_path: Path) -> None:
    stated = STATED | {
        "distance": (0.25, "m"),
        "beam_center_x": (210.5 * 0.172, "millimeters"),
        "beam_center_y": (380.5, ""),
    }
    path = write(tmp_path / "a.nxs", stated)
    assert_same(Geometry.from_settings(settings(path), SHAPE), by_hand())


def test_the_master_file_of_an_eiger(tmp_path: Path) -> None:
    """It calls the distance otherwise and links to its data files, which are not opened."""
    stated = {key: value for key, value in STATED.items() if key != "distance"}
    path = write(tmp_path / "scan_master.h5", stated | {"detector_distance": (0.25, "m")})
    with h5py.File(path, "a") as file:
        file["entry/data/data_000001"] = h5py.ExternalLink("absent.h5", "/entry/data/data")
    assert_same(Geometry.from_settings(settings(path), SHAPE), by_hand())


def test_a_group_is_chosen_by_name_also_through_links_within_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nxs")
    write(path, STATED | {"distance": (9.0, "m")}, detector="far")
    with h5py.File(path, "a") as file:
        file["near"] = h5py.SoftLink("/entry/instrument/detector")
    for name in ("entry/instrument/detector", "/near"):
        assert_same(Geometry.from_settings(settings(f"{path}::{name}"), SHAPE), by_hand())
    with pytest.raises(GeometryError, match=r"2 NXdetector groups .*far.*FILE::GROUP"):
        read_nexus(path)
    with pytest.raises(GeometryError, match="has no NXdetector 'entry'"):
        read_nexus(f"{path}::entry")


def test_documents_move_what_the_file_states(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nxs")
    moved = Geometry.from_settings(settings(path, arm_in_plane_deg=3.0), SHAPE)
    assert_same(moved, by_hand().with_arm(math.radians(3.0), 0.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distance": (250.0, "")}, r"distance has the units ''; expected one of m, cm, mm"),
        ({"distance": (250.0, "furlong")}, "units 'furlong'"),
        ({"distance": (-1.0, "mm")}, "expected a positive number"),
        ({"beam_center_x": (float("nan"), "pixel")}, "is nan; expected a number"),
        ({"x_pixel_size": None}, "x_pixel_size is missing"),
    ],
)
def test_values_that_say_too_little_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    stated = {key: value for key, value in (STATED | change).items() if value is not None}
    with pytest.raises(GeometryError, match=message):
        read_nexus(write(tmp_path / "a.nxs", stated))


def test_a_turned_detector_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nxs")
    with h5py.File(path, "a") as file:
        axes = file["entry/instrument/detector"].create_group("transformations")
        axes.attrs["NX_class"] = "NXtransformations"
        axes["two_theta"] = 0.0
        axes["two_theta"].attrs["transformation_type"] = "rotation"
    assert read_nexus(path).distance_m == 0.25
    with h5py.File(path, "a") as file:
        file["entry/instrument/detector/transformations/two_theta"][()] = 12.0
    with pytest.raises(GeometryError, match=r"is turned \(two_theta\); tilts are taken from PONI"):
        read_nexus(path)


@pytest.mark.parametrize("how", ["external link", "virtual dataset", "circle", "text"])
def test_what_leads_out_of_the_file_is_not_followed(tmp_path: Path, how: str) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["distance"] = np.array([250.0])
        file["distance"].attrs["units"] = "mm"
    path = write(tmp_path / "a.nxs", {k: v for k, v in STATED.items() if k != "distance"})
    with h5py.File(path, "a") as file:
        group = file["entry/instrument/detector"]
        if how == "external link":
            group["distance"] = h5py.ExternalLink(str(secret), "/distance")
        elif how == "virtual dataset":
            layout = h5py.VirtualLayout((1,), "f8")
            layout[:] = h5py.VirtualSource(str(secret), "distance", shape=(1,))
            group.create_virtual_dataset("distance", layout).attrs["units"] = "mm"
        elif how == "circle":
            group["distance"] = h5py.SoftLink("/entry/instrument/detector/distance")
        else:
            group["distance"] = "250 mm"
    with pytest.raises(GeometryError, match="is missing, or no single number"):
        read_nexus(f"{path}::entry/instrument/detector")


def test_files_that_are_none_are_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match="cannot read the NeXus file"):
        read_nexus(tmp_path / "absent.nxs")
    (tmp_path / "text.nxs").write_text("no HDF5")
    with pytest.raises(GeometryError, match="no NeXus file that can be read"):
        read_nexus(tmp_path / "text.nxs")
    with h5py.File(tmp_path / "empty.nxs", "w"):
        pass
    with pytest.raises(GeometryError, match="holds 0 NXdetector groups"):
        read_nexus(tmp_path / "empty.nxs")


def test_what_the_file_states_decides_the_hash_and_nothing_else_in_it(tmp_path: Path) -> None:
    def made(name: str, **grid: Any) -> gixi.Pipeline:
        tree = {
            "geometry": {"nexus": f"{name}::entry/instrument/detector", "flip": "vertical"},
            "grid": {"q_max_inv_angstrom": 2.5, "shape": [32, 64]},
            "detector": {"weights": "classical"},
        }
        return gixi.Pipeline(parse_config(tree, folder=tmp_path))

    write(tmp_path / "a.nxs")
    write(tmp_path / "b.nxs")
    with h5py.File(tmp_path / "b.nxs", "a") as file:
        file["entry/title"] = "another scan"
    write(tmp_path / "c.nxs", STATED | {"distance": (251.0, "mm")})
    one, same, other = (made(name).provenance for name in ("a.nxs", "b.nxs", "c.nxs"))
    assert one.result_hash == same.result_hash != other.result_hash
    assert one.nexus_sha256
    assert made("a.nxs")(np.ones(SHAPE)).polar_image.shape == (32, 64)
    with pytest.raises(ConfigError, match="got both poni and nexus"):
        parse_config({"geometry": {"nexus": "a.nxs", "poni": "b.poni"}}, folder=tmp_path)
    with pytest.raises(ConfigError, match="got nexus and also distance_mm"):
        parse_config({"geometry": {"nexus": "a.nxs", "distance_mm": 3.0}}, folder=tmp_path)
