"""`config import` takes over what an Eiger wrote of itself into its master file."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from gixi_bluesky.config import load_config
from gixi_bluesky.processing.front.frame_maps import FrameSetup
from gixi_bluesky.processing.geometry.instrument import Geometry

SHAPE = (120, 100)
MASK = np.zeros(SHAPE, np.uint32)
MASK[:, 50:53] = 1  # a gap


@pytest.fixture
def master(tmp_path):
    path = tmp_path / "s_master.h5"
    with h5py.File(path, "w") as file:
        file.create_group("/entry").attrs["NX_class"] = "NXentry"
        detector = file.create_group("/entry/instrument/detector")
        detector.attrs["NX_class"] = "NXdetector"
        beam = file.create_group("/entry/instrument/beam")
        beam.attrs["NX_class"] = "NXbeam"
        for group, name, value, unit in (
            (detector, "detector_distance", 0.2, "m"),
            (detector, "beam_center_x", 40.0, "pixel"),
            (detector, "beam_center_y", 100.0, "pixel"),
            (detector, "x_pixel_size", 75e-6, "m"),
            (detector, "y_pixel_size", 75e-6, "m"),
            (beam, "incident_wavelength", 0.9763, "angstrom"),
        ):
            group[name] = value
            group[name].attrs["units"] = unit
        detector["detectorSpecific/pixel_mask"] = MASK
        detector["detectorSpecific/flatfield"] = np.linspace(0.9, 1.1, MASK.size).reshape(SHAPE)
        detector["detectorSpecific/countrate_correction_count_cutoff"] = 126_000
        file["/entry/data/data_000001"] = h5py.ExternalLink("s_data_000001.h5", "/entry/data/data")
    return path


def test_mask_flat_cutoff_and_geometry_are_taken_over(run, tmp_path, master):
    result = run("config", "import", master, "--out", tmp_path / "ours.yaml")
    assert result.exit_code == 0, result.stderr
    config = load_config(tmp_path / "ours.yaml")
    assert config.corrections.saturation == 126_000
    setup = FrameSetup.of(config.geometry, config.corrections, SHAPE)
    assert config.geometry.flip == "vertical"
    np.testing.assert_array_equal(setup.mask, MASK[::-1] != 0)
    assert setup.pixels.inverse_flat[-1, 0] == pytest.approx(1 / 0.9, rel=1e-5)  # as read: first
    geometry = Geometry.from_settings(config.geometry, SHAPE)
    assert geometry.beam_center_px == pytest.approx((119 - 99.5, 39.5))
    assert geometry.wavelength_angstrom == pytest.approx(0.9763)


def test_a_flat_that_the_detector_applied_is_not_taken_over(run, tmp_path, master):
    with h5py.File(master, "a") as file:
        file["/entry/instrument/detector/flatfield_correction_applied"] = 1
    assert run("config", "import", master, "--out", tmp_path / "ours.yaml").exit_code == 0
    assert load_config(tmp_path / "ours.yaml").corrections.flat is None
