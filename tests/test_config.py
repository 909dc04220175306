"""The configuration file: strict, complete, relative to its own folder."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter

from gixi_bluesky.callbacks.documents.value_sources import FromDocument
from gixi_bluesky.config import Config, load_config, parse_config
from gixi_bluesky.errors import ConfigError

GEOMETRY = {
    "wavelength_angstrom": 0.6888,
    "distance_mm": 809.0,
    "pixel_size_mm": [0.2, 0.2],
    "beam_center_px": [222.0, 545.0],
    "incidence_angle_deg": 0.5,
    "flip": "vertical",
}


def write(folder: Path, tree: object) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def test_geometry_alone_is_enough(tmp_path):
    config = load_config(write(tmp_path, {"geometry": GEOMETRY}))
    assert config.grid.shape == (512, 1024)
    assert config.detector.weights == "default"
    assert config.output.image_step == 1


def test_the_configuration_of_the_design_is_accepted(tmp_path):
    text = """
input: {stream: primary, data_key: pe_image, select: {plan_name: count}, roots: [/data],
        root_map: {/beamline: /gpfs}}
geometry:
  wavelength_angstrom: 0.6888
  distance_mm: 809.0
  pixel_size_mm: [0.2, 0.2]
  beam_center_px: [222.0, 545.0]
  incidence_angle_deg: {from: "th", unit: deg, scale: 1, offset: 0}
  flip: vertical
  mask: mask.edf
grid: {q_max_inv_angstrom: 3.9, shape: [512, 1024], side: fold, below_horizon: mask}
detector: {weights: default, score_threshold: 0.5, device: auto}
matching: {cif: [cifs/], max_dq_inv_angstrom: 0.03}
output: {directory: results/, images: all, arrays: external}
tiled: {uri: "http://localhost:8000", raw: raw, derived: gixi, api_key_file: key.txt,
        access_tags: from_raw}
"""
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    config = load_config(path)
    assert config.geometry.incidence_angle_deg == FromDocument(from_="th")
    assert config.geometry.mask == tmp_path / "mask.edf"
    assert config.matching.cif == (tmp_path / "cifs",)
    assert config.output.directory == tmp_path / "results"
    assert config.tiled.api_key_file == tmp_path / "key.txt"
    assert config.input.roots == (Path("/data"),)


def test_one_cif_need_not_be_a_list(tmp_path):
    tree = {"geometry": GEOMETRY, "matching": {"cif": "a.cif"}}
    assert load_config(write(tmp_path, tree)).matching.cif == (tmp_path / "a.cif",)


@pytest.mark.parametrize("file", ["light.safetensors", "exported/light.onnx"])
def test_weights_are_a_name_or_a_file_beside_the_configuration(tmp_path, file):
    named, given = (
        load_config(write(tmp_path, {"geometry": GEOMETRY, "detector": {"weights": weights}}))
        for weights in ("gixi-2022", file)
    )
    assert named.detector.weights == "gixi-2022"
    assert given.detector.weights == str(tmp_path / file)


def paths_of(model: type[BaseModel], place: str = "") -> Iterator[tuple[str, bool]]:
    """Yield each field that may hold a path, and whether it is relative to the file's folder."""
    for name, field in model.model_fields.items():
        adapter = TypeAdapter(Annotated[field.annotation, *field.metadata, name])
        schema = adapter.json_schema()
        if '"format": "path"' not in json.dumps(schema):
            continue
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from paths_of(inner, f"{place}{name}.")
        else:
            many = '"type": "array"' in json.dumps(schema)
            value = adapter.validate_python(["x"] if many else "x", context={"folder": Path("/f")})
            yield place + name, (value[0] if many else value) == Path("/f/x")


def test_every_path_is_relative_to_the_configuration() -> None:
    found = dict(paths_of(Config))
    # Resolved when the whole configuration is known, as its default is relative, too.
    assert found.pop("output.directory") is False
    assert len(found) >= 13
    assert [place for place, relative in found.items() if not relative] == []


def test_what_is_shown_can_be_loaded_again(tmp_path):
    config = parse_config({"geometry": GEOMETRY}, folder=tmp_path)
    shown = config.model_dump(mode="json", by_alias=True)
    assert load_config(write(tmp_path, shown)) == config


def test_energy_stands_for_wavelength():
    geometry = {**GEOMETRY, "energy_kev": 18.0}
    del geometry["wavelength_angstrom"]
    config = parse_config({"geometry": geometry}, folder=Path())
    # 12.3984198 keV angstrom is h c
    assert math.isclose(config.geometry.wavelength, 12.398419843 / 18.0, rel_tol=1e-9)


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        ({"geomety": {}}, "geomety: unknown key"),
        ({"grid": {"q_max": 3}}, "grid.q_max: unknown key"),
        ({"geometry": {**GEOMETRY, "distance_mm": -1}}, "distance_mm"),
        ({"geometry": {**GEOMETRY, "distance_mm": "far"}}, "distance_mm"),
        ({"geometry": {**GEOMETRY, "wavelength_angstrom": float("nan")}}, "wavelength_angstrom"),
        ({"geometry": {**GEOMETRY, "energy_kev": 18}}, "exactly one of"),
        ({"geometry": {**GEOMETRY, "poni": "a.poni"}}, "got poni and also"),
        ({"geometry": {**GEOMETRY, "orientation": 2}}, "both flip and orientation"),
        ({"geometry": {**GEOMETRY, "incidence_angle_deg": 91}}, "incidence_angle_deg"),
        ({"geometry": {"wavelength_angstrom": 1.0}}, "missing distance_mm"),
        ({"geometry": None}, "geometry"),
        ({"grid": {"shape": [4, 4]}}, "grid.shape"),
        ({"output": {"images": "some"}}, "expected all, none or every_N"),
        ({"detector": {"score_threshold": 2}}, "score_threshold"),
    ],
)
def test_a_wrong_value_is_reported_with_its_place(tmp_path, change, reported):
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, {"geometry": GEOMETRY, **change}))
    assert reported in str(caught.value)
    assert "config.yaml" in str(caught.value)


@pytest.mark.parametrize("content", [b"[1, 2]", b"", b"a: [", b"\xff\xfe\x00"])
def test_what_is_no_mapping_is_a_config_error(tmp_path, content):
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        load_config(path)


def test_a_missing_file_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load_config(tmp_path / "absent.yaml")


def test_yaml_cannot_build_objects(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("geometry: !!python/object/apply:os.getcwd []", encoding="utf-8")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(path)


def test_every_key_of_the_schema_is_typed():
    schema = Config.model_json_schema()
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) >= {"input", "geometry", "grid", "output", "tiled"}


def test_a_time_limit_that_yaml_made_a_number_is_reported_with_its_form(tmp_path):
    with pytest.raises(ConfigError, match=r"slurm\.time: .*in quotes"):
        parse_config({"geometry": GEOMETRY, "slurm": {"time": 43200}}, folder=tmp_path)
