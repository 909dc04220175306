"""A run joined midway is whole: what came before is fetched, and nothing is done twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import FAKE, Stores, fake_config
from manual_clock import ManualClock
from raw_runs import KEY, Documents, RawRun, feed, hdf5_run, images, inline_run
from waiting import wait_until

from gixi_bluesky.callbacks import core
from gixi_bluesky.callbacks.analysis import Analysis
from gixi_bluesky.callbacks.runs.joining import Joining

pytestmark = pytest.mark.slow  # starts processes or networks in most tests


class Catalogue:
    """Stands in for a Tiled client of raw runs, newest last."""

    def __init__(self) -> None:
        self.runs: dict[str, Documents] = {}
        self.asked = 0

    def __contains__(self, uid: str) -> bool:
        self.asked += 1
        return uid in self.runs

    def __getitem__(self, uid: str) -> Any:
        documents = self.runs[uid]
        return SimpleNamespace(
            documents=lambda: iter(documents), metadata={"start": documents[0][1]}
        )

    def values(self) -> Any:
        return SimpleNamespace(tail=lambda n: [self[uid] for uid in list(self.runs)[-n:]])


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue()


@pytest.fixture
def joined(
    tmp_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Analysis, Stores]]:
    monkeypatch.setattr(core, "_MISSED_S", 0.1)
    stores = Stores()
    with Analysis(
        fake_config(tmp_path), store=stores, factory=FAKE, raw=lambda: catalogue
    ) as analysis:
        yield analysis, stores


def wait_for_rows(stores: Stores, n: int) -> list[int]:
    wait_until(lambda: stores.made and len(stores.made[0].table("frames")) >= n)
    return sorted(stores.only.table("frames")["frame"])


def test_events_whose_descriptor_came_before_us(
    joined: tuple[Analysis, Stores], catalogue: Catalogue
) -> None:
    analysis, stores = joined
    documents = inline_run(images(5))
    catalogue.runs["another"] = inline_run(images(1))
    catalogue.runs[documents[0][1]["uid"]] = documents[:4]  # what Tiled has by then
    feed(analysis, documents[3:6])
    assert wait_for_rows(stores, 4) == [0, 1, 2, 3]
    feed(analysis, documents[6:])
    assert analysis.drain(120)
    assert sorted(stores.only.table("frames")["frame"]) == [0, 1, 2, 3, 4]


def test_a_run_that_stops_before_its_beginning_is_found(
    joined: tuple[Analysis, Stores], catalogue: Catalogue
) -> None:
    analysis, stores = joined
    documents = inline_run(images(5))
    feed(analysis, documents[4:])
    wait_until(lambda: not analysis.status()["documents_queued"])
    catalogue.runs[documents[0][1]["uid"]] = documents[:4]
    assert wait_for_rows(stores, 5) == [0, 1, 2, 3, 4]
    assert analysis.drain(120)
    assert stores.only.stop["gixi"]["completeness"] == "complete"


def test_a_file_that_tiled_calls_otherwise(
    joined: tuple[Analysis, Stores], catalogue: Catalogue, tmp_path: Path
) -> None:
    """Tiled gives stream resources uids of its own; what goes on names the beamline's."""
    analysis, stores = joined
    documents = hdf5_run(tmp_path / "raw.h5", images(6))
    reported = [(name, dict(doc)) for name, doc in documents[:7]]
    for name, doc in reported:
        if name == "stream_resource":
            doc["uid"] = "another"
        if name == "stream_datum":
            doc["stream_resource"] = "another"
    catalogue.runs[documents[0][1]["uid"]] = reported
    feed(analysis, documents[7:9])
    assert wait_for_rows(stores, 3) == [0, 1, 2]
    feed(analysis, documents[9:])
    assert analysis.drain(120)
    assert stores.only.table("frames").sort_values("frame")["status"].tolist() == ["ok"] * 6
    assert stores.only.stop["gixi"]["completeness"] == "complete"


def test_a_second_file_is_not_taken_for_the_first(
    joined: tuple[Analysis, Stores], catalogue: Catalogue, tmp_path: Path
) -> None:
    analysis, stores = joined
    documents = hdf5_run(tmp_path / "raw.h5", images(3))
    (uid, datum), stop = (documents[0][1]["uid"], dict(documents[-3][1])), documents[-1]
    datum |= {"stream_resource": "second", "indices": {"start": 0, "stop": 1}}
    catalogue.runs[uid] = documents[:5]
    feed(analysis, [documents[5], ("stream_datum", datum), *documents[6:7]])
    wait_for_rows(stores, 1)
    feed(analysis, [stop])
    assert analysis.drain(120)
    assert 2 not in stores.only.table("frames")["frame"].tolist()
    assert stores.only.stop["gixi"]["missing_frames"] == [2]


def test_a_descriptor_whose_start_came_before_us(
    joined: tuple[Analysis, Stores], catalogue: Catalogue
) -> None:
    analysis, stores = joined
    run = RawRun(sample_name="film")
    catalogue.runs[run.uid] = [run.start()]
    feed(analysis, [run.descriptor(external=""), run.event(1, **{KEY: images(1)[0]})])
    assert wait_for_rows(stores, 1) == [0]
    assert stores.only.start["sample_name"] == "film"


def test_what_nothing_has_is_looked_for_ever_more_rarely_and_not_for_ever() -> None:
    time, catalogue = ManualClock(), Catalogue()
    joining = Joining(lambda: catalogue, time.clock)
    try:
        asked_at: list[int] = []
        for second in range(400):
            before = joining.attempts("unknown")
            joining.want(["unknown"])
            if joining.attempts("unknown") > before:
                asked_at.append(second)
            time.advance(1.0)
        assert asked_at == [0, 5, 15, 35, 75, 155]
        assert joining.gave_up("unknown")
        assert not joining.gave_up("another")
    finally:
        joining.close()


def test_a_run_from_its_beginning_needs_no_catalogue(
    joined: tuple[Analysis, Stores], catalogue: Catalogue
) -> None:
    analysis, stores = joined
    feed(analysis, inline_run(images(2)))
    assert analysis.drain(120)
    assert sorted(stores.only.table("frames")["frame"]) == [0, 1]
    assert catalogue.asked == 0
