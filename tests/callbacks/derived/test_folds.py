"""Folds get the frames in order, are restored from the store and disturb nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from derived_publisher import Publisher, closed, frame
from event_model import DocumentNames, schema_validators
from fakes import MemoryStore, fake_config
from running_fold import Running

from gixi_bluesky.callbacks.derived.folds import Folded, Folds, OrderedFrame, StoredFrames
from gixi_bluesky.callbacks.derived.stored import StoredRun
from gixi_bluesky.callbacks.derived.stores import LocalStore
from gixi_bluesky.callbacks.worker.jobs import Outcome
from gixi_bluesky.processing.tables import Column
from gixi_bluesky.tiled_adapters.schema import is_table, step_table


class Broken(Running):
    """Fails where it should."""

    name = "broken"
    tables = ()

    def add(self, frame: OrderedFrame) -> Folded:
        if frame.number == 1:
            message = "no peaks here"
            raise ValueError(message)
        if frame.number == 2:
            return Folded({"peaks": {"track": [1, 2, 3]}})
        if frame.number == 3:
            return Folded(rows={"elsewhere": {"frame": [3]}})
        return Folded()

    def finish(self) -> Folded:
        raise RuntimeError

    def summary(self) -> dict[str, Any]:
        raise RuntimeError


def names(store: MemoryStore) -> dict[str, str]:
    return {d["uid"]: d["name"] for kind, d in store.documents if kind == "descriptor"}


def test_folds_get_the_frames_in_order_and_fill_columns(tmp_path: Path) -> None:
    fold = Running()
    publisher = Publisher(tmp_path, folds=[fold])
    for number in range(4):
        publisher.run.expect(frame(number))
    for number in (2, 0, 3):
        publisher.add(number, 10.0 * number)
    publisher.run.step()
    assert fold.frames == [0]
    publisher.add(1, 10.0)
    publisher.run.step()
    assert fold.frames == [0, 1, 2, 3]
    assert fold.images == [0.0, 10.0, 20.0, 30.0]
    assert publisher.store.table("frames")["frame"].tolist() == [0, 1, 2, 3]
    peaks = publisher.store.table("peaks")
    assert peaks["track"].tolist() == list(range(len(peaks)))


def test_the_streams_of_folds_are_part_of_the_commit(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path, folds=[Running()])
    for number in range(3):
        publisher.add(number)
    publisher.run.step()
    publisher.run.end(closed(3))
    publisher.finish()
    stored = names(publisher.store)
    pages = [
        stored[d["descriptor"]] for kind, d in publisher.store.documents if kind == "event_page"
    ]
    assert pages == [
        "peaks",
        "matches",
        "match_peaks",
        "textures",
        "step_seen",
        "frames",
        "courses",
        "courses",
    ]
    for kind, doc in publisher.store.documents:
        schema_validators[DocumentNames[kind]].validate(doc)
    assert publisher.store.table("courses")["frame"].tolist() == [0, 1, 2]
    stop = publisher.store.stop
    assert stop["num_events"]["step_seen"] == stop["num_events"]["courses"] == 3
    assert stop["gixi"]["total"] == pytest.approx(publisher.store.table("peaks")["q"].sum())
    assert stop["gixi"]["phases"]["fake"]["onset_frame_low"] == 1
    assert stop["gixi"]["phases"]["fake"]["name"] == "Fake phase"
    (finished,) = publisher.folder.glob("*.nxs")
    with h5py.File(finished) as file:
        assert file["/entry/courses/frame"][()].tolist() == [0, 1, 2]
        assert file["/entry/step_seen/total"][-1] == stop["gixi"]["total"]


def test_a_resumed_run_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    def session(folder: Path) -> tuple[Publisher, Running]:
        fold = Running()
        store = LocalStore(fake_config(folder).output)
        return Publisher(folder, store, folds=[fold]), fold

    def rows(publisher: Publisher) -> dict[str, Any]:
        (finished,) = publisher.folder.glob("*.nxs")
        with h5py.File(finished) as file:
            return {
                f"{stream}/{name}": dataset[()].tolist()
                for stream, group in file["entry"].items()
                if is_table(stream)
                for name, dataset in group.items()
                if name != "latency"
            }

    whole, fold = session(tmp_path / "whole")
    for number in range(6):
        whole.add(number, 3.0 * number)
    whole.run.step()
    whole.run.end(closed(6))
    whole.finish()
    first, _ = session(tmp_path / "parts")
    for number in range(3):
        first.add(number, 3.0 * number)
    first.run.step()
    first.run.close()
    second, again = session(tmp_path / "parts")
    second.run.step()
    for number in range(3):
        assert second.run.wants(frame(number)) is False
        second.run.skip(frame(number))
    for number in range(3, 6):
        second.add(number, 3.0 * number)
    second.run.end(closed(6))
    second.finish()
    assert (again.frames, again.images, again.total) == (fold.frames, fold.images, fold.total)
    ours, theirs = rows(second), rows(whole)
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values, err_msg=name)


def test_a_fold_that_fails_costs_its_own_rows_alone(tmp_path: Path) -> None:
    fold = Running()
    publisher = Publisher(tmp_path, folds=[Broken(), fold])
    for number in range(4):
        publisher.add(number)
    publisher.run.add(frame(4), Outcome("failed", "bad"))
    publisher.run.step()
    publisher.run.end(closed(5))
    publisher.finish()
    assert publisher.run.complete
    frames = publisher.store.table("frames")
    assert frames["status"].tolist() == ["ok"] * 4 + ["failed"]
    reasons = frames["reason"].tolist()
    assert (reasons[0], reasons[4]) == ("", "bad")
    assert "broken: ValueError: no peaks here" in reasons[1]
    assert "expected one for each of the 1 rows" in reasons[2]
    assert "declared []" in reasons[3]
    assert publisher.store.stop["gixi"]["fold_errors"] == {"broken": "ValueError: no peaks here"}
    assert fold.frames == [0, 1, 2, 3, 4]


def test_a_fold_that_cannot_be_rebuilt_is_closed() -> None:
    """It may hold a process by then."""

    class Unrestorable(Running):
        closed = False

        def restore(self, stored: StoredFrames) -> None:
            raise ValueError("damaged rows")

        def close(self) -> None:
            self.closed = True

    fold = Unrestorable()
    folds = Folds([fold])
    folds.restore(StoredRun(lambda _: pd.DataFrame(), (), lambda _: None))
    assert fold.closed
    assert folds.finished
    assert "damaged rows" in str(folds.summary()["fold_errors"])


def test_a_frame_that_comes_late_is_stored_and_left_out_by_folds(tmp_path: Path) -> None:
    fold = Running()
    publisher = Publisher(tmp_path, folds=[fold])
    publisher.add(0)
    publisher.add(2)
    publisher.run.end(closed(3))
    publisher.run.step()
    publisher.add(1)
    publisher.finish()
    assert fold.frames == [0, 2]
    assert publisher.store.table("frames")["frame"].tolist() == [0, 2, 1]
    assert publisher.store.table("peaks")["track"].tolist() == [0, 1, -1]


@pytest.mark.parametrize("columns", [[], ["frame"], ["row"], ["a", "a"]])
def test_tables_of_steps_that_cannot_be_stored_are_refused(columns: list[str]) -> None:
    with pytest.raises(ValueError, match="expected an identifier and at least one column"):
        step_table("step", [Column(name, "<f8", "", "") for name in columns])
