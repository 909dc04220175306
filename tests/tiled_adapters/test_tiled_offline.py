"""Results made without a server become runs like any others when they are registered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from fake_pipeline import N_PHI, N_Q
from result_files import single_file
from tiled_servers import (
    PEAKS_PER_FRAME,
    PHI,
    Q,
    columns,
    image_of,
    start_document,
)
from typer.testing import CliRunner

from gixi_bluesky.cli import app
from gixi_bluesky.tiled_adapters import queries
from gixi_bluesky.tiled_adapters.files.parts import PartWriter
from gixi_bluesky.tiled_adapters.schema import STREAMS

FRAMES = 4


@pytest.fixture
def results(tiled_server: Any) -> Path:
    return tiled_server.directory / f"offline-{uuid4()}"


def written(results: Path, raw_uid: str) -> str:
    """A finished run in a results directory, as `process --watch` leaves it without a server."""
    start = start_document(raw_uid=raw_uid)
    part = PartWriter(results, start["uid"], start, Q, PHI)
    part.append_images({frame: image_of(frame) for frame in range(FRAMES)})
    for stream in STREAMS:
        part.append_table(stream, columns(stream, range(FRAMES)))
    part.finish()
    return start["uid"]


def register(tiled_server: Any, *arguments: Any) -> Any:
    environment = {"TILED_API_KEY": tiled_server.api_key}
    command = ["register", tiled_server.uri, *map(str, arguments), "--json"]
    return CliRunner().invoke(app, command, env=environment)


def test_registered_results_are_runs_like_any_others(
    tiled_server: Any, catalogue: Any, results: Path
) -> None:
    raw_uid = str(uuid4())
    uid = written(results, raw_uid)
    done = register(tiled_server, results)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"uid": uid, "status": "registered", "reason": ""}
    (run,) = queries.runs_for(catalogue, raw_uid)
    assert run.complete
    assert run.summary["n_frames"] == FRAMES
    for stream in STREAMS:
        rows = getattr(run, stream)()
        for name, values in columns(stream, range(FRAMES)).items():
            assert rows[name].tolist() == values
    np.testing.assert_array_equal(run.polar_image(2), image_of(2))
    assert uid in {one.start["uid"] for one in queries.with_peak(catalogue, 1.1, 0.001)}
    names = [name for name, _ in run.documents()]
    assert (names[0], names[-1]) == ("start", "stop")
    assert names.count("descriptor") == len(STREAMS) + 1


def test_registering_twice_changes_nothing(
    tiled_server: Any, catalogue: Any, results: Path
) -> None:
    uid = written(results, "raw")
    register(tiled_server, results)
    done = register(tiled_server, results)
    assert done.exit_code == 0
    assert json.loads(done.stdout)["status"] == "there already"
    assert len(catalogue[uid].peaks()) == FRAMES * PEAKS_PER_FRAME


def test_a_damaged_file_is_reported_and_the_others_go_on(
    tiled_server: Any, catalogue: Any, results: Path
) -> None:
    good = written(results, "raw")
    (results / "damaged.nxs").write_bytes(b"no HDF5")
    done = register(tiled_server, results)
    assert done.exit_code == 1
    status = {one["uid"]: one["status"] for one in map(json.loads, done.stdout.splitlines())}
    assert status == {good: "registered", "damaged": "failed"}
    assert good in catalogue


def test_a_folder_without_results_is_reported(tiled_server: Any, tmp_path: Path) -> None:
    done = register(tiled_server, tmp_path)
    assert done.exit_code == 2
    assert "no finished results" in done.stderr


def test_a_result_without_a_run_is_served_from_its_file(
    tiled_server: Any, catalogue: Any, results: Path
) -> None:
    single_file(results)
    (results / "raw.h5").write_bytes(b"no result")
    reported = [json.loads(register(tiled_server, results).stdout)["status"] for _ in range(2)]
    assert reported == ["registered", "there already"]
    files = catalogue.parent["gixi_files"]
    (node,) = (one for one in files.values() if one.metadata["file"] == "film.h5")
    assert node.metadata["configuration"] == {"a": 1}
    assert list(node) == ["q", "phi", "frame", "polar_image", "peaks", "matches", "match_peaks"]
    np.testing.assert_array_equal(node["polar_image"][1], np.full((N_PHI, N_Q), 200, "<f4"))
    assert node["peaks"].read()["q"].tolist() == [1.0, 2.0]
    assert node["matches"].read()["phase"].tolist() == ["fake", "fake"]
    assert len(node["q"].read()) == N_Q


def test_a_file_that_the_server_does_not_serve_is_reported_and_left_out(
    tiled_server: Any, catalogue: Any, results: Path, tmp_path: Path
) -> None:
    single_file(results)
    register(tiled_server, results)
    before = list(catalogue.parent["gixi_files"])
    single_file(tmp_path)
    done = register(tiled_server, tmp_path / "film.h5")
    assert done.exit_code == 1
    assert "readable_storage" in json.loads(done.stdout)["reason"]
    assert list(catalogue.parent["gixi_files"]) == before
