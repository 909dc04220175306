"""Runs of a legacy databroker catalogue, analysed once more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from raw_runs import images

from gixi_bluesky.tiled_adapters import queries
from gixi_bluesky.tiled_adapters.server.embedded import embedded_server

legacy_catalogue = pytest.importorskip(
    "legacy_catalogue", reason="databroker is not installed: gixi_bluesky[databroker]"
)

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

TESTS = Path(__file__).resolve().parents[1]
GEOMETRY = {
    "wavelength_angstrom": 0.6888,
    "distance_mm": 300.0,
    "pixel_size_mm": [1.0, 1.0],
    "beam_center_px": [5.0, 10.0],
}


def reprocess(folder: Path, api_key: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command where databroker knows the catalogue `legacy` by a profile of Tiled."""
    profile = {"legacy": {"direct": {"trees": [{"path": "/", "tree": "legacy_catalogue:tree"}]}}}
    (folder / "profiles").mkdir(exist_ok=True)
    (folder / "profiles" / "legacy.yml").write_text(yaml.safe_dump(profile))
    return subprocess.run(
        [sys.executable, "-m", "gixi_bluesky", "reprocess", *arguments, "--json"],
        env={
            **os.environ,
            "TILED_PROFILES": str(folder / "profiles"),
            "TILED_API_KEY": api_key,
            "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
            legacy_catalogue.FOLDER: str(folder),
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=400,
    )


def test_its_runs_go_through_the_same_analysis(tmp_path: Path) -> None:
    """Images of a known kind are read from their files, others by the catalogue's handlers."""
    legacy_catalogue.write_images(tmp_path)
    with embedded_server(tmp_path / "tiled") as server:
        config = {
            "geometry": GEOMETRY,
            "grid": {"q_max_inv_angstrom": 2.0, "shape": [32, 64]},
            "detector": {"weights": "classical"},
            "output": {"directory": str(tmp_path / "tiled" / "results"), "flush_s": 0.1},
            "tiled": {"uri": server.uri},
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        arguments = ("databroker:legacy", *legacy_catalogue.SPECS, "--config", str(path))
        done = reprocess(tmp_path, server.api_key, *arguments)
        assert done.returncode == 0, done.stderr
        reported = [json.loads(line) for line in done.stdout.splitlines()]
        assert [one["raw_uid"] for one in reported] == list(legacy_catalogue.SPECS)
        means = []
        for one in reported:
            (run,) = queries.runs_for(server.catalog("gixi"), one["raw_uid"])
            assert run.complete
            frames = run.frames()
            assert frames["status"].tolist() == ["ok"] * legacy_catalogue.FRAMES
            means.append(frames["total_intensity"].tolist())
        # Frame k is full of k + 1, a reader it.
        assert means[0] == means[1]
        values = [image.mean() for image in images(legacy_catalogue.FRAMES)]
        assert [one / means[0][0] for one in means[0]] == pytest.approx(values)
        unknown = reprocess(tmp_path, server.api_key, "databroker:absent", "uid", "-c", str(path))
        assert unknown.returncode == 2
        assert "legacy" in unknown.stderr
