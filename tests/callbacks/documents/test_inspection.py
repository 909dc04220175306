"""The report on a run for newcomers: its images and the numbers that may be its geometry."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from raw_runs import KEY, SHAPE, Documents, RawRun, images, inline_run

from gixi_bluesky.callbacks.documents.inspection import inspect_run
from gixi_bluesky.cli.run_report import findings_of, starter_config
from gixi_bluesky.config import parse_config
from gixi_bluesky.errors import ConfigError


def number(units: str = "") -> dict[str, Any]:
    return {"source": "x", "dtype": "number", "shape": [], "units": units}


def documents() -> Documents:
    run = RawRun(detector_distance=0.81, beam_center_x=545.0)
    name, descriptor = run.descriptor(external="", sample_th=number("deg"), th_setpoint=number())
    descriptor["configuration"] = {
        "det": {
            "data": {"det_pixel_size": 0.2},
            "data_keys": {"det_pixel_size": number("mm")},
            "timestamps": {},
        }
    }
    before = RawRun()
    before.uid = run.uid
    _, baseline = before.descriptor(stream="baseline", mono_energy=number("eV"))
    del baseline["data_keys"][KEY]
    return [
        run.start(),
        ("descriptor", baseline),
        before.event(1, mono_energy=18000.0),
        (name, descriptor),
        run.event(1, **{KEY: images(1)[0], "sample_th": 0.5, "th_setpoint": 0.5}),
        run.stop(1),
    ]


def test_images_and_geometry_are_found_where_they_are() -> None:
    found = inspect_run(documents())
    (image,) = found.images
    assert (image.stream, image.key, image.shape) == ("primary", KEY, SHAPE)
    best = {name: c[0] for name, c in found.candidates.items() if c}
    reported = {name: (c.key, c.place, c.value, c.unit) for name, c in best.items()}
    assert reported == {
        "incidence_angle_deg": ("sample_th", "event", 0.5, "deg"),
        "energy_kev": ("mono_energy", "baseline", 18000.0, "eV"),
        "distance_mm": ("detector_distance", "start", 0.81, ""),
        "pixel_size_mm": ("det_pixel_size", "configuration", 0.2, ""),
        "beam_center_px": ("beam_center_x", "start", 545.0, ""),
    }
    assert found.streams == {"baseline": 1, "primary": 1}
    parts = {finding.part: finding for finding in findings_of(found)}
    assert all(finding.ok for finding in parts.values())
    assert "not found: give geometry.wavelength_angstrom" in parts["wavelength"].detail
    assert "unit not stated" in parts["distance"].detail


def test_the_starter_says_what_is_missing_and_works_once_it_is_there(tmp_path: Path) -> None:
    text = starter_config(inspect_run(documents()))
    with pytest.raises(ConfigError, match="missing pixel_size_mm, beam_center_px"):
        parse_config(yaml.safe_load(text), folder=tmp_path)
    filled = text.replace("  # pixel_size_mm: [", "  pixel_size_mm: [")
    filled = filled.replace("  # beam_center_px: [", "  beam_center_px: [")
    config = parse_config(yaml.safe_load(filled), folder=tmp_path)
    assert config.input.data_key == KEY
    assert config.geometry.energy_kev.value(18000.0) == 18.0
    assert config.geometry.incidence_angle_deg.from_ == "sample_th"


def test_an_unusual_run_with_its_detector_on_an_arm(tmp_path: Path) -> None:
    """Stacks in a fly scan's stream, the motors in a stream of their own, an arm."""
    run = RawRun((4, *SHAPE), source_wavelength=0.0689)
    before = RawRun()
    before.uid = run.uid
    _, moving = before.descriptor(
        stream="positions", two_theta=number("deg"), delta=number("mrad"), sam_om=number("degrees")
    )
    del moving["data_keys"][KEY]
    found = inspect_run(
        [
            run.start(),
            ("descriptor", moving),
            before.event(1, two_theta=12.0, delta=20.0, sam_om=0.3),
            run.descriptor(stream="fly"),
            run.stop(),
        ]
    )
    best = {name: c[0].key for name, c in found.candidates.items() if c}
    assert best == {
        "incidence_angle_deg": "sam_om",
        "wavelength_angstrom": "source_wavelength",
        "arm_in_plane_deg": "two_theta",
        "arm_out_of_plane_deg": "delta",
    }
    text = starter_config(found)
    assert "stream: fly" in text
    assert (
        "# arm_out_of_plane_deg: perhaps delta in the stream positions: 20 mrad, where frames"
        in text
    )
    assert "# incidence_angle_deg: perhaps sam_om in the stream positions" in text
    text = re.sub(r"  # (\w+): (?!perhaps)", r"  \1: ", text)
    config = parse_config(yaml.safe_load(text), folder=tmp_path)
    assert config.geometry.wavelength_angstrom.from_ == "source_wavelength"
    assert config.geometry.arm_in_plane_deg == 0.0


def test_a_run_without_images_is_a_problem_and_nothing_else_is_invented() -> None:
    run = RawRun((3, 3))
    found = inspect_run([run.start(), run.descriptor(), ("event", {}), run.stop(0)])
    problems = [finding.part for finding in findings_of(found) if not finding.ok]
    assert problems == ["image"]
    assert not any(found.candidates.values())
    assert "data_key" not in starter_config(found)


def test_several_image_keys_are_all_reported() -> None:
    plain = inline_run(images(1))
    plain[1][1]["data_keys"]["camera"] = {"source": "x", "dtype": "array", "shape": [20, 30]}
    found = inspect_run(plain)
    (reported,) = [f.detail for f in findings_of(found) if f.part == "image"]
    assert "camera in primary, 20 x 30" in reported
    assert "choose with" in reported


def test_darks_are_kept_apart_and_taken_as_such(tmp_path: Path) -> None:
    run, dark = RawRun(), RawRun()
    dark.uid = run.uid
    found = inspect_run([run.start(), dark.descriptor("dark"), run.descriptor(), run.stop(0)])
    (reported,) = [f.detail for f in findings_of(found) if f.part == "image"]
    assert reported == f"{KEY} in primary, 9 x 12; darks, {KEY} in dark, 9 x 12"
    text = re.sub(r"  # (\w+): (?!perhaps)", r"  \1: ", starter_config(found))
    config = parse_config(yaml.safe_load(text), folder=tmp_path)
    assert config.input.stream == "primary"
    assert config.corrections.dark.stream == "dark"


def test_recorded_runs_of_real_beamlines_can_be_looked_through(shared_data: Path) -> None:
    for path in sorted((shared_data / "bluesky_docs").rglob("*.json")):
        tree = json.loads(path.read_text())
        pairs = [p for p in tree if isinstance(p, list) and len(p) == 2 and isinstance(p[0], str)]
        findings_of(inspect_run(pairs))
