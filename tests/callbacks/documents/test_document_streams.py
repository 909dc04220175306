"""Whatever order runs come in, and whatever is lost or doubled: each announced frame has one row.

A state machine lets several runs of all styles take turns and does to their documents what
brokers, crashes and bugs do. A frame counts as announced once every document that names it came.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_model import DocumentNames, schema_validators
from fakes import FAKE, MemoryStore, fake_config
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from raw_runs import (
    HDF5,
    KEY,
    SHAPE,
    Documents,
    RawRun,
    feed,
    images,
    recorded_streams,
    write_hdf5,
    write_tiffs,
)
from waiting import wait_until

from gixi_bluesky.callbacks.analysis import Analysis

MOST = 5
# A document without this key breaks its schema.
REQUIRED = {
    "start": "time",
    "descriptor": "data_keys",
    "event": "seq_num",
    "event_page": "seq_num",
    "resource": "spec",
    "datum": "datum_kwargs",
    "datum_page": "datum_id",
    "stream_resource": "uri",
    "stream_datum": "indices",
}
STYLES = ("inline", "page", "stream", "tiffs", "classic", "packed", "stacks")


@dataclass
class Announced:
    """One raw run: what is still to be sent, and what each frame needs to be announced."""

    uid: str
    to_send: Documents
    stop: tuple[str, dict[str, Any]]
    needs: dict[int, set[int]]
    sent: set[int] = field(default_factory=set)
    stopped: bool = False

    @property
    def frames(self) -> list[int]:
        """The numbers of the announced frames."""
        return sorted(number for number, needed in self.needs.items() if needed <= self.sent)


def inline(run: RawRun, n: int) -> tuple[Documents, dict[int, set[int]]]:
    events = [run.event(i + 1, **{KEY: image}) for i, image in enumerate(images(n))]
    needs = {i: {0, 1, 2 + i} for i in range(n)}
    return [run.start(), run.descriptor(external=""), *events], needs


def page(run: RawRun, n: int) -> tuple[Documents, dict[int, set[int]]]:
    rows = {
        "descriptor": run.descriptor_uid,
        "uid": [f"{run.uid}/{i}" for i in range(n)],
        "seq_num": list(range(1, n + 1)),
        "time": [0.0] * n,
        "data": {KEY: list(images(n))},
        "timestamps": {KEY: [0.0] * n},
        "filled": {},
    }
    documents = [run.start(), run.descriptor(external=""), ("event_page", rows)]
    return documents, {i: {0, 1, 2} for i in range(n)}


def stream(run: RawRun, n: int, file: Path) -> tuple[Documents, dict[int, set[int]]]:
    documents = [run.start(), run.descriptor(), run.stream_resource(file, HDF5)]
    documents += [run.stream_datum(i, i + 1) for i in range(n)]
    return documents, {i: {0, 1, 2, 3 + i} for i in range(n)}


def classic(run: RawRun, n: int, stem: Path) -> tuple[Documents, dict[int, set[int]]]:
    """Events whose datum never comes are frames that are unavailable: they need no datum."""
    resource = {
        "uid": f"{run.uid}-r",
        "run_start": run.uid,
        "spec": "NPY_SEQ",
        "root": str(stem.parent),
        "resource_path": stem.name,
        "resource_kwargs": {},
        "path_semantics": "posix",
    }
    documents: Documents = [run.start(), run.descriptor(external="OLD:"), ("resource", resource)]
    for i in range(n):
        datum_id = f"{run.uid}-r/{i}"
        datum = {"datum_id": datum_id, "resource": resource["uid"], "datum_kwargs": {"index": i}}
        documents += [("datum", datum), run.event(i + 1, **{KEY: datum_id})]
    return documents, {i: {0, 1, 4 + 2 * i} for i in range(n)}


def tiffs(run: RawRun, n: int, folder: Path) -> tuple[Documents, dict[int, set[int]]]:
    """One stream_datum for all images of a sequence of files."""
    parameters = {"template": "img_{:05d}.tif", "chunk_shape": [1, *SHAPE]}
    resource = run.stream_resource(f"{folder}/", "multipart/related;type=image/tiff", **parameters)
    documents = [run.start(), run.descriptor(), resource]
    if n:
        documents.append(run.stream_datum(0, n))
    return documents, {i: {0, 1, 2, 3} for i in range(n)}


def packed(run: RawRun, n: int, stem: Path) -> tuple[Documents, dict[int, set[int]]]:
    """Pages of datum and events, as databroker-pack and Mongo give them."""
    documents, _ = classic(run, n, stem)
    start, descriptor, resource = documents[:3]
    ids = [f"{run.uid}-r/{i}" for i in range(n)]
    datums = {
        "resource": resource[1]["uid"],
        "datum_id": ids,
        "datum_kwargs": {"index": list(range(n))},
    }
    rows = {
        "descriptor": run.descriptor_uid,
        "uid": [f"{run.uid}/{i}" for i in range(n)],
        "seq_num": list(range(1, n + 1)),
        "time": [0.0] * n,
        "data": {KEY: ids},
        "timestamps": {KEY: [0.0] * n},
        "filled": {KEY: [False] * n},
    }
    pages: Documents = [("datum_page", datums), ("event_page", rows)]
    return [start, descriptor, resource, *pages], {i: {0, 1, 4} for i in range(n)}


def stacks(run: RawRun, n: int, file: Path) -> tuple[Documents, dict[int, set[int]]]:
    """Two images an event, from the flat file of `stream`."""
    run.shape = (2, *SHAPE)
    documents = [run.start(), run.descriptor(), run.stream_resource(file, HDF5)]
    documents += [run.stream_datum(i, i + 1) for i in range(n)]
    return documents, {i: {0, 1, 2, 3 + i // 2} for i in range(2 * n)}


class Beamline(RuleBasedStateMachine):
    """Runs take turns; documents are doubled, lost, damaged and reordered."""

    analysis: Analysis
    stores: list[MemoryStore]
    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.stores.clear()
        self.runs: list[Announced] = []
        self.past: Documents = []

    @precondition(lambda self: len(self.runs) < 4)
    @rule(style=st.sampled_from(STYLES), n=st.integers(0, MOST))
    def begin(self, style: str, n: int) -> None:
        run = RawRun()
        make = {
            "inline": lambda: inline(run, n),
            "page": lambda: page(run, n),
            "stream": lambda: stream(run, n, self.folder / "a.h5"),
            "classic": lambda: classic(run, n, self.folder / "shot"),
            "tiffs": lambda: tiffs(run, n, self.folder),
            "packed": lambda: packed(run, n, self.folder / "shot"),
            "stacks": lambda: stacks(run, n, self.folder / "a.h5"),
        }
        documents, needs = make[style]()
        self.runs.append(Announced(run.uid, documents, run.stop(n), needs))

    def some_run(self, data: st.DataObject) -> Announced | None:
        going = [run for run in self.runs if len(run.sent) < len(run.to_send) and not run.stopped]
        return data.draw(st.sampled_from(going)) if going else None

    def send(self, run: Announced, index: int) -> None:
        run.sent.add(index)
        self.past.append(run.to_send[index])
        self.analysis(*run.to_send[index])

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), n=st.integers(1, 6))
    def go_on(self, data: st.DataObject, n: int) -> None:
        if run := self.some_run(data):
            for index in [i for i in range(len(run.to_send)) if i not in run.sent][:n]:
                self.send(run, index)

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def send_out_of_order(self, data: st.DataObject) -> None:
        if run := self.some_run(data):
            waiting = [i for i in range(len(run.to_send)) if i not in run.sent]
            self.send(run, data.draw(st.sampled_from(waiting)))

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def double(self, data: st.DataObject) -> None:
        self.analysis(*data.draw(st.sampled_from(self.past)))

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def send_damaged(self, data: st.DataObject) -> None:
        if run := self.some_run(data):
            name, doc = data.draw(st.sampled_from(run.to_send))
            cut = {key: value for key, value in doc.items() if key != REQUIRED[name]}
            self.analysis(name, cut)

    @rule(name=st.sampled_from([*REQUIRED, "stop", "bulk_events", "nonsense"]), doc=st.none())
    def send_nonsense(self, name: str, doc: Any) -> None:
        self.analysis(name, doc)

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def stop_early(self, data: st.DataObject) -> None:
        """What has not come before the stop is lost."""
        run = data.draw(st.sampled_from(self.runs))
        if 0 in run.sent and not run.stopped:
            run.stopped = True
            self.past.append(run.stop)
            self.analysis(*run.stop)

    def teardown(self) -> None:
        for run in self.runs:
            if 0 in run.sent and not run.stopped:
                self.analysis(*run.stop)
        assert self.analysis.drain(120)
        derived = {store.start["gixi"]["raw_uid"]: store for store in self.stores}
        assert len(derived) == len(self.stores)
        for run in self.runs:
            if run.frames:
                check_derived(derived.pop(run.uid), run.frames)
            elif run.uid in derived:  # it announced frames at its stop that never came
                store = derived.pop(run.uid)
                assert store.stop["gixi"]["n_missing"] == run.stop[1]["num_events"]["primary"]
        assert not derived


def check_derived(store: MemoryStore, frames: list[int]) -> None:
    schema_validators[DocumentNames.start].validate(store.start)
    for name, doc in store.documents:
        schema_validators[DocumentNames[name]].validate(doc)
    assert sorted(store.table("frames")["frame"]) == frames
    assert sorted(store.table("peaks")["frame"]) == sorted(
        store.table("frames").query("status == 'ok'")["frame"]
    )
    uids = [uid for name, doc in store.documents if name == "event_page" for uid in doc["uid"]]
    assert len(set(uids)) == len(uids)
    assert store.documents[-1][0] == "stop"
    assert store.stop["num_events"]["frames"] == len(frames)


@pytest.fixture(scope="module")
def beamline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[type[Beamline]]:
    folder = tmp_path_factory.mktemp("beamline")
    write_hdf5(folder / "a.h5", images(MOST))
    write_tiffs(folder, images(MOST))
    for i, image in enumerate(images(MOST)):
        np.save(folder / f"shot_{i}.npy", image)
    made: list[MemoryStore] = []

    def store() -> MemoryStore:
        made.append(MemoryStore())
        return made[-1]

    config = fake_config(folder, grid={"shape": (32, 33)})
    with Analysis(config, store=store, factory=FAKE) as analysis:
        yield type(
            "Beamline", (Beamline,), {"analysis": analysis, "stores": made, "folder": folder}
        )


@pytest.mark.slow
def test_each_announced_frame_has_one_row(beamline: type[Beamline]) -> None:
    run_state_machine_as_test(
        beamline,
        settings=settings(
            max_examples=30,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_run_that_never_stops_is_stored_as_it_goes(beamline: type[Beamline]) -> None:
    beamline.stores.clear()
    run = RawRun()
    documents, _ = inline(run, MOST)
    nested = RawRun()
    for i, document in enumerate(documents):
        beamline.analysis(*document)
        if i == 3:  # a whole run within it
            for inner in [*inline(nested, 2)[0], nested.stop(2)]:
                beamline.analysis(*inner)
    assert beamline.analysis.drain(120)
    outer, inner_store = beamline.stores
    check_derived(inner_store, [0, 1])
    wait_until(lambda: len(outer.table("frames")) >= MOST)
    assert sorted(outer.table("frames")["frame"]) == list(range(MOST))


@pytest.mark.slow
@pytest.mark.data
def test_recorded_documents_of_beamlines_are_taken_without_an_error(
    beamline: type[Beamline], shared_data: Path
) -> None:
    """Streams of all files one after the other, the way they came; most hold no images."""
    beamline.stores.clear()
    refused = beamline.analysis.status()["documents_refused"]
    stopped = imaging = 0
    for _, streams in recorded_streams(shared_data / "bluesky_docs"):
        for documents in streams:
            feed(beamline.analysis, documents)
            stopped += sum(name == "stop" for name, _ in documents)
            imaging += any(
                len(key.get("shape", ())) >= 2 and min(key["shape"][-2:]) >= 8
                for name, doc in documents
                if name == "descriptor"
                for key in doc["data_keys"].values()
                if all(isinstance(size, int) for size in key.get("shape", ()))
            )
    assert stopped > 80
    assert beamline.analysis.drain(120)
    assert beamline.analysis.status()["documents_refused"] == refused
    assert 0 < len(beamline.stores) <= imaging
    for store in beamline.stores:
        schema_validators[DocumentNames.start].validate(store.start)
        frames = store.table("frames")["frame"].tolist()
        assert len(set(frames)) == len(frames)
