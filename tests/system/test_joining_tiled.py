"""A run joined midway, its beginning fetched from a real Tiled server."""

from __future__ import annotations

from pathlib import Path

import pytest
from bluesky_tiled_plugins import TiledWriter
from fakes import FAKE, Stores, fake_config
from raw_runs import feed, hdf5_run, images
from waiting import wait_until

from gixi_bluesky.callbacks.analysis import Analysis
from gixi_bluesky.tiled_adapters.server.embedded import embedded_server

pytestmark = pytest.mark.system


def test_the_beginning_of_a_run_comes_from_tiled(tmp_path: Path) -> None:
    with embedded_server(tmp_path / "tiled") as server:
        documents = hdf5_run(server.directory / "raw.h5", images(4))
        writer = TiledWriter(server.catalog("raw"), batch_size=1)
        feed(writer, documents[:2])  # start and descriptor
        stores = Stores()
        config = fake_config(tmp_path)
        with Analysis(
            config, store=stores, factory=FAKE, raw=lambda: server.catalog("raw")
        ) as analysis:
            feed(analysis, documents[2:7])  # resource and two frames
            wait_until(lambda: stores.made and len(stores.made[0].table("frames")) >= 2)
            feed(analysis, documents[7:])
            assert analysis.drain(120)
        assert sorted(stores.only.table("frames")["frame"]) == [0, 1, 2, 3]
        assert stores.only.stop["num_events"]["frames"] == 4
        feed(writer, documents[2:])
