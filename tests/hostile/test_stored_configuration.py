"""A stored configuration is data: it names no server, runs nothing and reads nothing unknown."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from fakes import GEOMETRY

from gixi_bluesky.config import Config, load_config, parse_config
from gixi_bluesky.errors import ConfigError
from gixi_bluesky.processing import Pipeline
from gixi_bluesky.tiled_adapters.files.result_writer import write_result_file

CIF = """data_x
_cell_length_a 6
_cell_length_b 6
_cell_length_c 6
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P m -3 m'
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Pb 0 0 0
"""


def stranger(folder: Path, configuration: object, provenance: object = None) -> Path:
    """Write what passes for a result file."""
    path = folder / "stranger.h5"
    stored = {"configuration": configuration, "provenance": provenance or {}, "start_document": {}}
    with h5py.File(path, "w") as file:
        process = file.create_group("/entry/process")
        for name, value in stored.items():
            process[name] = json.dumps(value)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


ORDERS: list[dict[str, Any]] = [
    {"tiled": {"uri": "http://127.0.0.1:9", "api_key_file": "/etc/passwd"}},
    {"kafka": {"bootstrap": "127.0.0.1:9", "topics": ["t"], "options": {"debug": "all"}}},
    {"kafka": {"options": {"ssl.engine.location": "/tmp/evil.so"}}},
    {"slurm": {"prologue": ["touch /tmp/owned"], "sbatch": ["--wrap=id"]}},
    {"output": {"directory": "/etc"}},
    {"input": {"roots": [], "root_map": {"/data": "/root"}}},
    {"queue": {"spill_directory": "/etc"}},
    {"steps": ["os:system"]},
    {"no_such_section": 1},
]


@pytest.mark.parametrize("orders", ORDERS, ids=lambda orders: next(iter(orders)))
def test_only_what_decides_results_is_taken(tmp_path: Path, orders: dict[str, Any]) -> None:
    reported = {
        "geometry": GEOMETRY,
        "grid": {"shape": [64, 128]},
        "detector": {"device": "cuda:7"},
    }
    taken = load_config(stranger(tmp_path, {**reported, **orders}))
    expected = parse_config({**reported, "detector": {}}, folder=tmp_path)
    assert taken == expected
    assert taken.grid.shape == (64, 128)


def named_files(folder: Path) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return, by setting, sections that name a file and the provenance that knows it."""
    mask, poni, cif = folder / "mask.npy", folder / "a.poni", folder / "a.cif"
    np.save(mask, np.zeros((8, 8), bool))
    poni.write_text("Distance: 0.1")
    cif.write_text(CIF)
    from_file = {"poni": str(poni), "incidence_angle_deg": 0.1}
    weights = folder / "w.onnx"
    weights.write_bytes(b"weights")
    return {
        "geometry.mask": (
            {"geometry": {**GEOMETRY, "mask": str(mask)}},
            {"mask_sha256": sha256(mask)},
        ),
        "geometry.poni": ({"geometry": from_file}, {"poni_sha256": sha256(poni)}),
        "corrections.dark": (
            {"corrections": {"dark": str(mask)}},
            {"correction_sha256": {"dark": sha256(mask)}},
        ),
        "corrections.flat": (
            {"corrections": {"flat": str(mask)}},
            {"correction_sha256": {"flat": sha256(mask)}},
        ),
        "matching.cif": (
            {"matching": {"cif": [str(folder)]}},
            {"cif_sha256": {"x": sha256(cif)}},
        ),
        "detector.weights": (
            {"detector": {"weights": str(weights)}},
            {"weights_sha256": sha256(weights)},
        ),
    }


def files_of(config: Config) -> set[str]:
    reported = json.loads(config.model_dump_json(exclude={"output"}))
    return {Path(word).name for word in json.dumps(reported).split('"') if word.startswith("/")}


SETTINGS = (
    "geometry.mask",
    "geometry.poni",
    "corrections.dark",
    "corrections.flat",
    "matching.cif",
    "detector.weights",
)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_named_file_is_taken_if_its_hash_is_stored(tmp_path: Path, setting: str) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    sections, provenance = named_files(inputs)[setting]
    reported = {"geometry": GEOMETRY, **sections}
    taken = load_config(stranger(tmp_path, reported, provenance))
    assert len(files_of(taken)) == 1

    for wrong in ({}, dict.fromkeys(provenance, "0" * 64)):
        with pytest.raises(ConfigError, match=setting):
            load_config(stranger(tmp_path, reported, wrong))


def test_a_file_may_have_moved_beside_the_result(tmp_path: Path) -> None:
    sections, provenance = named_files(tmp_path)["geometry.mask"]
    sections["geometry"]["mask"] = "/gone/mask.npy"
    taken = load_config(stranger(tmp_path, sections, provenance))
    assert taken.geometry.mask == tmp_path / "mask.npy"


def test_a_dark_run_is_only_its_verified_copy(tmp_path: Path) -> None:
    dark = tmp_path / "dark.npy"
    np.save(dark, np.zeros((8, 8)))
    reported = {"geometry": GEOMETRY, "corrections": {"dark": {"run": "abc", "file": str(dark)}}}
    known = {"correction_sha256": {"dark": sha256(dark)}}
    assert load_config(stranger(tmp_path, reported, known)).corrections.dark == dark
    with pytest.raises(ConfigError, match=r"corrections\.dark"):
        load_config(stranger(tmp_path, reported))
    del reported["corrections"]["dark"]["file"]  # type: ignore[index]
    with pytest.raises(ConfigError, match="the run abc of a server"):
        load_config(stranger(tmp_path, reported, known))


@pytest.mark.parametrize(
    "content", ["[1]", '"text"', "{", "[" * 100_000, "1" * 10_000, '{"geometry": NaN}']
)
def test_what_is_no_configuration_is_refused(tmp_path: Path, content: str) -> None:
    path = stranger(tmp_path, {})
    with h5py.File(path, "a") as file:
        del file["/entry/process/configuration"]
        file["/entry/process/configuration"] = content
    with pytest.raises(ConfigError):
        load_config(path)


def test_a_result_of_ours_gives_back_what_decided_it(tmp_path: Path) -> None:
    cifs = tmp_path / "cifs"
    cifs.mkdir()
    (cifs / "one.cif").write_text(CIF)
    tree = {
        "geometry": {**GEOMETRY, "mask": "mask.npy", "pixel_size_mm": [2, 2]},
        "grid": {"q_max_inv_angstrom": 1.5, "shape": [32, 64]},
        "detector": {"weights": "classical"},
        "matching": {"cif": "cifs"},
        "tiled": {"uri": "http://127.0.0.1:9"},
    }
    np.save(tmp_path / "mask.npy", np.zeros((64, 64), bool))
    config = parse_config(tree, folder=tmp_path)
    pipeline = Pipeline(config)
    frame = np.random.default_rng(0).poisson(50, (64, 64)).astype("u2")
    path = write_result_file(tmp_path / "r.h5", [pipeline(frame)], pipeline.provenance.as_dict())
    taken = load_config(path)
    assert taken.tiled.uri is None
    assert taken.matching.cif == (cifs / "one.cif",)
    assert Pipeline(taken).provenance.result_hash == pipeline.provenance.result_hash
    (cifs / "one.cif").write_text(CIF.replace("6", "7"))
    with pytest.raises(ConfigError, match=r"matching\.cif"):
        load_config(path)
