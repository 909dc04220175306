"""The end of a run with a real server: one whole file that Tiled serves, and no part left."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from derived_publisher import Publisher, closed
from tiled.utils import path_from_uri

from gixi_bluesky.callbacks.runs.actions import RawRun
from gixi_bluesky.tiled_adapters.schema import IMAGE_KEY, IMAGES
from gixi_bluesky.tiled_adapters.server.embedded import EmbeddedServer
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings
from gixi_bluesky.tiled_adapters.store import writer
from gixi_bluesky.tiled_adapters.store.spooled_store import SpooledStore
from gixi_bluesky.tiled_adapters.store.writer import DerivedRunStore


@pytest.fixture(autouse=True)
def raw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a raw run of its own."""
    import derived_publisher

    given = derived_publisher.RAW
    monkeypatch.setattr(
        derived_publisher, "RAW", RawRun(given.start, given.stream, f"img-{uuid4().hex[:6]}")
    )


@pytest.fixture
def results(tiled_server: EmbeddedServer) -> Path:
    return tiled_server.directory / "results"


def publisher(catalogue: Any, results: Path) -> Publisher:
    def new_store() -> DerivedRunStore:
        return DerivedRunStore(catalogue, OutputSettings(), TiledSettings(), session_s=5)

    store = SpooledStore(new_store, results)
    return Publisher(results.parent, store, output={"directory": str(results)})


def image_files(catalogue: Any, uid: str) -> list[str]:
    node = catalogue.include_data_sources()[uid][IMAGES].base[IMAGE_KEY]
    return [path_from_uri(a.data_uri).name for s in node.data_sources() for a in s.assets]


def test_tiled_serves_the_whole_file_before_the_parts_are_removed(
    catalogue: Any, results: Path
) -> None:
    one = publisher(catalogue, results)
    for number in range(3):
        one.add(number, 1.0 + number)
    one.run.step()
    uid = one.run.documents.uid
    one.run.end(closed(3))
    one.finish()
    assert catalogue[uid].metadata["stop"]
    assert image_files(catalogue, uid) == [f"{uid}.nxs"]
    assert not (results / uid).exists()
    images = np.asarray(catalogue[uid][IMAGES].base[IMAGE_KEY])
    assert images[:, 0, 0].tolist() == [1.0, 2.0, 3.0]


def test_parts_stay_where_the_server_does_not_serve_the_file(
    catalogue: Any, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "serves_images", lambda *_: False)
    one = publisher(catalogue, results)
    one.add(0, 1.0)
    one.run.end(closed(1))
    one.finish()
    uid = one.run.documents.uid
    assert [path.name for path in (results / uid).glob("part-*")] == ["part-0001.h5"]


def test_a_run_that_ended_before_its_file_is_finished_by_the_next_session(
    catalogue: Any, results: Path
) -> None:
    first = publisher(catalogue, results)
    first.add(0, 1.0)
    first.run.step()
    first.run.close()  # as if killed after the last flush
    second = publisher(catalogue, results)
    second.run.step()
    second.run.end(closed(0))
    second.finish()
    uid = second.run.documents.uid
    assert image_files(catalogue, uid) == [f"{uid}.nxs"]
    assert not (results / uid).exists()
