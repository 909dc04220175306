"""Tiled away, slow or refusing: what is spooled arrives in order, each row once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fakes import fake_config
from spooled_pages import damage_page
from tiled.queries import Eq
from tiled_servers import PEAKS_PER_FRAME, columns, descriptor, page, start_document, stop_document
from waiting import wait_until

from gixi_bluesky.callbacks.derived.stores import store_builder
from gixi_bluesky.errors import ClaimLostError, RunCompleteError, StoreError
from gixi_bluesky.tiled_adapters.connection import container_beside
from gixi_bluesky.tiled_adapters.schema import STREAMS
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings
from gixi_bluesky.tiled_adapters.store import delivery, spooled_store
from gixi_bluesky.tiled_adapters.store.claims import CLAIMS
from gixi_bluesky.tiled_adapters.store.leftover_spools import send_leftovers
from gixi_bluesky.tiled_adapters.store.spool import SpoolFile
from gixi_bluesky.tiled_adapters.store.spool_folder import spool_files
from gixi_bluesky.tiled_adapters.store.spooled_store import SpooledStore
from gixi_bluesky.tiled_adapters.store.writer import DerivedRunStore, RunState


class Tiled:
    """A catalogue that can be away."""

    def __init__(self, catalogue: Any) -> None:
        self.catalogue = catalogue
        self.away = False
        self.loses = 0  # pages of peaks that it takes and forgets
        self.refuses: str | None = None  # the next page of this table, once
        self.pages: list[str] = []  # the table of each page that came
        self.answers = threading.Event()
        self.answers.set()
        self.asked = threading.Event()  # while it does not answer
        self.waited_out = False  # it would not have answered, and the caller waited for that

    def __call__(self) -> DerivedRunStore:
        self.require()
        tiled = self

        class Store(DerivedRunStore):
            def __call__(self, name: str, doc: Any) -> None:
                tiled.require()
                if name == "event_page":
                    tiled.take(doc["descriptor"].split("-")[-1])
                if name == "event_page" and "peak" in doc["data"] and tiled.loses:
                    tiled.loses -= 1
                    return
                super().__call__(name, doc)

        return Store(self.catalogue, OutputSettings(), TiledSettings(), session_s=2)

    def take(self, stream: str) -> None:
        if not self.answers.is_set():
            self.asked.set()
            self.waited_out |= not self.answers.wait(180)
        self.pages.append(stream)
        if self.refuses == stream:
            self.refuses = None
            message = "Tiled refuses"
            raise StoreError(message)

    def require(self) -> None:
        if self.away:
            message = "Tiled is away"
            raise StoreError(message)


class Session:
    """One writer session of a run, as the callback goes about it."""

    def __init__(
        self, tiled: Tiled, folder: Path, start: dict[str, Any], timeout_s: float = 120.0
    ) -> None:
        self.uid = start["uid"]
        self.store = SpooledStore(tiled, folder, timeout_s=timeout_s)
        self.state: RunState = self.store.open(start)
        self.rows = {**dict.fromkeys(STREAMS, 0), **self.state.rows}
        for stream in STREAMS:
            self.store("descriptor", descriptor(self.uid, stream))

    def table(self, stream: str, frames: Sequence[int]) -> None:
        data = columns(stream, frames)
        self.store("event_page", page(self.uid, stream, self.rows[stream] + 1, data))
        self.rows[stream] += len(data["frame"])

    def flush(self, *frames: int) -> None:
        for stream in STREAMS:
            self.table(stream, frames)

    def stop(self) -> None:
        deadline = time.monotonic() + 120
        while True:
            try:
                self.store("stop", stop_document(self.uid))
            except StoreError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            else:
                self.store.close()
                return


@pytest.fixture
def tiled(catalogue: Any) -> Tiled:
    return Tiled(catalogue)


@pytest.fixture
def start() -> dict[str, Any]:
    return start_document(str(uuid4()))


def assert_stored(tiled: Tiled, uid: str, frames: int, *, complete: bool = True) -> None:
    run = tiled.catalogue[uid]
    assert bool(run.metadata.get("stop")) is complete
    for stream in STREAMS:
        rows = run[stream].base["internal"].read()
        each = 1 if stream == "frames" else PEAKS_PER_FRAME
        assert rows["seq_num"].tolist() == list(range(1, frames * each + 1))
        for name, values in columns(stream, range(frames)).items():
            assert rows[name].tolist() == values


def test_a_run_begun_while_tiled_is_away_arrives_when_it_is_back(
    tiled: Tiled, start: dict[str, Any], tmp_path: Path
) -> None:
    tiled.away = True
    session = Session(tiled, tmp_path, start)
    for frame in range(4):
        session.flush(frame)
    with pytest.raises(StoreError, match=r"waits in .*\.spool for Tiled: Tiled is away"):
        session.store("stop", stop_document(session.uid))
    tiled.away = False
    session.stop()
    assert_stored(tiled, session.uid, 4)
    assert spool_files(tmp_path) == []


def test_flushes_that_wait_are_sent_as_one_and_a_refusal_doubles_nothing(
    tiled: Tiled, start: dict[str, Any], tmp_path: Path
) -> None:
    tiled.away = True
    session = Session(tiled, tmp_path, start)
    for frame in range(4):
        session.flush(frame)
    tiled.refuses, tiled.away = "match_peaks", False
    session.stop()
    repeated = ["peaks", "matches"]  # the store holds their rows and leaves them out
    assert tiled.pages == [*repeated, "match_peaks", *repeated, "match_peaks", "frames"]
    assert_stored(tiled, session.uid, 4)


def test_no_one_waits_while_tiled_hangs(
    tiled: Tiled, start: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(tiled, tmp_path, start)
    session.flush(0)
    back = threading.Event()
    callers: set[int] = set()

    def hang() -> None:
        callers.add(threading.get_ident())
        tiled.waited_out |= not back.wait(180)

    monkeypatch.setattr(tiled, "require", hang)
    for frame in range(1, 20):
        session.flush(frame)
    session.store.refresh_live({"n_frames": 20})
    assert not tiled.waited_out
    assert threading.get_ident() not in callers
    back.set()
    session.stop()
    assert_stored(tiled, session.uid, 20)


def test_a_run_that_is_closed_while_tiled_hangs_is_given_up_when_it_answers(
    tiled: Tiled, start: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooled_store, "_CLOSE_S", 0.1)
    session = Session(tiled, tmp_path, start)
    session.flush(0)
    claims = container_beside(tiled.catalogue, CLAIMS)

    def wait_for_claims(number: int) -> None:
        wait_until(lambda: len(list(claims.search(Eq("uid", session.uid)))) == number)

    wait_for_claims(1)
    back = threading.Event()
    hangs = threading.Event()
    monkeypatch.setattr(tiled, "require", lambda: hangs.set() or back.wait(180))
    session.flush(1)
    assert hangs.wait(120)
    session.store.close()
    wait_for_claims(1)
    back.set()
    # A claim that its process keeps though nobody writes would keep every writer out.
    wait_for_claims(0)


def test_frames_that_tiled_has_already_are_not_sent_again(
    tiled: Tiled, start: dict[str, Any], tmp_path: Path
) -> None:
    first = Session(tiled, tmp_path / "one", start)
    first.flush(0, 1)
    first.store.close()
    tiled.away = True
    second = Session(tiled, tmp_path / "other", start)  # knows nothing of them, does them again
    assert second.state.committed == frozenset()
    second.flush(0, 1)
    second.flush(2)
    tiled.away = False
    second.stop()
    assert_stored(tiled, second.uid, 3)


def test_after_a_restart_the_spool_is_resumed_with_or_without_tiled(
    tiled: Tiled, start: dict[str, Any], tmp_path: Path
) -> None:
    tiled.away = True
    session = Session(tiled, tmp_path, start)
    session.flush(0, 1)
    session.table("peaks", [2])  # a flush that was cut off
    session.store.close()

    session = Session(tiled, tmp_path, start)
    assert session.state.committed == {0, 1}
    assert session.store.read("peaks")["frame"].tolist() == [0, 0, 0, 1, 1, 1]
    session.flush(2)
    session.store.close()

    tiled.away = False
    session = Session(tiled, tmp_path, start)
    assert session.state.committed == {0, 1, 2}
    assert session.store.read("peaks")["frame"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    session.flush(3)
    session.stop()
    assert_stored(tiled, session.uid, 4)


def test_a_run_that_no_one_resumes_is_sent_by_the_next_process(
    tiled: Tiled, tmp_path: Path
) -> None:
    tiled.away = True
    ended, cut = start_document(str(uuid4())), start_document(str(uuid4()))
    for start in (ended, cut):
        session = Session(tiled, tmp_path, start)
        session.flush(0)
        if start is ended:
            with pytest.raises(StoreError):
                session.store("stop", stop_document(session.uid))
        session.store.close()
    tiled.away = False
    send_leftovers(tmp_path, tiled, threading.Event())
    assert_stored(tiled, ended["uid"], 1)
    assert_stored(tiled, cut["uid"], 1, complete=False)
    assert spool_files(tmp_path) == []


def test_a_starved_writer_is_given_time_before_what_it_left_is_sent(
    tiled: Tiled, start: dict[str, Any], tmp_path: Path
) -> None:
    """One that is only slow would lose its run, and win it back, and so on."""
    tiled.away = True
    left = Session(tiled, tmp_path, start)
    left.flush(0)
    left.store.close()
    tiled.away = False
    starved = DerivedRunStore(tiled.catalogue, OutputSettings(), TiledSettings(), session_s=0.5)
    starved.open(start)
    starved._claim._stopped.set()  # type: ignore[union-attr]
    began = time.monotonic()
    build = store_builder(fake_config(tmp_path), tiled.catalogue, session_s=0.1, spool=tmp_path)
    wait_until(lambda: not spool_files(tmp_path))
    assert time.monotonic() - began >= 4 * 0.5
    assert_stored(tiled, left.uid, 1, complete=False)
    with pytest.raises(ClaimLostError, match="took over"):
        starved("stop", stop_document(left.uid))
    del build  # ends the sweep


def test_rows_that_the_server_lost_are_sent_again(
    tiled: Tiled, start: dict[str, Any], tmp_path: Path
) -> None:
    session = Session(tiled, tmp_path, start)
    session.flush(0)
    tiled.loses = 1
    session.flush(1)
    session.stop()
    assert tiled.loses == 0
    assert_stored(tiled, session.uid, 2)


def test_a_complete_run_is_reported_and_leaves_no_spool(
    tiled: Tiled, start: dict[str, Any], tmp_path: Path
) -> None:
    session = Session(tiled, tmp_path, start)
    session.flush(0)
    session.stop()
    again = SpooledStore(tiled, tmp_path)
    with pytest.raises(RunCompleteError):
        again.open(start)
    again.close()
    assert spool_files(tmp_path) == []


def test_a_full_disk_does_not_stop_what_tiled_takes(
    tiled: Tiled, start: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(tiled, tmp_path, start)
    session.flush(0)

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(SpoolFile, "append", refuse)
        for stream in STREAMS:
            _patiently(lambda stream=stream: session.table(stream, [1]))
        tiled.away = True
        monkeypatch.setattr(delivery.Delivery, "caught_up", False)
        with pytest.raises(StoreError, match="No space left"):
            session.table("peaks", [2])
        monkeypatch.undo()
    tiled.away = False
    session.flush(2)
    session.stop()
    assert_stored(tiled, session.uid, 3)


def test_a_frozen_disk_does_not_stop_what_tiled_takes(
    tiled: Tiled, start: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thaws = threading.Event()
    session = Session(tiled, tmp_path, start, timeout_s=0.2)
    session.flush(0)
    with monkeypatch.context() as frozen:
        frozen.setattr(os, "fsync", lambda _: thaws.wait(180))
        for stream in STREAMS:
            _patiently(lambda stream=stream: session.table(stream, [1]))
        assert "not responded" in session.store.trouble
        assert "to Tiled directly" in session.store.trouble
        thaws.set()
    frames = count(2)
    wait_until(lambda: session.flush(next(frames)) or not session.store.trouble)
    frame = next(frames) - 1
    session.stop()
    assert_stored(tiled, session.uid, frame + 1)


def test_closing_does_not_wait_for_a_server_that_does_not_answer(
    tiled: Tiled, start: dict[str, Any], tmp_path: Path
) -> None:
    session = Session(tiled, tmp_path, start)
    session.flush(0)
    tiled.answers.clear()
    session.flush(1)
    assert tiled.asked.wait(180)
    session.store.close()
    assert not tiled.waited_out
    tiled.answers.set()
    again = _patiently(lambda: Session(tiled, tmp_path, start))
    assert again.state.committed == {0, 1}
    again.flush(2)
    again.stop()
    assert_stored(tiled, session.uid, 3)


def test_a_run_whose_spool_the_disk_refuses_goes_to_tiled(
    tiled: Tiled, start: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / ".spool").write_text("in the way of the folder")
    session = Session(tiled, tmp_path, start)
    session.flush(0)
    session.flush(1)
    session.stop()
    assert_stored(tiled, session.uid, 2)


def test_a_damaged_spool_loses_one_flush_and_is_kept(
    tiled: Tiled, start: dict[str, Any], tmp_path: Path
) -> None:
    tiled.away = True
    session = Session(tiled, tmp_path, start)
    for frame in range(6):
        session.flush(frame)
    with pytest.raises(StoreError):
        session.store("stop", stop_document(session.uid))
    session.store.close()
    (path,) = spool_files(tmp_path)
    damage_page(path, "matches", frame=3)
    damaged = path.read_bytes()
    tiled.away = False
    send_leftovers(tmp_path, tiled, threading.Event())

    run = tiled.catalogue[session.uid]
    # Without its stop: whoever analyses the raw run again gets the frame that is missing.
    assert not run.metadata.get("stop")
    for stream in STREAMS:
        frames = run[stream].base["internal"].read()["frame"]
        assert sorted(set(frames)) == [0, 1, 2, 4, 5]
    assert spool_files(tmp_path) == []
    (kept,) = (tmp_path / ".spool" / "damaged").iterdir()
    assert kept.read_bytes() == damaged

    session = Session(tiled, tmp_path, start)
    assert session.state.committed == {0, 1, 2, 4, 5}
    session.flush(3)
    session.stop()
    assert tiled.catalogue[session.uid].metadata["stop"]


def _patiently(call: Any) -> None:
    """Repeat as the callback does while the delivery thread is catching up."""
    for _ in range(1800):
        try:
            return call()
        except StoreError:
            time.sleep(0.1)
    pytest.fail("it was refused for three minutes")
