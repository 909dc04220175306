"""The whole callback beside a real RunEngine, with a pipeline that needs no torch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.plans import count
from fake_pipeline import REFUSED
from fakes import FAKE, MemoryStore, Stores, fake_config
from manual_clock import ManualClock
from ophyd.sim import SynSignalWithRegistry, hw
from raw_runs import HDF5, RawRun, feed, hdf5_run, images, inline_run, write_hdf5
from waiting import wait_until

from gixi_bluesky.callbacks.analysis import Analysis
from gixi_bluesky.callbacks.derived.keeping import RunKeeper
from gixi_bluesky.callbacks.derived.publishing import RunPublisher
from gixi_bluesky.callbacks.documents.document_types import RunStart
from gixi_bluesky.errors import (
    ClaimLostError,
    ConfigError,
    RunCompleteError,
    StoreError,
    WeightsError,
)
from gixi_bluesky.processes.retries import Backoff

pytestmark = pytest.mark.slow  # starts processes or networks in most tests

Start = Callable[..., Analysis]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start an analysis with a fake pipeline and stores in memory; closed after the test."""
    started: list[Analysis] = []

    def begin(store: Any, **sections: Any) -> Analysis:
        started.append(Analysis(fake_config(tmp_path, **sections), store=store, factory=FAKE))
        return started[-1]

    yield begin
    for analysis in started:
        analysis.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Analysis, list[Stores]]]:
    """One analysis for the tests that need nothing special, and where its stores come from."""
    config = fake_config(tmp_path_factory.mktemp("running"), grid={"shape": (64, 64)})
    stores = [Stores()]
    with Analysis(config, store=lambda: stores[-1](), factory=FAKE) as analysis:
        yield analysis, stores


@pytest.fixture
def analysis(running: tuple[Analysis, list[Stores]]) -> Analysis:
    return running[0]


@pytest.fixture
def stores(running: tuple[Analysis, list[Stores]]) -> Stores:
    running[1].append(Stores())
    return running[1][-1]


def found_q(store: MemoryStore) -> list[float]:
    peaks = store.table("peaks").sort_values("frame")
    return (100 * peaks["q"]).round(6).tolist()


def test_images_inside_events_of_a_real_run(start: Start, engine: RunEngine) -> None:
    stores = Stores()
    analysis = start(stores)
    engine.subscribe(analysis)
    engine(count([hw().direct_img], num=5), sample_name="film")
    assert analysis.drain(120)
    assert found_q(stores.only) == [1.0] * 5
    assert stores.only.start["sample_name"] == "film"
    raw = stores.only.start["gixi"]["raw_uid"]
    sources = stores.only.table("frames").sort_values("frame")["source"].tolist()
    assert sources == [f"{raw} event {number}" for number in range(1, 6)]
    status = analysis.status()
    assert (status["frames_received"], status["frames_done"], status["runs_closed"]) == (5, 5, 1)
    assert status["worker_alive"]
    assert status["last_error"] == ""
    assert not list(engine_errors(status))


def engine_errors(status: dict[str, Any]) -> Iterator[str]:
    yield from (
        key for key in ("frames_dropped", "frames_failed", "documents_refused") if status[key]
    )


def test_classic_files_of_a_real_run(
    analysis: Analysis, stores: Stores, engine: RunEngine, tmp_path: Path
) -> None:
    engine.subscribe(analysis)
    shots = iter(images(4))
    detector = SynSignalWithRegistry(
        func=lambda: next(shots, images(1)[0]),
        name="img",
        labels={"detectors"},
        save_path=str(tmp_path),
    )
    engine(count([detector], num=3))
    assert analysis.drain(120)
    assert len(found_q(stores.only)) == 3
    assert stores.only.table("frames")["status"].tolist() == ["ok"] * 3


def test_stream_files_and_frames_that_fail(
    analysis: Analysis, stores: Stores, tmp_path: Path
) -> None:
    frames = images(4)
    frames[1] = REFUSED
    feed(analysis, hdf5_run(tmp_path / "a.h5", frames))
    run = RawRun()
    missing = run.stream_resource(tmp_path / "never.h5", HDF5)
    feed(analysis, [run.start(), run.descriptor(), missing, run.stream_datum(0, 2), run.stop(2)])
    assert analysis.drain(120)
    rows = [store.table("frames") for store in stores.made]
    assert rows[0]["status"].tolist() == ["ok", "failed", "ok", "ok"]
    assert rows[0]["reason"].tolist()[1] == "this frame is refused"
    assert rows[1]["status"].tolist() == ["unavailable"] * 2
    assert "never.h5 is not there" in rows[1]["reason"].tolist()[0]


def test_files_outside_the_roots_are_not_read(start: Start, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    stores = Stores()
    analysis = start(stores, input={"roots": ["root"]})
    feed(analysis, hdf5_run(tmp_path / "outside.h5", images(1)))
    assert analysis.drain(120)
    (reason,) = stores.only.table("frames")["reason"]
    assert "outside the roots" in reason


def test_nothing_reaches_or_delays_the_engine(
    start: Start, engine: RunEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scan ends while the pipeline takes half a second a frame and the store hangs."""
    monkeypatch.setenv("GIXI_FAKE_SECONDS", "0.5")
    thaws = threading.Event()
    analysis = start(Stores(thaws=thaws))
    engine.subscribe(analysis)
    engine(count([hw().direct_img], num=20))  # would not end if it waited for the store
    wait_until(lambda: not analysis.status()["documents_queued"])
    with pytest.raises(TimeoutError, match="1 run with"):
        analysis.drain(0.5)
    assert analysis.status()["frames_done"] < 20
    thaws.set()


def test_the_callback_never_raises(analysis: Analysis, stores: Stores) -> None:
    hostile: list[tuple[Any, Any]] = [
        ("start", {}),
        ("start", None),
        (None, {}),
        ("event", {"descriptor": [], "seq_num": "one"}),
        ("event_page", 3),
        ("stop", {"run_start": "nobody", "time": 0.0}),
        ("unheard of", {"uid": "x"}),
    ]
    for name, doc in hostile:
        analysis(name, doc)
    feed(analysis, inline_run(images(2)))
    assert analysis.drain(120)
    assert found_q(stores.only) == [1.0, 2.0]
    assert analysis.status()["documents_refused"] >= 4


def test_documents_that_come_twice_and_runs_that_never_stop(
    analysis: Analysis, stores: Stores
) -> None:
    documents = inline_run(images(3))
    feed(analysis, documents[:-1])
    feed(analysis, documents)
    feed(analysis, documents)
    feed(analysis, inline_run(images(2))[:-1])
    assert analysis.drain(120)
    assert stores.made[0].table("frames")["frame"].tolist() == [0, 1, 2]
    assert analysis.status()["runs_open"] == 1
    wait_until(lambda: len(stores.made[1].table("frames")) == 2)  # while the run goes on
    wait_until(lambda: stores.made[1].live)


def test_drain_waits_until_the_frames_of_a_stored_run_are_counted(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = Stores()
    analysis = start(lambda: refusing(stores()))
    ask = RunPublisher.wants

    def slowly(run: RunPublisher, frame: Any) -> bool | None:
        time.sleep(0.1)
        return ask(run, frame)

    monkeypatch.setattr(RunPublisher, "wants", slowly)
    feed(analysis, hdf5_run(tmp_path / "raw.h5", images(5)))
    assert analysis.drain(120)
    assert analysis.status()["frames_skipped"] == 5


def refusing(store: MemoryStore) -> MemoryStore:
    """A store that holds the whole run already."""
    store.failures = [RunCompleteError("it is stored")]
    return store


def test_frames_that_are_stored_already_are_not_analysed(start: Start, tmp_path: Path) -> None:
    stores = Stores(committed=frozenset({0, 1}))
    analysis = start(stores)
    frames = write_hdf5(tmp_path / "a.h5", images(3))
    run = RawRun()
    resource = run.stream_resource(frames, HDF5)
    feed(analysis, [run.start(), run.descriptor(), resource, run.stream_datum(0, 3), run.stop(3)])
    assert analysis.drain(120)
    assert stores.only.table("frames")["frame"].tolist() == [2]
    assert analysis.status()["frames_skipped"] == 2


def test_dropped_frames_keep_a_row(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIXI_FAKE_SECONDS", "0.1")
    stores = Stores()
    analysis = start(stores, queue={"max_mib": 0.05, "overflow": "drop_oldest"})
    feed(analysis, inline_run(np.ones((20, 100, 100), np.uint16)))
    assert analysis.drain(120)
    rows = stores.only.table("frames").sort_values("frame")
    assert rows["frame"].tolist() == list(range(20))
    assert set(rows["status"]) == {"ok", "dropped"}
    n_dropped = int((rows["status"] == "dropped").sum())
    assert stores.only.stop["gixi"]["n_dropped"] == n_dropped == analysis.status()["frames_dropped"]


def test_spilled_frames_are_analysed_in_the_end(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GIXI_FAKE_SECONDS", "0.05")
    stores = Stores()
    analysis = start(stores, queue={"max_mib": 0.1, "spill_directory": "spill"})
    frames = np.ones((12, 100, 100), np.uint16) * np.arange(12, dtype=np.uint16)[:, None, None]
    sent = 0
    for name, doc in inline_run(frames):
        analysis(name, doc)
        sent += name == "event"
        wait_until(lambda n=sent: keeps_up(analysis, n))
    assert analysis.drain(120)
    assert found_q(stores.only) == list(range(12))
    assert (tmp_path / "spill").is_dir()
    wait_until(lambda: not list((tmp_path / "spill").rglob("*.npy")))


def keeps_up(analysis: Analysis, sent: int) -> bool:
    """Return whether the disk has taken what the memory of the queue has no room for."""
    status = analysis.status()
    return bool(status["frames_received"] == sent and status["queue_bytes"] <= 0.1 * 2**20)


def test_a_wrong_set_up_raises_at_once(start: Start) -> None:
    with pytest.raises(WeightsError, match="weights fetch"):
        start(Stores(), detector={"weights": "missing"})
    with pytest.raises(ConfigError, match="nothing would be stored"):
        start(None, output={"arrays": "none"})
    with pytest.raises(ConfigError, match="api_key_file"):
        start(None, tiled={"uri": "http://127.0.0.1:1/api/v1", "api_key_file": "no.txt"})


def test_two_analyses_with_the_same_hash_are_an_error_until_one_closes(start: Start) -> None:
    first = start(Stores())
    with pytest.raises(ConfigError, match="subscribed in this process already"):
        start(Stores())
    first.close()
    start(Stores())


def test_a_run_that_another_writes_is_reported(start: Start) -> None:
    store = MemoryStore()
    store.failures = [ClaimLostError("another process writes it")]
    analysis = start(lambda: store)
    feed(analysis, inline_run(images(2)))
    with pytest.raises(StoreError, match="another process writes it"):
        analysis.drain(120)
    assert analysis.drain(120)  # reported once


class Refusing(MemoryStore):
    """A store that takes no rows, whatever is tried."""

    def __call__(self, name: str, doc: Any) -> None:
        if name == "event_page":
            message = "cannot encode a lone surrogate"
            raise ValueError(message)
        super().__call__(name, doc)


def test_a_run_that_can_never_be_stored_ends_with_the_reason(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backoff, "failed", _failed_at_once)
    store = Refusing()
    stores = iter([store, MemoryStore()])
    analysis = start(lambda: next(stores))
    feed(analysis, inline_run(images(2)))
    with pytest.raises(StoreError, match="cannot be stored: ValueError: cannot encode"):
        analysis.drain(120)
    assert store.stop["exit_status"] == "fail"
    assert "cannot encode a lone surrogate" in store.stop["reason"]
    feed(analysis, inline_run(images(2)))  # and the next run is stored
    assert analysis.drain(120)


def _failed_at_once(backoff: Backoff) -> float:
    backoff.failures += 1
    return 0.0


def test_the_start_document_may_hold_anything() -> None:
    assert RunStart("a", 0.0, None, {"purpose": 3}).purpose == "3"


class EndsPython:
    """An object in a document that ends the thread that looks at it."""

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise SystemExit(1)


def test_a_document_that_ends_its_thread_is_refused_and_the_next_run_is_stored(
    tmp_path: Path,
) -> None:
    stores = Stores()
    with Analysis(fake_config(tmp_path), store=stores, factory=FAKE) as analysis:
        documents = inline_run(images(3))
        events = [doc for name, doc in documents if name == "event"]
        key = next(key for key, value in events[0]["data"].items() if np.ndim(value) == 2)
        events[0]["data"][key] = EndsPython()
        feed(analysis, documents)
        feed(analysis, inline_run(images(3)))
        assert analysis.drain(120)
        assert set(analysis.status()["threads"].values()) == {"running"}
    assert stores.made[-1].table("frames")["status"].tolist() == ["ok"] * 3


def test_an_image_that_found_no_room_in_the_inbox_has_a_row_that_says_so(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    analysis = start(lambda: store, queue={"max_mib": 0.2})
    follows = threading.Event()
    route = analysis._route

    def later(*document: Any) -> None:
        follows.wait(180)
        route(*document)

    monkeypatch.setattr(analysis, "_route", later)
    feed(analysis, inline_run(np.ones((6, 128, 256), "<u2")))
    follows.set()
    analysis.drain(120)
    frames = store.table("frames")
    assert frames["frame"].tolist() == list(range(6))
    assert set(frames["status"]) == {"ok", "dropped"}
    assert all(frames["reason"][frames["status"] == "dropped"].str.contains("max_mib"))


def test_who_can_wait_loses_no_image(start: Start) -> None:
    store = MemoryStore()
    analysis = start(lambda: store, queue={"max_mib": 0.2})
    for name, doc in inline_run(np.ones((12, 128, 256), "<u2")):
        analysis.feed(name, doc)
    analysis.drain(120)
    assert set(store.table("frames")["status"]) == {"ok"}


def test_closing_waits_five_seconds_for_all_runs_of_a_dead_store(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    thaws = threading.Event()
    analysis = start(Stores(thaws=thaws))
    for _ in range(4):
        feed(analysis, inline_run(images(2))[:-1])
    wait_until(lambda: analysis.status()["runs_open"] == 4)
    time_passes = ManualClock()
    waits: list[float] = []

    def join(_: RunKeeper, timeout: float) -> None:
        waits.append(timeout)
        time_passes.advance(timeout)

    monkeypatch.setattr(analysis._core._runs, "_clock", time_passes.clock)
    monkeypatch.setattr(RunKeeper, "join", join)
    try:
        analysis.close()
    finally:
        thaws.set()
    assert 1 <= sum(waits) <= 5.1
