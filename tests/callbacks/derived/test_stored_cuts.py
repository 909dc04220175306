"""Cuts of a derived run: in the parts and the finished file, announced, resumed, left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from derived_publisher import AXIS, N_BINS, Publisher, closed, cut_of, frame
from event_model import DocumentNames, schema_validators
from fakes import MemoryStore
from manual_clock import ManualClock

from gixi_bluesky.callbacks.worker.jobs import Outcome
from gixi_bluesky.errors import StoreError
from gixi_bluesky.tiled_adapters.files.file_process import FileProcess, file_process

pytestmark = pytest.mark.slow  # starts processes or networks in most tests


def stored(path: Path, field: str = "intensity") -> np.ndarray[Any, Any]:
    with h5py.File(path, "r", swmr=path.suffix == ".h5", libver="latest") as file:
        return np.asarray(file[f"/entry/cuts/film/{field}"][()])


def film(value: float) -> dict[str, Any]:
    return {"film": cut_of(value)}


def finished_file(publisher: Publisher, n: int) -> Path:
    publisher.run.end(closed(n))
    publisher.finish()
    return publisher.folder / f"{publisher.run.documents.uid}.nxs"


def test_cuts_lie_by_frame_number_in_part_and_file_and_failed_frames_are_nan(
    tmp_path: Path,
) -> None:
    publisher = Publisher(tmp_path)
    publisher.add(0, cuts=film(3.0))
    publisher.run.add(frame(1), Outcome("failed", "bad"))
    publisher.add(2, cuts=film(5.0))
    publisher.run.step()
    (part,) = publisher.folder.glob("*/part-0001.h5")
    expected = np.full((3, N_BINS), [[3.0], [np.nan], [5.0]])
    expected[:, 0] = np.nan
    np.testing.assert_array_equal(stored(part), expected)
    whole = finished_file(publisher, 3)
    np.testing.assert_array_equal(stored(whole), expected)
    with h5py.File(whole) as file:
        group = file["/entry/cuts/film"]
        assert list(group.attrs["axes"]) == [b"frame", b"q"]
        np.testing.assert_allclose(group["q"][()], AXIS)
        np.testing.assert_array_equal(group["frame"][()], [0, 1, 2])
        assert group["intensity_errors"][0, 1] == pytest.approx(0.5)
        assert file["/entry/azint1d_film/definition"].asstr()[()] == "NXazint1d"


def test_cuts_are_acknowledged_before_the_rows_of_their_frames(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    publisher.add(0, cuts=film(3.0))
    publisher.run.step()
    documents = publisher.store.documents
    for name, doc in documents:
        schema_validators[DocumentNames[name]].validate(doc)
    streams = {doc["uid"]: doc["name"] for name, doc in documents if name == "descriptor"}
    order = [
        streams[doc["descriptor"]]
        for name, doc in documents
        if name in {"stream_datum", "event_page"}
    ]
    assert order == ["images", "cuts", "cuts", "peaks", "matches", "match_peaks", "frames"]
    (described,) = (d for n, d in documents if n == "descriptor" and d["name"] == "cuts")
    assert list(described["data_keys"]) == ["film", "film_error"]
    assert described["data_keys"]["film"]["dims"] == ["film_q"]
    axes = described["configuration"]["gixi"]
    np.testing.assert_allclose(axes["data"]["film_q"], AXIS, rtol=1e-8)
    assert axes["data_keys"]["film_q"]["units"] == "1/angstrom"


def test_cuts_are_announced_at_intervals_and_all_of_them_at_the_end(tmp_path: Path) -> None:
    clock = ManualClock()
    output = {"repack": False}
    publisher = Publisher(tmp_path, clock=clock.clock, output=output)

    def announced() -> int:
        resources = [
            d["uid"]
            for n, d in publisher.store.documents
            if n == "stream_resource" and d["data_key"] == "film"
        ]
        stops = [
            d["indices"]["stop"]
            for n, d in publisher.store.documents
            if n == "stream_datum" and d["stream_resource"] in resources
        ]
        return max(stops, default=0)

    for number in range(3):
        publisher.add(number, cuts=film(1.0 + number))
        publisher.run.step()
    assert announced() == 1
    clock.advance(3.0)
    publisher.add(3, cuts=film(4.0))
    publisher.run.step()
    assert announced() == 4
    publisher.add(4, cuts=film(5.0))
    publisher.run.end(closed(5))
    publisher.finish(clock)
    assert announced() == 5


def test_a_resumed_run_holds_the_cuts_of_both_sessions(tmp_path: Path) -> None:
    first = Publisher(tmp_path)
    first.add(0, cuts=film(1.0))
    first.add(1, cuts=film(2.0))
    first.run.step()
    first.run.close()
    second = Publisher(tmp_path, MemoryStore(committed=frozenset({0})))
    second.run.step()
    second.add(1, cuts=film(7.0))
    second.add(2, cuts=film(8.0))
    second.run.step()
    whole = finished_file(second, 2)
    assert stored(whole)[:, 1].tolist() == [1.0, 7.0, 8.0]


def test_a_killed_hdf5_process_costs_no_cut(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    publisher.add(0, cuts=film(1.0))
    publisher.run.step()
    file_process().kill()
    publisher.add(1, cuts=film(2.0))
    publisher.run.step()
    whole = finished_file(publisher, 2)
    assert stored(whole)[:, 1].tolist() == [1.0, 2.0]


def test_a_cut_whose_axis_moved_is_left_out_with_the_reason(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    publisher.add(0, cuts=film(1.0))
    publisher.add(1, cuts={"film": cut_of(2.0, AXIS + 0.01)})
    publisher.run.step()
    reasons = publisher.store.table("frames")["reason"].tolist()
    assert reasons == ["", "not stored, since its axis changed: cut film"]
    whole = finished_file(publisher, 2)
    assert np.isnan(stored(whole)[1:]).all()


def test_a_disk_that_refuses_costs_cuts_with_the_reason_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        message = "the disk is full"
        raise StoreError(message)

    clock = ManualClock()
    publisher = Publisher(tmp_path, clock=clock.clock, output={"images": "none"})
    monkeypatch.setattr(FileProcess, "ask", refuse)
    publisher.add(0, cuts=film(1.0))
    for _ in range(6):
        publisher.run.step()
        clock.advance(60.0)
    reasons = publisher.store.table("frames")["reason"].tolist()
    assert reasons == ["cuts not stored: the disk is full"]
    monkeypatch.undo()
    publisher.run.end(closed(1))
    publisher.finish(clock)
    assert "1 rows of cuts were not stored" in publisher.store.stop["gixi"]["arrays_error"]


@pytest.mark.parametrize("arrays", ["tiled", "none"])
def test_cuts_without_files_travel_in_pages_or_not_at_all(tmp_path: Path, arrays: str) -> None:
    publisher = Publisher(tmp_path, output={"arrays": arrays})
    publisher.add(0, cuts=film(1.0))
    publisher.add(1, cuts=film(2.0))
    publisher.run.step()
    descriptors = [d for n, d in publisher.store.documents if n == "descriptor"]
    cuts = [d for d in descriptors if d["name"] == "cuts"]
    assert len(cuts) == (arrays == "tiled")
    for described in cuts:
        pages = [
            doc["data"]["film"]
            for name, doc in publisher.store.documents
            if name == "event_page" and "film" in doc["data"]
        ]
        assert [row[1] for page in pages for row in page] == [1.0, 2.0]
        assert "external" not in described["data_keys"]["film"]


@pytest.mark.parametrize(("images", "expected"), [("all", [0, np.nan, 2]), ("none", [0, 2])])
def test_q_images_are_kept_as_often_as_asked_with_their_axes(
    tmp_path: Path, images: str, expected: list[float]
) -> None:
    publisher = Publisher(tmp_path, output={"images": images, "q_images": "every_2"})
    for number in range(3):
        publisher.add(number, float(number))
        publisher.run.step()
    announced = [
        doc["data_key"]
        for name, doc in publisher.store.documents
        if name == "stream_resource" and doc["data_key"] == "q_image"
    ]
    assert announced == ["q_image"]
    whole = finished_file(publisher, 3)
    with h5py.File(whole) as file:
        group = file["/entry/q_image"]
        assert list(group.attrs["axes"]) == [b"frame", b"q_z", b"q_xy"]
        np.testing.assert_array_equal(group["intensity"][:, 0, 0], expected)
        assert group["intensity"].shape[1:] == (len(group["q_z"]), len(group["q_xy"]))
        assert "intensity" in file["/entry/polar"]


def test_a_run_whose_first_frame_failed_keeps_its_q_images(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path, output={"q_images": "every_2"})
    publisher.run.add(frame(0), Outcome("failed", "bad"))
    publisher.add(1, 1.0)
    publisher.run.step()
    publisher.add(2, 2.0)
    publisher.run.step()
    whole = finished_file(publisher, 3)
    with h5py.File(whole) as file:
        values = file["/entry/q_image/intensity"][:, 0, 0]
    np.testing.assert_array_equal(values, [np.nan, np.nan, 2.0])
