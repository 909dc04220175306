"""Cuts on a real server: readable while a run grows, after its end, uploaded, and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from derived_publisher import AXIS, Publisher, closed, cut_of, frame
from tiled.utils import path_from_uri

from gixi_bluesky.callbacks.runs.actions import RawRun
from gixi_bluesky.callbacks.worker.jobs import Outcome
from gixi_bluesky.errors import StoreError
from gixi_bluesky.tiled_adapters.server.embedded import EmbeddedServer
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings
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


def publisher(catalogue: Any, results: Path, *, spooled: bool = False, **output: Any) -> Publisher:
    def new_store() -> DerivedRunStore:
        return DerivedRunStore(catalogue, OutputSettings(), TiledSettings(), session_s=5)

    store = SpooledStore(new_store, results) if spooled else new_store()
    return Publisher(results.parent, store, output={"directory": str(results), **output})


def film(value: float) -> dict[str, Any]:
    return {"film": cut_of(value)}


def test_a_cut_is_served_while_the_run_grows_and_after_its_end(
    catalogue: Any, results: Path
) -> None:
    one = publisher(catalogue, results, images="none")
    one.add(0, cuts=film(1.0))
    one.run.add(frame(1), Outcome("failed", "bad"))
    one.add(2, cuts=film(3.0))
    one.run.step()
    run = catalogue[one.run.documents.uid]
    assert not run.complete
    assert run.cuts == ["film"]
    cut = run.cut("film")
    assert cut.intensity[:, 1].tolist() == pytest.approx([1.0, np.nan, 3.0], nan_ok=True)
    np.testing.assert_allclose(cut.axis, AXIS, rtol=1e-8)
    assert (cut.along, cut.unit) == ("q", "1/angstrom")
    assert cut.frames.tolist() == [0, 1, 2]
    assert cut.times.tolist() == [100.0, 101.0, 102.0]

    one.run.end(closed(3))
    one.finish()
    uid = one.run.documents.uid
    run = catalogue.include_data_sources()[uid]
    for key in ("film", "film_error"):
        assets = [a for s in run["cuts"].base[key].data_sources() for a in s.assets]
        assert [path_from_uri(asset.data_uri).name for asset in assets] == [f"{uid}.nxs"]
    assert not (results / uid).exists()
    dataset = run.cut("film").to_xarray()
    assert dataset["intensity"].sel(frame=2).isel(q=1) == 3.0
    assert dataset["time"].values.tolist() == [100.0, 101.0, 102.0]
    assert dataset["error"].isel(frame=0, q=3) == 0.5
    # As any Bluesky client reads it, without our class.
    assert run["cuts"]["film"].read().shape == (3, len(AXIS))
    with pytest.raises(KeyError, match="no cut 'other'; it has film"):
        run.cut("other")


def test_a_resumed_run_serves_the_cuts_of_both_sessions(catalogue: Any, results: Path) -> None:
    first = publisher(catalogue, results, spooled=True)
    first.add(0, cuts=film(1.0))
    first.run.step()
    first.run.close()
    second = publisher(catalogue, results, spooled=True)
    second.run.step()
    second.add(1, cuts=film(2.0))
    second.run.step()
    second.run.end(closed(1))
    second.finish()
    cut = catalogue[second.run.documents.uid].cut("film")
    assert cut.intensity[:, 1].tolist() == [1.0, 2.0]


def test_uploaded_cuts_are_read_in_the_same_way(catalogue: Any, results: Path) -> None:
    one = publisher(catalogue, results, spooled=True, arrays="tiled")
    one.add(0, cuts=film(1.0))
    one.run.step()
    one.run.add(frame(1), Outcome("failed", "bad"))
    one.add(2, cuts=film(3.0))
    one.run.step()
    one.run.end(closed(3))
    one.finish()
    cut = catalogue[one.run.documents.uid].cut("film")
    assert cut.intensity[:, 1].tolist() == pytest.approx([1.0, np.nan, 3.0], nan_ok=True)
    assert cut.error[2].tolist() == [0.5] * len(AXIS)


@pytest.mark.parametrize("arrays", ["external", "tiled"])
def test_q_images_are_served_with_their_axes(catalogue: Any, results: Path, arrays: str) -> None:
    one = publisher(catalogue, results, q_images="all", arrays=arrays)
    one.add(0, 4.0)
    one.run.step()
    image = catalogue[one.run.documents.uid].q_image(0)
    assert image.dims == ("q_z", "q_xy")
    assert float(image.sel(q_xy=-1.0, q_z=0.0)) == 4.0
    assert image.attrs["units"] == "counts"
    one.run.end(closed(1))
    one.finish()
    run = catalogue[one.run.documents.uid]
    np.testing.assert_array_equal(run.q_image(0), image)
    assert run.polar_image(0)[0, 0] == 4.0
    with pytest.raises(StoreError, match="no image of frame 5"):
        run.q_image(5)


def test_a_cut_is_drawn_as_a_curve_or_a_map(catalogue: Any, results: Path) -> None:
    one = publisher(catalogue, results, images="none")
    one.add(0, cuts=film(1.0))
    one.run.step()
    run = catalogue[one.run.documents.uid]
    axes = run.cut("film").plot()
    assert axes.get_xlabel() == "|q| (1/angstrom)"
    assert axes.get_ylabel() == "counts per pixel"
    one.add(1, cuts=film(2.0))
    one.run.end(closed(2))
    one.finish()
    assert run.cut("film").plot().get_ylabel() == "frame"
