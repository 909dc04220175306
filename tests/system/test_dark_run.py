"""The dark of another run: fetched from Tiled once, kept on this machine, its content decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bluesky_tiled_plugins import TiledWriter
from fakes import FAKE, Stores, fake_config
from raw_runs import (
    HDF5,
    KEY,
    Documents,
    RawRun,
    feed,
    hdf5_run,
    images,
    inline_run,
    write_hdf5,
)
from raw_runs import SHAPE as FRAME

from gixi_bluesky.callbacks import Analysis, with_fetched_dark
from gixi_bluesky.config import Config, parse_config
from gixi_bluesky.errors import ConfigError, GeometryError, StoreError
from gixi_bluesky.processing import Pipeline
from gixi_bluesky.tiled_adapters.server.embedded import embedded_server

pytestmark = pytest.mark.system

SHAPE = (61, 81)


def config(folder: Path, uri: str | None, **dark: Any) -> Config:
    return parse_config(
        {
            "geometry": {
                "energy_kev": 12.4,
                "distance_mm": 200.0,
                "pixel_size_mm": [2.0, 2.0],
                "beam_center_px": [5.0, 40.0],
                "incidence_angle_deg": 0.5,
            },
            "grid": {"q_max_inv_angstrom": 2.0, "shape": [32, 64]},
            "detector": {"weights": "classical"},
            "corrections": {"dark": dark, "solid_angle": False, "polarization": None},
            "output": {"directory": "results", "flush_s": 0.05},
            "tiled": {"uri": uri},
        },
        folder=folder,
    )


def darks(level: int, n: int = 3) -> np.ndarray:
    return np.full((n, *SHAPE), level, "<u2")


def test_darks_of_runs_in_files_and_in_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = np.full(SHAPE, 100, np.uint16)
    with embedded_server(tmp_path / "tiled") as server:
        monkeypatch.setenv("TILED_API_KEY", server.api_key)
        stored: dict[str, Documents] = {
            "files": hdf5_run(server.directory / "raw.h5", darks(30)),
            "events": inline_run(darks(30)),
            "other": inline_run(darks(31)),
            "going on": inline_run(darks(30))[:-1],
        }
        # Tiled wants to know the type of images in files.
        stored["files"][1][1]["data_keys"][KEY]["dtype_numpy"] = "<u2"
        for documents in stored.values():
            feed(TiledWriter(server.catalog("raw")), documents)
        uids = {name: documents[0][1]["uid"] for name, documents in stored.items()}

        hashes = {}
        for name in ("files", "events", "other"):
            found = with_fetched_dark(config(tmp_path, server.uri, run=uids[name]))
            assert found.corrections.dark_file.is_relative_to(tmp_path / "results")
            pipeline = Pipeline(found)
            level = 31 if name == "other" else 30
            image = pipeline(frame).polar_image
            np.testing.assert_allclose(image[np.isfinite(image)], 100 - level, rtol=1e-5)
            hashes[name] = pipeline.provenance.result_hash
            assert pipeline.provenance.config["corrections"]["dark"]["run"] == uids[name]
        assert len(set(hashes.values())) == 3
        elsewhere = config(tmp_path / "elsewhere", server.uri, run=uids["files"])
        again = Pipeline(with_fetched_dark(elsewhere)).provenance
        assert again.result_hash == hashes["files"]

        with pytest.raises(StoreError, match="has not ended"):
            with_fetched_dark(config(tmp_path, server.uri, run=uids["going on"]))
        with pytest.raises(StoreError, match="is not in 'raw'"):
            with_fetched_dark(config(tmp_path, server.uri, run="absent"))
        with pytest.raises(StoreError, match="or lacks 'camera'"):
            with_fetched_dark(config(tmp_path, server.uri, run=uids["files"], data_key="camera"))

    # The server is away: the copy does.
    stores = Stores()
    settings = config(tmp_path, "http://127.0.0.1:9", run=uids["files"])
    with Analysis(settings, store=stores, raw=lambda: None) as analysis:
        run = RawRun(SHAPE)
        feed(analysis, [run.start(), run.descriptor(external=""), run.event(1, **{KEY: frame})])
        feed(analysis, [run.stop(1)])
        assert analysis.drain(120)
    assert stores.only.table("frames")["status"].tolist() == ["ok"]
    assert stores.only.start["gixi"]["provenance"]["correction_sha256"]["dark"]


def test_without_a_server_or_before_it_was_fetched_nothing_is_guessed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"give tiled\.uri"):
        with_fetched_dark(config(tmp_path, None, run="x"))
    with pytest.raises(GeometryError, match="is not on this machine"):
        Pipeline(config(tmp_path, None, run="x"))(np.ones(SHAPE))


def interleaved(folder: Path) -> Documents:
    """Darks and frames in files, taken in turn; sums of two frames each."""
    run, dark = RawRun(), RawRun()
    dark.uid = run.uid
    write_hdf5(folder / "dark.h5", np.stack([np.full(FRAME, 2 * i, "<u2") for i in range(3)]))
    write_hdf5(folder / "frames.h5", images(4) + np.uint16(60))
    heads = [run.descriptor(), dark.descriptor("dark")]
    for _, descriptor in heads:
        descriptor["data_keys"] = {KEY: descriptor["data_keys"][KEY] | {"dtype_numpy": "<u2"}}
    documents = [run.start(), *heads]
    documents += [
        run.stream_resource(folder / "frames.h5", HDF5, "frames"),
        dark.stream_resource(folder / "dark.h5", HDF5, "darks"),
    ]
    for i in range(3):
        documents.append(dark.stream_datum(i, i + 1, "darks"))
        documents.append(dark.event(i + 1, time=110.0 + 2 * i))
        documents.append(run.stream_datum(i, i + 1, "frames"))
        documents.append(run.event(i + 1, time=111.0 + 2 * i))
    documents.append(run.stream_datum(3, 4, "frames"))
    documents.append(run.event(4, time=130.0))
    return [*documents, run.stop(4)]


def test_what_tiled_replays_gives_the_same_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = Stores()
    corrections = {"dark": {"stream": "dark", "events": 2}, "sum_frames": 2}
    with embedded_server(tmp_path / "tiled") as server:
        monkeypatch.setenv("TILED_API_KEY", server.api_key)
        live = interleaved(server.directory)
        feed(TiledWriter(server.catalog("raw")), live)
        replayed = list(server.catalog("raw")[live[0][1]["uid"]].documents())
        assert [name for name, _ in replayed] != [name for name, _ in live]
        config = fake_config(tmp_path, corrections=corrections)
        with Analysis(config, store=stores, factory=FAKE) as analysis:
            for documents in (live, replayed):
                feed(analysis, documents)
                assert analysis.drain(120)
                # A stopped run is not analysed twice by one analysis.
                analysis._core._router._ignored.clear()
    first, again = stores.made
    assert first.start["uid"] == again.start["uid"]
    for stream in ("frames", "peaks"):
        one, other = (
            store.table(stream).drop(columns="latency", errors="ignore") for store in stores.made
        )
        pd.testing.assert_frame_equal(one, other)
    # Sums of two, less twice the mean of the first two darks, 0 and 2.
    np.testing.assert_allclose(
        100 * first.table("peaks")["q"], [61 + 62 - 2, 63 + 64 - 2], rtol=1e-6
    )
