"""Images are compared with the configuration: flips, beam centre, distance, mask, own values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from real_frames import LAB6, MAPBBR3, lab6, mapbbr3

from gixi_bluesky.checks.image import check_image
from gixi_bluesky.checks.image_orientation import doubtful_orientation
from gixi_bluesky.config import parse_config
from gixi_bluesky.processing.geometry.array_orientation import Orientation
from gixi_bluesky.processing.geometry.calibration import orient
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.pixels.masks import invalid_pixels
from gixi_bluesky.processing.settings import GeometrySettings
from gixi_bluesky.processing.structures.cif_files import read_structure, shipped_cifs

SHAPE = (300, 320)
Q_MAX = 3.0
GEOMETRY = {
    "wavelength_angstrom": 0.6888,
    "distance_mm": 300.0,
    "pixel_size_mm": [0.5, 0.5],
    "beam_center_px": [20.0, 150.0],
    "incidence_angle_deg": 0.3,
}


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    """Counts of a MAPbBr3 powder on a flat background."""
    geometry = Geometry.from_settings(GeometrySettings.model_validate(GEOMETRY), SHAPE)
    q = np.hypot(*geometry.q_at(*np.indices(SHAPE)))
    lines = read_structure(shipped_cifs()["MAPbBr3"], q_max=Q_MAX).reflections
    expected = np.full(SHAPE, 20.0)
    for position, intensity in zip(lines.q, lines.intensity, strict=True):
        expected += 300 * intensity * np.exp(-(((q - position) / 0.012) ** 2) / 2)
    return np.random.default_rng(0).poisson(expected).astype(np.int32)


def checked(frame: np.ndarray, label: str = "a.tif", **geometry: Any) -> tuple[str, list[str]]:
    tree = {
        "geometry": {**GEOMETRY, **geometry},
        "grid": {"q_max_inv_angstrom": Q_MAX, "shape": [128, 512]},
        "detector": {"weights": "classical"},
        "matching": {"cif": [str(shipped_cifs()["MAPbBr3"])]},
    }
    return check_image(parse_config(tree, folder=Path()), label, frame)


def test_a_good_set_up_is_confirmed_without_a_doubt(frame: np.ndarray) -> None:
    detail, doubts = checked(frame)
    assert doubts == []
    assert "lines up with MAPbBr3" in detail
    assert "left and right of the beam agree" in detail
    assert "the mask leaves out 0.0%" in detail


@pytest.mark.parametrize("flip", ["vertical", "horizontal", "both"])
def test_a_forgotten_flip_is_seen(frame: np.ndarray, flip: str) -> None:
    rows, columns = {"vertical": (-1, 1), "horizontal": (1, -1), "both": (-1, -1)}[flip]
    _, doubts = checked(frame[::rows, ::columns])
    assert any(f"flipped once more ({flip})" in doubt for doubt in doubts), doubts


def test_a_beam_centre_beside_the_true_one_is_seen(frame: np.ndarray) -> None:
    _, doubts = checked(frame, beam_center_px=[20.0, 153.0])
    assert sum("the beam centre's column" in doubt for doubt in doubts) == 1, doubts


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_a_wrong_distance_is_seen_by_the_lines_of_the_phase(
    frame: np.ndarray, factor: float
) -> None:
    _, doubts = checked(frame, distance_mm=300.0 * factor)
    reported = [doubt for doubt in doubts if "would lie on the lines of MAPbBr3" in doubt]
    assert len(reported) == 1, doubts
    times = float(reported[0].split("about ")[1].split(" times")[0])
    assert times == pytest.approx(1 / factor, rel=0.05)


def test_a_mask_the_wrong_way_round_is_seen(frame: np.ndarray, tmp_path: Path) -> None:
    good = np.ones(SHAPE, bool)
    good[:, 60:64] = False
    np.save(tmp_path / "mask.npy", good)
    with pytest.raises(ValueError, match="no pixel"):
        checked(np.where(good, frame, -1), mask=str(tmp_path / "mask.npy"))
    detail, doubts = checked(frame, mask=str(tmp_path / "mask.npy"))
    assert "the mask leaves out 98.8%" in detail
    assert any("good: 1" in doubt for doubt in doubts), doubts
    named = {"file": str(tmp_path / "mask.npy"), "good": 1}
    detail, doubts = checked(frame, mask=named)
    assert doubts == []
    assert "the mask leaves out 1.2%" in detail


def test_an_image_without_beam_is_seen() -> None:
    _, doubts = checked(np.zeros(SHAPE, np.int32))
    assert any("was the shutter open?" in doubt for doubt in doubts), doubts


def test_an_eiger_offers_what_it_holds_of_its_own(frame: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "s_master.h5"
    with h5py.File(path, "w") as file:
        detector = file.create_group("/entry/instrument/detector")
        detector.attrs["NX_class"] = "NXdetector"
        file["/entry"].attrs["NX_class"] = "NXentry"
        beam = file.create_group("/entry/instrument/beam")
        beam.attrs["NX_class"] = "NXbeam"
        for group, name, value, unit in (
            (detector, "detector_distance", 0.35, "m"),
            (detector, "beam_center_x", 150.5, "pixel"),
            (detector, "beam_center_y", 80.5, "pixel"),
            (detector, "x_pixel_size", 0.5e-3, "m"),
            (detector, "y_pixel_size", 0.5e-3, "m"),
            (beam, "incident_wavelength", 0.6888, "angstrom"),
        ):
            group[name] = value
            group[name].attrs["units"] = unit
        specific = detector.create_group("detectorSpecific")
        for name in ("pixel_mask", "flatfield"):
            specific[name] = np.eye(*SHAPE)
        specific["countrate_correction_count_cutoff"] = 126_000
    _, doubts = checked(frame, label=f"{path}::3")
    reported = "\n".join(doubts)
    assert (
        f"geometry.mask, which is not configured: {path}::/entry/instrument/detector/detec"
        in reported
    )
    assert "corrections.flat" in reported
    assert "corrections.saturation, which is not configured: 126000" in reported
    assert "the file says distance 350 mm, the configuration 300" in reported
    assert "the file has the beam at row 80.0, column 150.0" in reported
    assert "wavelength" not in reported
    with h5py.File(path, "a") as file:
        file["/entry/instrument/detector/flatfield_correction_applied"] = 1
    _, doubts = checked(frame, label=str(path))
    assert not any("corrections.flat" in doubt for doubt in doubts)


@pytest.mark.parametrize("name", ["MAPbBr3", "LaB6"])
@pytest.mark.parametrize("flip", ["none", "vertical", "horizontal", "both"])
def test_flips_of_real_frames_are_seen_and_only_these(
    shared_data: Path, name: str, flip: str
) -> None:
    if name == "LaB6":
        (frame, mask), settings = lab6(shared_data), LAB6
        valid = ~mask & ~invalid_pixels(frame)
    else:
        frame, settings = mapbbr3(shared_data), MAPBBR3
        valid = ~invalid_pixels(frame)
    geometry = Geometry.from_settings(settings, frame.shape)
    again = Orientation.from_flip(flip)
    turned, valid = (again.apply(orient(array, settings)) for array in (frame, valid))
    _, doubts = doubtful_orientation(turned, valid, geometry, 3.5)
    if flip == "none":
        assert doubts == []
    else:
        assert "as sharp if the image is flipped once more" in doubts[0]
