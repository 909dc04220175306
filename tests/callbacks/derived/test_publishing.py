"""A derived run: which documents, in which order, and what survives a failing store."""

from __future__ import annotations

import itertools
import math
import os
import signal
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from derived_publisher import METADATA, Publisher, closed, frame
from event_model import DocumentNames, schema_validators
from fake_pipeline import N_PHI, N_Q, FakePipeline
from fakes import MemoryStore, fake_config
from manual_clock import ManualClock

from gixi_bluesky.callbacks.derived import stores
from gixi_bluesky.callbacks.derived.publishing import RunPublisher
from gixi_bluesky.callbacks.derived.stores import LocalStore
from gixi_bluesky.callbacks.documents.document_types import RunStart
from gixi_bluesky.callbacks.runs.raw_run import RawRun
from gixi_bluesky.callbacks.worker.jobs import Outcome, Ready
from gixi_bluesky.errors import ClaimLostError, RunCompleteError, StoreError
from gixi_bluesky.tiled_adapters.files.file_process import (
    FileProcess,
    StorageHangsError,
    file_process,
)
from gixi_bluesky.tiled_adapters.schema import IMAGES, STREAMS, stored_columns


def test_the_order_of_a_flush_is_the_commit_protocol(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    publisher.run.step()
    assert publisher.names() == ["descriptor"] * 4
    for number in range(3):
        publisher.add(number)
    publisher.run.step()
    flushed = publisher.store.documents[4:]
    assert [name for name, _ in flushed] == [
        "descriptor",
        "stream_resource",
        "stream_datum",
        *["event_page"] * 4,
    ]
    streams = {d["uid"]: d["name"] for n, d in publisher.store.documents if n == "descriptor"}
    assert [streams[doc["descriptor"]] for _, doc in flushed[3:]] == list(STREAMS)
    for stream in STREAMS:
        assert list(publisher.store.table(stream)) == [c.name for c in stored_columns(stream)]
    assert publisher.store.table("frames")["frame"].tolist() == [0, 1, 2]
    assert publisher.store.table("frames")["raw_time"].tolist() == [100.0, 101.0, 102.0]


def test_frames_that_come_during_a_flush_wait_for_the_next(tmp_path: Path) -> None:
    """At 100 frames a second there is always one more: a page of its own would cost too much."""

    class BusyStore(MemoryStore):
        def __call__(self, name: str, doc: Any) -> None:
            super().__call__(name, doc)
            if name == "event_page" and len(self.documents) < 100:
                publisher.add(next(numbers))

    numbers = itertools.count()
    publisher = Publisher(tmp_path, BusyStore(), output={"images": "none"})
    for _ in range(5):
        publisher.add(next(numbers))
    for flushed in (5, 9):
        publisher.run.step()
        assert len(publisher.store.table("frames")) == flushed


def test_every_document_is_valid_and_a_replay_makes_the_same(tmp_path: Path) -> None:
    runs = []
    for folder in ("a", "b"):
        publisher = Publisher(tmp_path / folder)
        for number in range(3):
            publisher.add(number, 60.0)
        publisher.run.step()
        publisher.run.end(closed(3))
        publisher.finish()
        assert publisher.run.complete
        schema_validators[DocumentNames.start].validate(publisher.store.start)
        for name, doc in publisher.store.documents:
            schema_validators[DocumentNames[name]].validate(doc)
        runs.append(publisher.store)
    assert runs[0].start["uid"] == runs[1].start["uid"]
    uids = [[doc["uid"] for name, doc in run.documents if "stream_" not in name] for run in runs]
    assert uids[0] == uids[1]


def test_the_start_document_says_what_was_done_to_what(tmp_path: Path) -> None:
    start = Publisher(tmp_path, tiled={"access_tags": "from_raw"}).run.documents.start
    assert start["purpose"] == "gixi"
    assert start["tiled_specs"] == ["GIXIRun"]
    assert start["tiled_access_tags"] == ["team"]
    assert (start["scan_id"], start["sample_name"], start["plan_name"]) == (5, "film", "count")
    assert start["sample"] == {"id": 3, "bad": None}
    assert "detectors" not in start
    ours = start["gixi"]
    assert (ours["raw_uid"], ours["raw_stream"], ours["raw_data_key"]) == ("raw", "primary", "img")
    assert ours["phases_searched"][0]["name"] == "Fake phase"
    assert ours["provenance"]["weights_name"] == "fake"
    assert ours["grid"]["q_max_inv_angstrom"] == 3.9


def test_metadata_that_event_model_refuses_costs_no_run(tmp_path: Path) -> None:
    config = fake_config(tmp_path)
    raw = RawRun(RunStart("raw", 100.0, 5, {**METADATA, "sample": [1]}), "primary", "img")
    ready = Ready(FakePipeline(config).provenance, ())
    run = RunPublisher(raw, ready, MemoryStore(), config.output, config.tiled)
    assert "sample" not in run.documents.start
    assert run.documents.start["gixi"]["raw_uid"] == "raw"


def test_the_summary_stands_in_the_stop(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    publisher.add(0, 10.0)
    publisher.add(1, 60.0)
    publisher.add(2, 60.4)
    publisher.run.add(frame(3), Outcome("dropped", "the queue was full"))
    publisher.run.add(frame(4), Outcome("unavailable", "no file"))
    publisher.run.end(closed(5, n_missing=2))
    publisher.finish()
    stop = publisher.store.stop
    assert stop["num_events"] == {"peaks": 3, "matches": 3, "match_peaks": 3, "frames": 5}
    assert stop["reason"] == "2 of 7 frames never came."
    summary = stop["gixi"]
    assert summary["missing_frames"] == [5, 6]
    assert summary["completeness"] == "incomplete"
    counts = [summary[key] for key in ("n_frames", "n_peaks", "n_dropped", "n_failed")]
    assert counts == [5, 3, 1, 1]
    assert summary["q_bins"] == {"b0010": 1, "b0060": 2}
    assert summary["peak_q"] == [0.1, 0.602]
    assert summary["phases"] == {
        "fake": {
            "name": "Fake phase",
            "max_probability": 0.9,
            "n_frames": 2,
            "onset_frame": 1,
            "onset_time": 101.0,
        }
    }
    rows = publisher.store.table("frames")
    assert rows["status"].tolist() == ["ok"] * 3 + ["dropped", "unavailable"]
    assert rows["reason"].tolist()[3:] == ["the queue was full", "no file"]


def test_images_go_to_hdf5_by_frame_number_and_gaps_are_nan(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    publisher.add(0, 1.0)
    publisher.run.add(frame(1), Outcome("failed", "bad"))
    publisher.add(2, 3.0)
    publisher.run.step()
    publisher.run.end(closed(3))
    publisher.finish()
    datum = next(doc for name, doc in publisher.store.documents if name == "stream_datum")
    assert datum["indices"] == {"start": 0, "stop": 3}
    (finished,) = publisher.folder.glob("*.nxs")
    with h5py.File(finished) as file:
        stored = file["/entry/polar/intensity"][()]
    assert stored.shape == (3, N_PHI, N_Q)
    assert np.array_equal(stored[:, 0, 0], [1.0, np.nan, 3.0], equal_nan=True)


@pytest.mark.parametrize("images", ["none", "every_2"])
def test_only_the_images_asked_for_are_kept(tmp_path: Path, images: str) -> None:
    publisher = Publisher(tmp_path, output={"images": images})
    for number in range(4):
        publisher.add(number)
    publisher.run.step()
    data = [doc["indices"]["stop"] for name, doc in publisher.store.documents if "datum" in name]
    assert data == ([] if images == "none" else [2])
    streams = [d["name"] for n, d in publisher.store.documents if n == "descriptor"]
    assert (IMAGES in streams) == (images != "none")


def test_the_time_of_an_event_that_came_later(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    for number in range(2):
        publisher.run.add(frame(number, math.nan), Outcome("failed", "x"))
    publisher.run.set_time(1, 123.0)
    publisher.run.step()
    assert publisher.store.table("frames")["raw_time"].tolist() == [123.0, 999.0]


def test_a_failing_store_is_tried_again_from_where_it_failed(tmp_path: Path) -> None:
    time = ManualClock()
    publisher = Publisher(tmp_path, clock=time.clock)
    publisher.run.step()
    publisher.add(0)
    publisher.store.failures = [StoreError("Tiled is away")]
    publisher.run.step()
    assert "Tiled is away" in publisher.run.last_error
    assert "event_page" not in publisher.names()
    publisher.add(1)
    publisher.run.end(closed(2))
    publisher.run.step()  # too early: it waits before it tries again
    assert not publisher.run.complete
    time.advance(1.1)
    publisher.finish()
    assert publisher.store.table("frames")["frame"].tolist() == [0, 1]
    assert publisher.store.table("peaks")["frame"].tolist() == [0, 1]


def test_nothing_is_analysed_before_the_run_is_open_nor_twice(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path, MemoryStore(committed=frozenset({0, 1})))
    assert publisher.run.wants(frame(0)) is None
    publisher.run.step()
    assert [publisher.run.wants(frame(number)) for number in range(3)] == [False, False, True]
    for number in range(2):
        publisher.run.skip(frame(number))
    publisher.add(2)
    publisher.run.end(closed(3))
    publisher.finish()
    assert publisher.store.table("frames")["frame"].tolist() == [2]
    page = [doc for name, doc in publisher.store.documents if name == "event_page"][-1]
    assert page["seq_num"] == [3]
    assert publisher.store.stop["gixi"]["n_frames"] == 3
    assert publisher.store.stop["num_events"]["frames"] == 3


@pytest.mark.parametrize("error", [RunCompleteError("done"), ClaimLostError("another writes")])
def test_a_run_that_is_not_ours_to_write_is_left(tmp_path: Path, error: Exception) -> None:
    publisher = Publisher(tmp_path)
    publisher.store.failures = [error]
    publisher.run.step()
    assert publisher.run.over
    assert publisher.run.wants(frame(0)) is False
    assert publisher.run.complete == isinstance(error, RunCompleteError)


def test_a_full_disk_costs_the_images_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        message = "cannot write: No space left on device"
        raise StoreError(message)

    monkeypatch.setattr(FileProcess, "ask", refuse)
    time = ManualClock()
    publisher = Publisher(tmp_path, clock=time.clock)
    publisher.add(0)
    publisher.run.end(closed(1))
    publisher.finish(time)
    frames = publisher.store.table("frames")
    assert frames["status"].tolist() == ["ok"]
    assert "No space left" in frames["reason"][0]
    assert "1 images were not stored" in publisher.store.stop["gixi"]["arrays_error"]


def test_images_are_stored_again_when_the_disk_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = ManualClock()
    publisher = Publisher(tmp_path, clock=time.clock)
    publisher.add(0, 1.0)
    publisher.run.step()
    refused = threading.Event()

    def refuse(*_: Any, **__: Any) -> None:
        refused.set()
        message = "the storage has not responded"
        raise StorageHangsError(message)

    with monkeypatch.context() as full:
        full.setattr(FileProcess, "ask", refuse)
        publisher.add(1, 2.0)
        publisher.run.step()
    assert refused.is_set()
    assert publisher.store.table("frames")["frame"].tolist() == [0, 1]  # committed at once
    time.advance(60.0)
    publisher.add(2, 3.0)
    publisher.run.step()
    publisher.run.end(closed(3))
    publisher.finish()
    frames = publisher.store.table("frames")
    assert [bool(reason) for reason in frames["reason"]] == [False, True, False]
    (finished,) = (tmp_path / "results").glob("*.nxs")
    with h5py.File(finished) as file:
        first_pixels = file["/entry/polar/intensity"][:, 0, 0].tolist()
        # Its rows were written later; only the image is lost.
        assert sorted(file["/entry/frames/frame"][()]) == [0, 1, 2]
    assert [first_pixels[0], first_pixels[2]] == [1.0, 3.0]
    assert math.isnan(first_pixels[1])


@pytest.mark.slow
def test_a_process_that_dies_is_replaced_and_gets_the_flush_again(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    publisher.add(0, 1.0)
    publisher.run.step()
    pid = file_process().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    publisher.add(1, 2.0)
    publisher.run.step()
    assert file_process().pid != pid
    publisher.run.end(closed(2))
    publisher.finish()
    (finished,) = (tmp_path / "results").glob("*.nxs")
    with h5py.File(finished) as file:
        assert file["/entry/polar/intensity"][:, 0, 0].tolist() == [1.0, 2.0]
        assert file["/entry/frames/frame"][()].tolist() == [0, 1]
    assert not (tmp_path / "results" / finished.stem).exists()  # the parts are removed
    resources = [doc for name, doc in publisher.store.documents if name == "stream_resource"]
    assert [Path(doc["uri"]).name for doc in resources] == [
        "part-0001.h5",
        "part-0002.h5",
        finished.name,
    ]


def test_the_live_summary_is_refreshed(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    publisher.add(0)
    publisher.run.step()
    assert publisher.store.live[-1]["n_frames"] == 1


def test_rows_are_counted_once_though_opening_the_run_failed_between_them(tmp_path: Path) -> None:
    class Failing(MemoryStore):
        read_streams = 0

        def read(self, stream: str) -> pd.DataFrame:
            self.read_streams += 1
            if self.read_streams == len(STREAMS):  # after all others
                raise StoreError("Tiled is away")
            rows = super().read(stream)
            return rows if stream == "frames" else pd.concat([rows, super().read("frames")])

    clock = ManualClock()
    publisher = Publisher(tmp_path, Failing(committed=frozenset({0, 1})), clock=clock.clock)
    publisher.run.step()
    assert "Tiled is away" in publisher.run.last_error
    clock.advance(60.0)
    publisher.run.step()
    assert not publisher.run.last_error
    for number in range(2):
        publisher.run.skip(frame(number))
    publisher.run.end(closed(2))
    publisher.finish()
    summary = publisher.store.stop["gixi"]
    assert (summary["n_frames"], summary["n_peaks"]) == (2, 2)


def test_a_local_run_that_the_disk_refused_once_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own lock, which it holds since the first time, is not that of another writer."""
    asked = []

    class Refusing:
        def ask(self, request: object, timeout: float) -> dict[str, object]:
            asked.append(request)
            if len(asked) == 1:
                raise StoreError("the storage has not responded")
            return {}

    monkeypatch.setattr(stores, "file_process", Refusing)
    store = LocalStore(fake_config(tmp_path).output)
    with pytest.raises(StoreError):
        store.open({"uid": "run"})
    assert store.open({"uid": "run"}).committed == frozenset()
    store.close()


def test_without_tiled_the_files_know_what_is_done(tmp_path: Path) -> None:
    def session() -> Publisher:
        config = fake_config(tmp_path)
        return Publisher(tmp_path, LocalStore(config.output))

    first = session()
    for number in range(2):
        first.add(number, 1.0 + number)
    first.run.step()
    rival = session()
    rival.run.step()
    assert "another process writes" in rival.run.given_up
    first.run.close()
    second = session()
    second.run.step()
    assert [second.run.wants(frame(number)) for number in range(3)] == [False, False, True]
    for number in range(2):
        second.run.skip(frame(number))
    second.add(2, 3.0)
    second.run.end(closed(3))
    second.finish()
    assert second.run.complete
    (finished,) = (tmp_path / "results").glob("*.nxs")
    with h5py.File(finished) as file:
        assert file["/entry/polar/intensity"][:, 0, 0].tolist() == [1.0, 2.0, 3.0]
        assert file["/entry/frames/frame"][()].tolist() == [0, 1, 2]
    third = session()
    third.run.step()
    assert third.run.complete
    assert third.run.wants(frame(0)) is False
