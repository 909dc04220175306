"""Cuts of stored runs: exported, compared, and joined with signals of the raw run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import h5py
import numpy as np
import pandas as pd
import pytest
from bluesky_tiled_plugins import TiledWriter
from derived_publisher import AXIS, METADATA, Publisher, closed, cut_of
from event_model import compose_run
from fake_pipeline import N_PHI, N_Q

from gixi_bluesky.callbacks.documents.document_types import RunStart
from gixi_bluesky.callbacks.runs.actions import RawRun
from gixi_bluesky.tiled_adapters import queries
from gixi_bluesky.tiled_adapters.client.export import write_csv, write_cuts, write_nexus
from gixi_bluesky.tiled_adapters.client.readable_runs import FileRun, TiledRun, derived_run
from gixi_bluesky.tiled_adapters.server.embedded import EmbeddedServer
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings
from gixi_bluesky.tiled_adapters.store.writer import DerivedRunStore

SAMPLES = {"warm": (1.0, 3.0), "cold": (5.0, 7.0)}


@pytest.fixture(scope="module")
def stored(tiled_server: EmbeddedServer) -> dict[str, str]:
    """Return the uids of two derived runs of two frames each, by sample, with their raw runs."""
    patch = pytest.MonkeyPatch()
    uids = {}
    for sample, values in SAMPLES.items():
        raw_uid = _raw_run(tiled_server.catalog("raw"))
        start = RunStart(raw_uid, 100.0, 5, {**METADATA, "uid": raw_uid, "sample_name": sample})
        patch.setattr("derived_publisher.RAW", RawRun(start, "primary", "img"))
        catalogue = tiled_server.catalog("gixi")
        store = DerivedRunStore(catalogue, OutputSettings(), TiledSettings(), session_s=5)
        output = {"directory": str(tiled_server.directory / "results"), "q_images": "all"}
        publisher = Publisher(tiled_server.directory, store, output=output)
        # Smaller than a configuration may say.
        publisher.run.documents.start["gixi"]["grid"]["shape"] = [N_PHI, N_Q]
        for number, value in enumerate(values):
            publisher.add(number, value, cuts={"film": cut_of(value)})
        publisher.run.end(closed(2))
        publisher.finish()
        uids[sample] = publisher.run.documents.uid
    patch.undo()
    return uids


def _raw_run(catalogue: Any) -> str:
    """Store a raw run of two events at 100 s and 101 s, with a monitor and a baseline."""
    writer = TiledWriter(catalogue)
    bundle = compose_run(uid=str(uuid4()), time=99.0)
    writer("start", bundle.start_doc)
    number = {"source": "x", "dtype": "number", "shape": [], "dtype_numpy": "<f8"}
    word = {**number, "dtype": "string", "dtype_numpy": "<U8"}
    streams = {
        "baseline": ({"humidity": number}, [(98.0, [20.0]), (104.0, [80.0])]),
        "primary": ({"angle": number}, [(100.0, [0.1]), (101.0, [0.2])]),
        "monitor": (
            {"heat": number, "valve": word},
            [(99.0, [10.0, "shut"]), (100.5, [40.0, "open"])],
        ),
    }
    for stream, (keys, events) in streams.items():
        described = bundle.compose_descriptor(name=stream, data_keys=keys, time=99.0)
        writer("descriptor", described.descriptor_doc)
        for at, values in events:
            data = dict(zip(keys, values, strict=True))
            event = described.compose_event(data=data, timestamps=dict.fromkeys(data, at), time=at)
            writer("event", event)
    writer("stop", bundle.compose_stop(time=time.time()))
    return str(bundle.start_doc["uid"])


@pytest.fixture(params=["server", "files"])
def run(
    request: pytest.FixtureRequest, stored: dict[str, str], tiled_server: EmbeddedServer
) -> Any:
    if request.param == "files":
        return FileRun(tiled_server.directory / "results", stored["warm"])
    return TiledRun(derived_run(tiled_server.catalog("gixi"), stored["warm"]))


def test_exported_cuts_are_three_columns_of_each_frame(run: Any, tmp_path: Path) -> None:
    first, second = write_cuts(run, tmp_path)
    assert [first.name, second.name] == ["frame_000000.xy", "frame_000001.xy"]
    axis, intensity, sigma = np.loadtxt(second, unpack=True)
    np.testing.assert_allclose(axis, AXIS[1:], rtol=1e-6)  # nothing is seen in the first bin
    assert set(intensity) == {3.0}
    assert set(sigma) == {0.5}


def test_an_exported_file_holds_cuts_q_images_and_all_tables(run: Any, tmp_path: Path) -> None:
    names = {path.name.split("_", 1)[1] for path in write_csv(run, tmp_path)}
    assert names == {"frames.csv", "peaks.csv", "matches.csv", "match_peaks.csv"}
    with h5py.File(write_nexus(run, tmp_path / "whole.nxs")) as file:
        assert file["/entry/cuts/film/intensity"][:, 1].tolist() == [1.0, 3.0]
        assert file["/entry/q_image/intensity"][:, 0, 0].tolist() == [1.0, 3.0]
        assert file["/entry/polar/intensity"][:, 0, 0].tolist() == [1.0, 3.0]
        assert "azint1d_film" in file["/entry"]


def test_two_samples_stand_side_by_side(
    stored: dict[str, str], tiled_server: EmbeddedServer
) -> None:
    catalogue = tiled_server.catalog("gixi")
    runs = [catalogue[stored[sample]] for sample in SAMPLES]
    both = queries.compare(runs, "film")
    assert both["sample"].values.tolist() == list(SAMPLES)
    assert both["intensity"].isel(q=1).values.tolist() == [2.0, 6.0]
    assert both["error"].isel(q=1).values == pytest.approx([0.5 / np.sqrt(2)] * 2)
    last = queries.compare(runs, "film", frames=slice(1, 2))
    assert last["intensity"].isel(q=1).values.tolist() == [3.0, 7.0]
    with pytest.raises(KeyError, match="no cut 'other'"):
        queries.compare(runs, "other")
    with pytest.raises(ValueError, match="expected one or more cuts"):
        queries.compare([], "film")


def test_signals_of_the_raw_run_are_joined_to_frames_and_peaks(
    stored: dict[str, str], tiled_server: EmbeddedServer
) -> None:
    run = tiled_server.catalog("gixi")[stored["warm"]]
    table = run.with_raw("angle", "heat", "humidity", "valve")
    assert table["raw_time"].tolist() == [100.0, 101.0]
    assert table["angle"].tolist() == [0.1, 0.2]  # of the same event
    assert table["heat"].tolist() == [30.0, 40.0]  # two thirds of the way; then it holds
    assert table["humidity"].tolist() == [40.0, 50.0]
    assert table["valve"].tolist() == ["shut", "open"]
    peaks = run.with_raw("heat", table="peaks")
    assert isinstance(peaks, pd.DataFrame)
    assert peaks["heat"].tolist() == [30.0, 40.0]
    assert "q" in peaks
    with pytest.raises(KeyError, match=r"has the scalar 'nothing'; there are .*heat"):
        run.with_raw("nothing")
