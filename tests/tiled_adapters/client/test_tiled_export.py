"""Derived runs as files to take home, and the trial of the way there."""

from __future__ import annotations

import h5py
import httpx
import numpy as np
import pandas as pd
import pytest
from tiled_servers import IMAGE_SHAPE, PEAKS_PER_FRAME, RunWriting, image_of, start_document

from gixi_bluesky.errors import ConfigError, StoreError
from gixi_bluesky.tiled_adapters.client.export import write_csv, write_nexus
from gixi_bluesky.tiled_adapters.client.readable_runs import FileRun, TiledRun, derived_run
from gixi_bluesky.tiled_adapters.connection import connect, derived_catalogue
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings
from gixi_bluesky.tiled_adapters.store.probe import probe_store

FRAMES = range(4)


@pytest.fixture
def stored(catalogue, tiled_server):
    """A complete run of four frames, on the server and in its results directory."""
    results = tiled_server.directory / "results"
    writing = RunWriting(catalogue, results, start_document(raw_uid="raw-export"))
    writing.flush(FRAMES)
    writing.stop()
    return writing.uid, results


@pytest.fixture(params=["server", "files"])
def run(request, catalogue, stored):
    uid, results = stored
    if request.param == "files":
        return FileRun(results, uid)
    return TiledRun(derived_run(catalogue, uid))


def test_csv_files_hold_every_row(run, tmp_path):
    paths = write_csv(run, tmp_path / "csv")
    tables = {path.stem.split("_", 1)[1]: pd.read_csv(path) for path in paths}
    assert set(tables) == {"frames", "peaks", "matches", "match_peaks"}
    assert list(tables["frames"]["frame"]) == list(FRAMES)
    assert len(tables["peaks"]) == len(FRAMES) * PEAKS_PER_FRAME
    assert set(tables["matches"]["phase"]) == {"phase-0", "phase-1", "phase-2"}


def test_the_nexus_file_needs_no_other(run, tmp_path):
    path = write_nexus(run, tmp_path / "run.nxs")
    with h5py.File(path) as file:
        images = file["/entry/polar/intensity"]
        assert not images.is_virtual
        for frame in FRAMES:
            np.testing.assert_array_equal(images[frame], image_of(frame))
        assert file["/entry/polar/q"].shape == (IMAGE_SHAPE[1],)
        assert file["/entry/polar/phi"][-1] == 90
        assert len(file["/entry/peaks/q"]) == len(FRAMES) * PEAKS_PER_FRAME


def test_a_raw_uid_finds_its_newest_derived_run(catalogue, stored):
    assert derived_run(catalogue, "raw-export").raw_uid == "raw-export"


def test_what_is_not_there_is_a_store_error(catalogue, tmp_path):
    with pytest.raises(StoreError, match="no derived run nonsense"):
        derived_run(catalogue, "nonsense")
    with pytest.raises(StoreError, match="found neither"):
        FileRun(tmp_path, "nonsense")
    (tmp_path / "damaged.nxs").write_bytes(b"no HDF5")
    with pytest.raises(StoreError, match="no readable result file"):
        FileRun(tmp_path, "damaged")


def test_the_settings_lead_to_the_catalogue(tiled_server, tmp_path, monkeypatch):
    key = tmp_path / "key.txt"
    key.write_text(f"{tiled_server.api_key}\n")
    settings = TiledSettings(uri=tiled_server.uri, api_key_file=key)
    catalogue = derived_catalogue(settings)
    assert catalogue.path_parts == ["gixi"]
    catalogue.context.close()
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    root = connect(TiledSettings(uri=tiled_server.uri))
    assert "gixi" in root
    root.context.close()


@pytest.mark.parametrize(
    ("change", "kind", "reported"),
    [
        ({"uri": None}, ConfigError, "give tiled.uri"),
        ({"uri": "http://127.0.0.1:9"}, StoreError, "is it running"),
        ({"api_key_file": "/absent/key"}, ConfigError, "api_key_file"),
        ({"derived": "nowhere"}, ConfigError, "no catalogue 'nowhere'"),
    ],
)
def test_a_server_that_cannot_be_used_is_reported(
    tiled_server, monkeypatch, change, kind, reported
):
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    settings = TiledSettings.model_validate({"uri": tiled_server.uri, **change})
    with pytest.raises(kind, match=reported):
        derived_catalogue(settings)


def test_the_probe_leaves_nothing_behind(catalogue, tiled_server):
    before, results = set(catalogue), tiled_server.directory / "probed"
    probe_store(catalogue, OutputSettings(directory=results), TiledSettings())
    assert set(catalogue) == before
    assert list(results.iterdir()) == []


def test_the_probe_finds_a_folder_that_tiled_does_not_serve(catalogue, tmp_path):
    before = set(catalogue)
    with pytest.raises(StoreError, match="readable_storage"):
        probe_store(catalogue, OutputSettings(directory=tmp_path), TiledSettings())
    assert set(catalogue) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arrays", ["tiled", "none"])
def test_the_probe_tries_what_the_settings_ask_for(catalogue, tmp_path, arrays):
    """A folder that Tiled does not serve is no problem where no file goes there."""
    before = set(catalogue)
    probe_store(catalogue, OutputSettings(directory=tmp_path, arrays=arrays), TiledSettings())
    assert set(catalogue) == before
    assert list(tmp_path.iterdir()) == []


def test_the_probe_works_without_the_right_to_delete(tiled_server, monkeypatch):
    catalogue = tiled_server.catalog("gixi")
    before, results = set(catalogue), tiled_server.directory / "probed"

    def refuse(url, **_):
        return httpx.Response(403, request=httpx.Request("DELETE", url), json={"detail": "no"})

    with monkeypatch.context() as fewer:
        fewer.setattr(catalogue.context.http_client, "delete", refuse)
        probe_store(catalogue, OutputSettings(directory=results), TiledSettings())
    (left,) = set(catalogue) - before
    assert catalogue[left].metadata["start"]["purpose"] == "gixi_check"
    catalogue.delete_contents([left], recursive=True, external_only=False)
