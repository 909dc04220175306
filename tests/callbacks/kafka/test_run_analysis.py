"""The analysis behind a consumer: waits instead of dropping, forgets, and does not grow."""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fakes import FAKE, FOLLOWED, MemoryStore, Stores, fake_config
from raw_runs import KEY, RawRun, feed, images, inline_run
from waiting import wait_until

from gixi_bluesky.callbacks.derived.keeping import Ended
from gixi_bluesky.callbacks.derived.stores import store_builder
from gixi_bluesky.callbacks.documents.parsing import parse
from gixi_bluesky.callbacks.kafka.marks import Marks, Place
from gixi_bluesky.callbacks.kafka.run_analysis import ConsumedRuns
from gixi_bluesky.errors import ClaimLostError, DocumentError, StoreError

pytestmark = pytest.mark.slow  # starts processes or networks in most tests


def ended(analysis: ConsumedRuns) -> list[Ended]:
    return wait_until(lambda: list(analysis.ended()))


@pytest.fixture
def stores() -> Stores:
    return Stores()


@pytest.fixture
def analysis(tmp_path: Path, stores: Stores) -> Iterator[ConsumedRuns]:
    config = fake_config(tmp_path, queue={"max_mib": 0.02})
    with ConsumedRuns(config, stores, factory=FAKE, raw=None) as one:
        yield one


def test_frames_are_analysed_before_the_stop(analysis: ConsumedRuns, stores: Stores) -> None:
    documents = inline_run(images(3))
    feed(analysis, documents[:4])
    wait_until(lambda: stores.made and len(stores.only.table("frames")) == 2)
    feed(analysis, documents[4:])
    assert ended(analysis) == [Ended(documents[0][1]["uid"], "stored")]
    assert stores.only.stop["gixi"]["completeness"] == "complete"


def test_a_full_queue_says_so_and_drops_nothing(
    analysis: ConsumedRuns, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    thaws = threading.Event()
    stores.options = {"thaws": thaws}
    big = np.ones((40, 64, 64), "<u2")
    assert analysis.roomy
    feed(analysis, inline_run(big))
    assert analysis.full
    thaws.set()
    (end,) = ended(analysis)
    assert end.how == "stored"
    assert not analysis.full
    assert analysis.roomy
    assert stores.only.table("frames")["status"].tolist() == ["ok"] * 40
    assert analysis.status()["frames_dropped"] == 0


def test_documents_that_break_their_schema_raise(analysis: ConsumedRuns) -> None:
    with pytest.raises(DocumentError, match="uid"):
        analysis("start", {"time": 1.0})


def test_a_released_run_begins_anew_with_its_documents(
    analysis: ConsumedRuns, stores: Stores
) -> None:
    """Also when it had stopped: its partition was lost before it was stored, and came back."""
    documents = inline_run(images(3))
    uid = documents[0][1]["uid"]
    thaws = threading.Event()
    stores.options = {"thaws": thaws}
    feed(analysis, documents)
    analysis.release([uid], 120.0, flush=False, meanwhile=thaws.set)
    assert not analysis.has(uid)
    assert stores.only.closed
    assert not [name for name, _ in stores.only.documents if name == "stop"]
    stores.options = {}
    feed(analysis, documents)
    assert ended(analysis) == [Ended(uid, "stored")]
    assert stores.made[1].table("frames")["frame"].tolist() == [0, 1, 2]


def test_a_release_stores_what_is_analysed(analysis: ConsumedRuns, stores: Stores) -> None:
    documents = inline_run(images(3))
    feed(analysis, documents[:-1])
    wait_until(lambda: analysis.status()["frames_done"] == 3)
    analysis.release([documents[0][1]["uid"]], 120.0)
    assert stores.only.table("frames")["frame"].tolist() == [0, 1, 2]
    assert stores.only.closed


class OnceTaken(Stores):
    """The first store finds another writer, the second one does not."""

    def __call__(self) -> MemoryStore:
        store = super().__call__()
        if len(self.made) == 1:
            store.failures.append(ClaimLostError("another process writes it"))
        return store


def test_a_run_that_somebody_still_writes_is_waited_for(tmp_path: Path) -> None:
    stores = OnceTaken()
    documents = inline_run(images(3))
    config = fake_config(tmp_path)
    with ConsumedRuns(config, stores, factory=FAKE, raw=None) as analysis:
        feed(analysis, documents)
        assert ended(analysis) == [Ended(documents[0][1]["uid"], "stored")]
    assert stores.made[1].table("frames")["frame"].tolist() == [0, 1, 2]


def test_a_run_lost_midway_says_so(analysis: ConsumedRuns, stores: Stores) -> None:
    documents = inline_run(images(3))
    feed(analysis, documents[:3])
    wait_until(lambda: stores.made and len(stores.only.table("frames")) == 1)
    stores.only.failures.append(ClaimLostError("another process writes it"))
    feed(analysis, documents[3:])
    (end,) = ended(analysis)
    assert (end.how, end.reason) == ("lost", "another process writes it")


@pytest.mark.slow
def test_only_a_fault_of_the_run_itself_ends_it(tmp_path: Path) -> None:
    class Failing(Stores):
        error: type[Exception] = StoreError

        def __call__(self) -> MemoryStore:
            store = super().__call__()
            store.failures += [self.error("no") for _ in range(2)]
            return store

    config = fake_config(tmp_path)
    for error, how in ((StoreError, "stored"), (LookupError, "failed")):
        stores = Failing()
        stores.error = error
        documents = inline_run(images(1))
        with ConsumedRuns(config, stores, factory=FAKE, raw=None) as analysis:
            feed(analysis, documents)
            (end,) = ended(analysis)
            assert end.how == how
            assert ("LookupError" in end.reason) == (how == "failed")


def test_a_silent_run_is_closed_as_abandoned(analysis: ConsumedRuns, stores: Stores) -> None:
    documents = inline_run(images(3))
    uid = documents[0][1]["uid"]
    feed(analysis, documents[:4])
    analysis.abandon(uid, 60)
    analysis.abandon("nobody", 60)
    assert ended(analysis) == [Ended(uid, "stored")]
    stop = stores.only.stop
    assert (stop["exit_status"], stop["gixi"]["completeness"]) == ("abort", "abandoned")
    assert stop["reason"].startswith("abandoned: nothing came for 60 s")
    feed(analysis, documents[4:])
    assert not analysis.has(uid)


class Echo:
    """Keeps what was reported; acknowledges when it is let."""

    def __init__(self) -> None:
        self.announced: list[tuple[str, Mapping[str, Any]]] = []
        self.pending = 0

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        self.announced.append((name, doc))

    def uids(self, stream: str) -> list[str]:
        (descriptor,) = {
            doc["uid"]
            for name, doc in self.announced
            if name == "descriptor" and doc["name"] == stream
        }
        pages = [doc for name, doc in self.announced if name == "event_page"]
        return [uid for page in pages if page["descriptor"] == descriptor for uid in page["uid"]]


def test_the_stop_is_stored_when_all_is_acknowledged(tmp_path: Path, stores: Stores) -> None:
    echo = Echo()
    echo.pending = 1
    documents = inline_run(images(3))
    config = fake_config(tmp_path)
    with ConsumedRuns(config, stores, factory=FAKE, raw=None, echo=lambda _: echo) as analysis:
        feed(analysis, documents)
        wait_until(lambda: echo.announced and echo.announced[-1][0] == "stop")
        assert "stop" not in [name for name, _ in stores.only.documents]
        echo.pending = 0
        (end,) = ended(analysis)
    assert end.how == "stored"
    assert [name for name, _ in echo.announced].count("stop") == 1
    assert len(echo.uids("frames")) == 3


@pytest.mark.slow
def test_a_backlog_of_short_runs_is_not_opened_at_once(tmp_path: Path, stores: Stores) -> None:
    """Each beats and writes, and a server that is slow already would see ever more of them."""
    echo = Echo()
    echo.pending = 1  # none can be stored
    runs = 0
    with ConsumedRuns(
        fake_config(tmp_path), store=stores, factory=FAKE, raw=None, echo=lambda _: echo
    ) as analysis:
        while not analysis.full:
            feed(analysis, inline_run(images(1)))
            runs += 1
            assert runs < 100
        assert not analysis.roomy
        echo.pending = 0
        wait_until(lambda: analysis.roomy)
        assert not analysis.full
    assert runs > 8


class Resumed(MemoryStore):
    """Holds two frames that an earlier writer stored."""

    COMMITTED = frozenset({0, 2})
    earlier: MemoryStore

    def __init__(self) -> None:
        super().__init__(committed=self.COMMITTED)

    def read(self, stream: str) -> pd.DataFrame:
        rows = self.earlier.table(stream)
        return rows[rows["frame"].isin(list(self.COMMITTED))]


def test_rows_of_an_earlier_writer_are_reported_again_by_the_same_uids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have died between storing them and telling of them."""
    documents = inline_run(images(3))
    first, second = Echo(), Echo()
    stores = Stores()
    for echo, new_store in ((first, stores), (second, Resumed)):
        config = fake_config(tmp_path)
        with ConsumedRuns(
            config, new_store, factory=FAKE, raw=None, echo=lambda _, echo=echo: echo
        ) as analysis:
            feed(analysis, documents)
            ended(analysis)
        monkeypatch.setattr(Resumed, "earlier", stores.only, raising=False)
    for stream in ("frames", "peaks", "matches", "match_peaks"):
        assert len(first.uids(stream)) == 3
        assert sorted(second.uids(stream)) == sorted(first.uids(stream))


FRAMES, WARM, AHEAD = 1000, 300, 50


def held() -> int:
    """Return the bytes of Python's objects, a moment later."""
    time.sleep(0.1)
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


class StoredRows:
    """Counts the rows that are stored, by stream."""

    pending = 0

    def __init__(self) -> None:
        self._streams: dict[str, str] = {}
        self._rows: Counter[str] = Counter()

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        if name == "descriptor":
            self._streams[doc["uid"]] = doc["name"]
        elif name == "event_page":
            self._rows[self._streams[doc["descriptor"]]] += len(doc["seq_num"])

    def hold(self, frames: int) -> bool:
        """Return whether so many frames are stored, and the course of their one track but a few."""
        return self._rows["frames"] >= frames and self._rows["courses"] >= frames - AHEAD


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_long_run_does_not_grow_in_memory(tmp_path: Path) -> None:
    """An hour of a run in fast time: its frames, events, marks and the course of a track."""
    config = fake_config(tmp_path, output={"images": "every_10"}, queue={"max_mib": 1})
    run = RawRun((9, 12))
    marks = Marks()
    partition = marks.assign(Place("raw", 0), 0)
    image = np.ones((9, 12), "<u2")
    stores, rows = store_builder(config), StoredRows()
    with ConsumedRuns(config, stores, factory=FOLLOWED, raw=None, echo=lambda _: rows) as analysis:

        def take(name: str, doc: dict[str, Any]) -> None:
            documents = parse(name, doc)
            offset = partition.position
            partition.passed(offset, 3.6 * offset, 1e12)
            for document in documents:
                marks.saw(document, partition, offset)
            assert not list(marks.silent(3600))
            analysis.route(documents)
            analysis.tick()

        take(*run.start())
        take(*run.descriptor(external=""))
        tracemalloc.start()
        try:
            for number in range(1, FRAMES + 1):
                take(*run.event(number, **{KEY: image}))
                # A store that lags behind holds more for a time, which is not growth.
                wait_until(partial(rows.hold, number - AHEAD), 120)
                if number == WARM:
                    wait_until(partial(rows.hold, WARM), 120)
                    warm = min(held() for _ in range(10))
            wait_until(partial(rows.hold, FRAMES), 120)
            # 40 bytes a frame would be one number kept of each.
            wait_until(lambda: held() - warm < 40 * (FRAMES - WARM))
        finally:
            tracemalloc.stop()
        take(*run.stop(FRAMES))
        assert ended(analysis) == [Ended(run.uid, "stored")]
        marks.end(run.uid)
        assert marks.mark(partition) == FRAMES + 3


class Forgetting(MemoryStore):
    """Keeps nothing."""

    def __call__(self, name: str, doc: Any) -> None:
        super().__call__(name, doc)
        self.documents.clear()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_runs_do_not_grow_in_memory(tmp_path: Path) -> None:
    """Two hours of runs of half a minute: only the identity of each is kept."""
    marks = Marks()
    partition = marks.assign(Place("raw", 0), 0)
    config = fake_config(tmp_path, output={"images": "none", "arrays": "none"})
    at_once, rounds, warm_rounds = 10, 9, 4
    with ConsumedRuns(config, Forgetting, factory=FAKE, raw=None) as analysis:

        def take(name: str, doc: dict[str, Any]) -> None:
            for document in (documents := parse(name, doc)):
                offset = partition.position
                partition.passed(offset, 8.0 * offset, 1e12)
                marks.saw(document, partition, offset)
            analysis.route(documents)
            marks.await_only(analysis.awaited())

        tracemalloc.start()
        for number in range(rounds):
            for _ in range(at_once):
                for document in inline_run(images(2)):
                    take(*document)
            for _ in range(at_once):
                (one,) = wait_until(lambda: list(islice(analysis.ended(), 1)))
                marks.end(one.run_uid)
            if number == warm_rounds - 1:
                warm = min(held() for _ in range(10))
        # The uids of a run and of its descriptor, of the last 100,000 ones.
        wait_until(lambda: held() - warm < 2000 * at_once * (rounds - warm_rounds))
        tracemalloc.stop()
        assert marks.mark(partition) == partition.position
        assert analysis.status()["runs_closed"] == at_once * rounds
