"""The smaller commands, and what every command does with errors."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import yaml

from gixi_bluesky import __version__
from gixi_bluesky.config import load_config
from gixi_bluesky.processing.geometry.instrument import Geometry

GIXI_YAML = """
q_space: {distance: 809, flip_x: false, flip_y: true, incidence_angle: 0.5, pixel_size: 0.2,
          q_xy_max: 2.7, q_z_max: 2.7, size_x: 2048, size_y: 2048, wavelength: 0.6888,
          y0: 545, z0: 222}
polar_config: {angular_size: 512, q_size: 1024}
postprocessing_config: {nms_level: 0.1, score_level: 0.6}
model_config: {name: segments_detector_6}
match_config: {max_distance: 0.04}
contrast: {coef: 5000.0}
mystery: {a: 1}
"""


def test_an_error_is_one_message_without_a_traceback(run, tmp_path):
    result = run("config", "show", tmp_path / "absent.yaml")
    assert result.exit_code == 2
    assert "cannot read the configuration" in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_debug_shows_where_an_error_came_from(run, tmp_path):
    result = run("--debug", "config", "show", tmp_path / "absent.yaml")
    assert result.exc_info is not None
    assert type(result.exception).__name__ == "ConfigError"


def test_a_refused_folder_is_reported_too(run, config_file, image):
    blocked = image.with_name("file")
    blocked.write_text("")
    result = run("process", image, "-c", config_file, "--out", blocked / "found.h5")
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_version(run):
    assert run("--version").stdout.strip() == __version__


def test_config_show_is_complete_and_loads_again(run, config_file, tmp_path):
    shown = run("config", "show", config_file)
    again = tmp_path / "again.yaml"
    again.write_text(shown.stdout)
    assert load_config(again) == load_config(config_file)
    as_json = json.loads(run("config", "show", config_file, "--json").stdout)
    assert as_json == yaml.safe_load(shown.stdout)


def test_config_schema_knows_every_section(run):
    schema = json.loads(run("config", "schema").stdout)
    assert {"geometry", "tiled", "queue"} <= set(schema["properties"])


def test_import_of_gixis_yaml(run, tmp_path):
    theirs = tmp_path / "gixi.yaml"
    theirs.write_text(GIXI_YAML)
    ours = tmp_path / "ours.yaml"
    result = run("config", "import", theirs, "--out", ours)
    assert result.exit_code == 0, result.stderr
    config = load_config(ours)
    assert config.geometry.beam_center_px == (222, 545)
    assert config.geometry.flip == "vertical"
    assert config.geometry.pixel_size_mm == (0.2, 0.2)
    assert config.grid.shape == (512, 1024)
    # the corner of q_xy_max and q_z_max, where the published grid ends
    assert config.grid.q_max_inv_angstrom == pytest.approx(3.8184, abs=1e-4)
    assert config.detector.weights == "gixi-2022-segments"
    assert config.detector.score_threshold == 0.6
    assert config.matching.max_dq_inv_angstrom == 0.04
    assert "mystery" in result.stderr
    assert "contrast" not in result.stderr


def test_import_of_a_poni(run, tmp_path):
    poni = tmp_path / "calibration.poni"
    poni.write_text(
        "poni_version: 2\nDetector: Detector\n"
        'Detector_config: {"pixel1": 0.000172, "pixel2": 0.000172, "max_shape": [1043, 981]}\n'
        "Distance: 0.26\nPoni1: 0.11\nPoni2: 0.1\nRot1: 0.0\nRot2: 0.0\nRot3: 0.0\n"
        "Wavelength: 9.76e-11\n"
    )
    result = run("config", "import", poni)
    assert result.exit_code == 0, result.stderr
    config_file = tmp_path / "ours.yaml"
    assert run("config", "import", poni, "--out", config_file).exit_code == 0
    config = load_config(config_file)
    assert config.geometry.poni == tmp_path / "calibration.poni"
    # The beam is at row 640 of 1043 as read: below it lies the smaller part.
    assert config.geometry.flip == "vertical"
    geometry = Geometry.from_settings(config.geometry, (1043, 981))
    assert geometry.beam_center_px == pytest.approx((1042 - (0.11 / 172e-6 - 0.5), 580.9), abs=0.1)
    assert "incidence_angle_deg" in result.stderr


@pytest.mark.parametrize("content", ["a: 1", "[1]", "q_space: {y0: 1}", "\x00"])
def test_import_of_something_else_is_refused(run, tmp_path, content):
    path = tmp_path / "some.yaml"
    path.write_text(content)
    result = run("config", "import", path)
    assert result.exit_code == 2
    assert "some.yaml" in result.stderr


def test_check_tries_every_part_and_an_image(run, lines, config_file, image):
    result = run("check", "--config", config_file, image, "--json")
    findings = lines(result)
    assert result.exit_code == 0, result.output
    assert [finding["part"] for finding in findings] == [
        *("configuration", "geometry", "mask", "corrections", "structures", "weights"),
        *("input roots", "results directory", "Tiled", "Kafka", "image"),
    ]
    assert "MAPbBr3" in findings[4]["detail"]
    assert findings[5]["detail"].endswith("on cpu (numpy)")


def test_check_says_what_is_wrong_and_goes_on(run, lines, config_file):
    tree = {
        "geometry": {**yaml.safe_load(config_file.read_text())["geometry"], "mask": "absent.edf"},
        "grid": {"q_max_inv_angstrom": 100.0},
        "matching": {"cif": ["absent.cif"]},
        "input": {"roots": ["/absent"]},
        "output": {"directory": "config.yaml/results"},
        "detector": {"weights": "absent"},
        "tiled": {"uri": "http://127.0.0.1:9"},
    }
    config_file.write_text(yaml.safe_dump(tree))
    result = run("check", "--config", config_file, "--json")
    assert result.exit_code == 1
    problems = {finding["part"] for finding in lines(result) if not finding["ok"]}
    assert problems == {
        *("geometry", "mask", "structures", "weights", "input roots"),
        *("results directory", "Tiled"),
    }


def test_check_stops_at_a_configuration_that_cannot_be_read(run, lines, tmp_path):
    result = run("check", "--config", tmp_path / "absent.yaml", "--json")
    assert result.exit_code == 1
    (finding,) = lines(result)
    assert finding["part"] == "configuration"


def test_weights_list_knows_the_published_ones(run, lines):
    listed = lines(run("weights", "list", "--json"))
    names = [one["name"] for one in listed]
    assert {one["name"]: one["space"] for one in listed}["light-2026"] == "polar"
    assert {"classical", "gixi-2022", "gixi-2022-segments"} <= set(names)
    assert "classical" in run("weights", "list").stdout


def test_weights_fetch_refuses_an_unknown_name(run):
    result = run("weights", "fetch", "nonsense")
    assert result.exit_code == 2
    assert "gixi-2022" in result.stderr


def test_import_of_a_nexus_detector_and_its_check(run, lines, tmp_path):
    with h5py.File(tmp_path / "calibration.nxs", "w") as file:
        for path, nx_class in (("entry", "NXentry"), ("entry/det", "NXdetector")):
            file.create_group(path).attrs["NX_class"] = nx_class
        file.create_group("entry/mono").attrs["NX_class"] = "NXmonochromator"
        values = {
            "det/distance": (0.26, "m"),
            "det/beam_center_x": (581.4, "pixel"),
            "det/beam_center_y": (640.0, "pixel"),
            "det/x_pixel_size": (0.172, "mm"),
            "det/y_pixel_size": (0.172, "mm"),
            "mono/energy": (12700.0, "eV"),
        }
        for name, (value, units) in values.items():
            file[f"entry/{name}"] = value
            file[f"entry/{name}"].attrs["units"] = units
        file["entry/det/data"] = np.zeros((1043, 981), np.uint8)
    config_file = tmp_path / "ours.yaml"
    source = f"{tmp_path / 'calibration.nxs'}::/entry/det"
    result = run("config", "import", source, "--out", config_file)
    assert result.exit_code == 0, result.stderr
    config = load_config(config_file)
    assert config.geometry.flip == "vertical"
    geometry = Geometry.from_settings(config.geometry, (1043, 981))
    assert geometry.beam_center_px == pytest.approx((1042 - 639.5, 580.9), abs=0.01)
    reported = {one["part"]: one for one in lines(run("check", "--config", config_file, "--json"))}
    assert reported["geometry"]["ok"]
    assert "0.9763 angstrom, 260.0 mm" in reported["geometry"]["detail"]
