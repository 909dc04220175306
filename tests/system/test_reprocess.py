"""`reprocess`: a stored raw run, analysed again with another configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from bluesky_tiled_plugins import TiledWriter
from raw_runs import feed, hdf5_run
from typer.testing import CliRunner, Result

from gixi_bluesky.cli import app
from gixi_bluesky.processing.structures.cif_files import shipped_cifs
from gixi_bluesky.tiled_adapters import queries
from gixi_bluesky.tiled_adapters.server.embedded import EmbeddedServer, embedded_server

pytestmark = pytest.mark.system

FRAMES = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with embedded_server(tmp_path_factory.mktemp("tiled")) as running:
        yield running


@pytest.fixture(scope="module")
def raw_uid(server: EmbeddedServer) -> str:
    """A raw run as a beamline stores it: its images in a file, its documents in Tiled."""
    frames = np.random.default_rng(1).poisson(50, (FRAMES, 60, 80)).astype("<u2")
    documents = hdf5_run(server.directory / "raw.h5", frames)
    feed(TiledWriter(server.catalog("raw")), documents)
    return documents[0][1]["uid"]


def config_file(server: EmbeddedServer, threshold: float) -> Path:
    tree = {
        "geometry": {
            "wavelength_angstrom": 0.6888,
            "distance_mm": 300.0,
            "pixel_size_mm": [1.0, 1.0],
            "beam_center_px": [5.0, 10.0],
        },
        "grid": {"q_max_inv_angstrom": 2.0, "shape": [32, 64]},
        "detector": {"weights": "classical", "score_threshold": threshold},
        "matching": {"cif": [str(shipped_cifs()["LaB6"])]},
        "output": {"directory": "results", "flush_s": 0.1},
        "input": {"select": {"plan_name": "none that was stored"}},
    }
    path = server.directory / f"config-{threshold}.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def run_command(monkeypatch: pytest.MonkeyPatch, server: EmbeddedServer, *more: Any) -> Result:
    monkeypatch.setenv("TILED_API_KEY", server.api_key)
    return CliRunner().invoke(app, ["reprocess", server.uri, *map(str, more), "--json"])


def test_the_new_run_stands_beside_the_old_with_what_differs(
    server: EmbeddedServer, raw_uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported = []
    for threshold in (0.5, 0.7):
        config = config_file(server, threshold)
        done = run_command(monkeypatch, server, raw_uid, "--config", config)
        assert done.exit_code == 0, done.output
        reported.append(json.loads(done.stdout))
    assert [one["n_frames"] for one in reported] == [FRAMES, FRAMES]
    runs = queries.runs_for(server.catalog("gixi"), raw_uid)
    assert {run.start["uid"] for run in runs} == {one["derived_uid"] for one in reported}
    assert all(run.complete for run in runs)
    assert reported[0]["differs"] == {reported[0]["derived_uid"]: {}}
    first, second = (reported[1]["differs"][one["derived_uid"]] for one in reported)
    assert (first["detector.score_threshold"], second["detector.score_threshold"]) == (0.5, 0.7)
    assert set(first) == {"detector.score_threshold", "result_hash"}


def test_runs_are_found_by_their_start_document_and_done_once(
    server: EmbeddedServer, raw_uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--search", "scan_id=3", "--search", "plan_name=count")
    config = config_file(server, 0.5)
    done = [run_command(monkeypatch, server, *options, "--config", config) for _ in range(2)]
    assert [one.exit_code for one in done] == [0, 0], done[-1].output
    reports = [json.loads(one.stdout) for one in done]
    assert reports[1]["raw_uid"] == raw_uid
    assert reports[1]["stored_before"] == reports[1]["derived_uid"] == reports[0]["derived_uid"]
    assert "--again analyses it once more" in " ".join(done[1].stderr.split())


def test_a_run_is_analysed_again_beside_what_is_stored(
    server: EmbeddedServer, raw_uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_file(server, 0.6)
    first, second, third = (
        json.loads(run_command(monkeypatch, server, raw_uid, "--config", config, *option).stdout)
        for option in ((), ("--again",), ("--again",))
    )
    assert first["stored_before"] is None
    assert second["stored_before"] == first["derived_uid"]
    assert third["stored_before"] == second["derived_uid"]
    assert len({one["derived_uid"] for one in (first, second, third)}) == 3
    assert [one["n_frames"] for one in (first, second, third)] == [FRAMES] * 3
    catalogue = server.catalog("gixi")
    runs = [catalogue[one["derived_uid"]] for one in (first, second, third)]
    assert [run.start["gixi"]["attempt"] for run in runs] == [1, 2, 3]
    assert len({run.provenance["result_hash"] for run in runs}) == 1
    assert third["differs"][third["derived_uid"]]["attempt"] == 3
    peaks = [run.peaks().drop(columns="frame") for run in runs]
    assert peaks[0].equals(peaks[2])


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (("no-such-run",), "no run no-such-run in the catalogue"),
        ((), "give the uids of raw runs, or --search"),
        (("--search", "plan_name"), "expected KEY=VALUE"),
    ],
)
def test_what_cannot_be_found_is_reported(
    server: EmbeddedServer,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    reported: str,
) -> None:
    done = run_command(monkeypatch, server, *arguments, "--config", config_file(server, 0.5))
    assert done.exit_code == 2
    assert reported in " ".join(done.stderr.split())


def test_a_bundle_is_made_again_from_the_raw_run_on_the_server(
    server: EmbeddedServer, raw_uid: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = run_command(monkeypatch, server, raw_uid, "--config", config_file(server, 0.5))
    assert done.exit_code == 0, done.output
    uid = json.loads(done.stdout)["derived_uid"]
    bundle = tmp_path / "bundle"
    published = ["publish", uid, "--directory", str(server.directory / "results")]
    done = CliRunner().invoke(app, [*published, "--out", str(bundle)])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(app, ["reproduce", str(bundle), "--raw", server.uri, "--json"])
    assert done.exit_code == 0, done.output
    verdicts = {one["name"]: one["verdict"] for one in map(json.loads, done.stdout.splitlines())}
    assert set(verdicts) >= {"frames", "peaks", "images"}
    assert set(verdicts.values()) == {"equal"}
