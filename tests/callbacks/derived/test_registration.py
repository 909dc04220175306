"""A run registered from its file is the run that was stored live."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from derived_publisher import RAW, Publisher, closed, cut_of, frame
from event_model import DocumentNames, schema_validators
from fakes import MemoryStore
from running_fold import Running

from gixi_bluesky.callbacks.derived.folds import FrameFold
from gixi_bluesky.callbacks.derived.registration import register_result
from gixi_bluesky.callbacks.documents.document_types import RunStop
from gixi_bluesky.callbacks.runs.raw_run import RunClosed
from gixi_bluesky.callbacks.worker.jobs import Outcome
from gixi_bluesky.tiled_adapters.schema import STREAMS, TABLES

ENDS = {
    "complete": closed(5),
    "incomplete": closed(5, n_missing=2),
    "aborted": RunClosed("raw", RunStop("raw", 300.0, "abort", "beam dump", {}), 5, 0, ()),
    "abandoned": RunClosed(
        "raw", RunStop("raw", 300.0, "abort", "silent", {}, abandoned=True), 5, 0, ()
    ),
}


def published(folder: Path, end: RunClosed, folds: Sequence[FrameFold] = ()) -> Publisher:
    publisher = Publisher(folder, tiled={"access_tags": "from_raw"}, folds=folds)
    for number in range(3):
        publisher.add(number, 60.0 + number, cuts={"film": cut_of(float(number))})
        publisher.run.step()
    publisher.run.add(frame(3), Outcome("dropped", "the queue was full"))
    publisher.run.add(frame(4), Outcome("failed", "bad"))
    publisher.run.end(end)
    publisher.finish()
    assert publisher.run.complete
    return publisher


def registered(path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    store = MemoryStore()
    monkeypatch.setattr(
        "gixi_bluesky.callbacks.derived.registration.DerivedRunStore", lambda *_: store
    )
    register_result(path, None)
    return store


def without_time(doc: Any) -> dict[str, Any]:
    return {key: value for key, value in doc.items() if key not in {"time", "timestamps"}}


def events(store: MemoryStore) -> dict[str, pd.DataFrame]:
    """Return the events of all pages by stream: rows with their uid and seq_num."""
    names = {doc["uid"]: doc["name"] for name, doc in store.documents if name == "descriptor"}
    pages: dict[str, list[pd.DataFrame]] = {}
    for name, doc in store.documents:
        if name == "event_page":
            rows = {"uid": doc["uid"], "seq_num": doc["seq_num"], **doc["data"]}
            pages.setdefault(names[doc["descriptor"]], []).append(pd.DataFrame(rows))
    return {stream: pd.concat(found, ignore_index=True) for stream, found in pages.items()}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_registered_run_equals_the_live_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: RunClosed
) -> None:
    live = published(tmp_path, end, [Running()])
    uid = live.run.documents.uid
    store = registered(live.folder / f"{uid}.nxs", monkeypatch)
    assert store.start == live.store.start
    for kind in ("descriptor", "stream_resource"):
        ours, theirs = (
            {doc["uid"]: doc for name, doc in one.documents if name == kind}
            for one in (store, live.store)
        )
        # A part that was announced live is gone by now.
        assert ours == {uid: theirs[uid] for uid in ours}
    last = [[d for n, d in one.documents if n == "stream_datum"][-1] for one in (store, live.store)]
    assert last[0]["indices"]["stop"] == last[1]["indices"]["stop"] == 3
    ours, theirs = events(store), events(live.store)
    assert set(ours) == set(theirs) == {*STREAMS, "textures", "step_seen", "courses"}
    for stream, rows in theirs.items():
        pd.testing.assert_frame_equal(ours[stream][list(rows)], rows)
    assert without_time(store.stop) == without_time(live.store.stop)
    assert store.stop["exit_status"] == end.stop.exit_status
    assert store.stop["gixi"]["completeness"] in {"complete", "incomplete", "abandoned"}
    for name, doc in store.documents:
        schema_validators[DocumentNames[name]].validate(doc)


def test_a_file_that_does_not_record_its_end_makes_no_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = published(tmp_path, ENDS["aborted"])
    path = live.folder / f"{live.run.documents.uid}.nxs"
    with h5py.File(path, "a") as file:
        del file["/entry/process/stop_document"]
    store = registered(path, monkeypatch)
    assert store.stop["gixi"]["completeness"] == "unknown"
    assert "does not record how the raw run ended" in store.stop["reason"]
    ours, theirs = store.stop["gixi"], live.store.stop["gixi"]
    assert {**ours, "completeness": ""} == {**theirs, "completeness": ""}


def test_pages_split_no_frame(tmp_path: Path) -> None:
    """The uid of an event counts the rows of its frame, so that any page gives the same uids."""
    composer = Publisher(tmp_path).run.documents
    frames = np.repeat([0, 1, 2, 3], [3, 0, 5, 2]).tolist()
    columns = {
        name: [0] * len(frames)
        for name in composer.descriptor(TABLES["match_peaks"])["data_keys"]
        if name != "frame"
    }
    columns["frame"] = frames
    whole = composer.page(TABLES["match_peaks"], columns, 1, 0.0)
    for at_most in (1, 2, 4, 100):
        pages = list(composer.pages(TABLES["match_peaks"], columns, 1, 0.0, at_most))
        assert [uid for page in pages for uid in page["uid"]] == whole["uid"]
        assert [n for page in pages for n in page["seq_num"]] == list(range(1, 11))
    assert RAW.uid == composer.start["gixi"]["raw_uid"]
