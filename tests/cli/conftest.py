"""The command line in this process, and a small film to analyse with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from typer.testing import CliRunner, Result

from gixi_bluesky.cli import app
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.settings import GeometrySettings
from gixi_bluesky.processing.structures.cif_files import read_structure, shipped_cifs

SHAPE = (300, 320)
GEOMETRY = {
    "wavelength_angstrom": 0.6888,
    "distance_mm": 300.0,
    "pixel_size_mm": [0.5, 0.5],
    "beam_center_px": [20.0, 40.0],
    "incidence_angle_deg": 0.3,
}
Q_MAX = 3.0


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run the command line; stdout and stderr apart."""
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def lines() -> Callable[[Result], list[dict[str, Any]]]:
    """Return the JSON objects on stdout."""

    def parse(result: Result) -> list[dict[str, Any]]:
        return [json.loads(line) for line in result.stdout.splitlines()]

    return parse


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """A configuration of the film with one structure, results below tmp_path."""
    tree = {
        "geometry": GEOMETRY,
        "grid": {"q_max_inv_angstrom": Q_MAX, "shape": [128, 256]},
        "detector": {"weights": "classical"},
        "matching": {"cif": [str(shipped_cifs()["MAPbBr3"])]},
        "output": {"directory": "results"},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def frame() -> np.ndarray:
    """Counts of a MAPbBr3 powder on a flat background, int32."""
    geometry = Geometry.from_settings(GeometrySettings.model_validate(GEOMETRY), SHAPE)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    q = np.hypot(*geometry.q_at(rows, columns))
    lines = read_structure(shipped_cifs()["MAPbBr3"], q_max=Q_MAX).reflections
    expected = np.full(SHAPE, 20.0)
    for ring, intensity in zip(lines.q, lines.intensity, strict=True):
        expected += 1000 * intensity * np.exp(-(((q - ring) / 0.012) ** 2) / 2)
    return np.random.default_rng(1).poisson(expected).astype(np.int32)


@pytest.fixture
def image(tmp_path: Path, frame: np.ndarray) -> Path:
    """The film as a TIFF file."""
    path = tmp_path / "film.tif"
    tifffile.imwrite(path, frame)
    return path
