"""Tests with packages of others, in environments of their own: only by `make interop`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from typer.testing import CliRunner

from gixi_bluesky.cli import app
from gixi_bluesky.processing.structures.cif_files import shipped_cifs

if not os.environ.get("GIXI_INTEROP"):
    collect_ignore_glob = ["test_*.py"]

_GEOMETRY = {
    "wavelength_angstrom": 0.6888,
    "distance_mm": 300.0,
    "pixel_size_mm": [0.5, 0.5],
    "beam_center_px": [20.0, 40.0],
    "incidence_angle_deg": 0.3,
}
_CREATORS = [
    {"name": "Family name, Given name", "orcid": "0000-0002-1825-0097", "affiliation": "A lab"}
]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published bundle of two images with a cut, every record filled that can be."""
    folder = tmp_path_factory.mktemp("film")
    (folder / "raw").mkdir()
    random = np.random.default_rng(2)
    for number in range(2):
        image = random.poisson(20, (120, 140)).astype(np.int32)
        image[60:64, 80:84] += 500
        tifffile.imwrite(folder / "raw" / f"film_{number}.tif", image)
    shutil.copy(shipped_cifs()["MAPbBr3"], folder / "perovskite.cif")
    tree = {
        "geometry": _GEOMETRY,
        "grid": {"q_max_inv_angstrom": 2.0, "shape": [64, 128]},
        "detector": {"weights": "classical"},
        "matching": {"cif": ["perovskite.cif"]},
        "cuts": {"film": {"along": "q", "phi": [10, 80], "bins": 40}},
        "output": {"directory": "results", "dois": {"software": "10.1234/gixi"}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    (folder / "creators.yaml").write_text(yaml.safe_dump(_CREATORS), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        watch = ("--watch", "raw", "--stop-after", "1", "--config", "config.yaml")
        _command("process", *watch)
        (result,) = Path("results").glob("*.nxs")
        records = ("--license", "CC-BY-4.0", "--creators", "creators.yaml")
        dois = ("--raw-doi", "10.5555/raw", "--article-doi", "10.5555/article")
        _command("publish", result.stem, "--out", "bundle", *records, *dois)
    return folder / "bundle"


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """A configuration for the simulated detectors of other packages; results go beside it."""
    tree = {
        "geometry": {
            "wavelength_angstrom": 1.0,
            "distance_mm": 100.0,
            "pixel_size_mm": [0.5, 0.5],
            "beam_center_px": [5.0, 32.0],
            "incidence_angle_deg": 0.2,
        },
        "grid": {"q_max_inv_angstrom": 1.5, "shape": [64, 128]},
        "detector": {"weights": "classical"},
        "output": {"directory": str(tmp_path / "results")},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="session")
def result_file(bundle: Path) -> Path:
    """The whole run of the bundle."""
    (path,) = bundle.glob("*.nxs")
    return path


def _command(*arguments: str) -> None:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
