"""`check --run`: from a stored run to a configuration to start from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from bluesky_tiled_plugins import TiledWriter
from raw_runs import feed, hdf5_run
from typer.testing import CliRunner

from gixi_bluesky.cli import app
from gixi_bluesky.tiled_adapters.server.embedded import embedded_server

pytestmark = pytest.mark.system


def test_a_stored_run_is_reported_and_begins_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with embedded_server(tmp_path / "tiled") as server:
        monkeypatch.setenv("TILED_API_KEY", server.api_key)
        frames = np.ones((2, 60, 80), "<u2")
        documents = hdf5_run(server.directory / "raw.h5", frames)
        documents[0][1]["energy"] = 12.7
        feed(TiledWriter(server.catalog("raw")), documents)
        uid = documents[0][1]["uid"]
        starter = tmp_path / "config.yaml"
        command = ["check", "--run", server.uri, uid, "--write", str(starter), "--json"]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        reported = {one["part"]: one for one in map(json.loads, done.stdout.splitlines())}
        assert "img in primary" in reported["image"]["detail"]
        assert "energy in the start: 12.7" in reported["energy"]["detail"]
        assert yaml.safe_load(starter.read_text())["input"]["data_key"] == "img"
        # What somebody filled in is not written over, and a run that is not there is reported.
        assert CliRunner().invoke(app, command).exit_code != 0
        absent = CliRunner().invoke(app, ["check", "--run", server.uri, "absent"])
        assert absent.exit_code == 2
        assert "no run 'absent'" in absent.stderr
