"""Which runs are analysed, and how their images are numbered and found."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manual_clock import ManualClock
from raw_runs import (
    HDF5,
    KEY,
    SHAPE,
    Documents,
    RawRun,
    hdf5_run,
    images,
    inline_run,
    recorded_streams,
    routed,
    write_hdf5,
    write_tiffs,
)

from gixi_bluesky.callbacks.documents.value_sources import FromDocument
from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
from gixi_bluesky.callbacks.images.locations import (
    FabioImage,
    FrameReader,
    Hdf5Image,
    InlineImage,
    NpyImage,
    TiffImage,
    Unreadable,
)
from gixi_bluesky.callbacks.runs.raw_run import Frame, FrameTimed, RunClosed, RunOpened
from gixi_bluesky.callbacks.runs.router import Router
from gixi_bluesky.callbacks.settings import InputSettings
from gixi_bluesky.errors import DocumentError


def router(incidence: Any = 0.5, **settings: Any) -> Router:
    sources = {"incidence_angle_deg": incidence} if isinstance(incidence, FromDocument) else {}
    return Router(InputSettings(**settings), sources)


def frames_of(actions: Any) -> list[Frame]:
    return [action for action in actions if isinstance(action, Frame)]


def opened(actions: Any) -> list[RunOpened]:
    return [action for action in actions if isinstance(action, RunOpened)]


def pixels(frame: Frame) -> np.ndarray:
    return FrameReader(FileAccess((), {})).read(frame.image)


def assert_images(frames: list[Frame], expected: np.ndarray) -> None:
    assert [frame.number for frame in frames] == list(range(len(expected)))
    for frame, image in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(pixels(frame), image)


def test_images_inside_events() -> None:
    actions = list(routed(router(), inline_run(images(3))))
    assert_images(frames_of(actions), images(3))
    assert [frame.seq_num for frame in frames_of(actions)] == [1, 2, 3]
    assert [frame.time for frame in frames_of(actions)] == [101.0, 102.0, 103.0]
    assert isinstance(actions[-1], RunClosed)
    assert actions[-1].n_missing == 0


def test_images_as_nested_lists_and_as_event_pages() -> None:
    run = RawRun()
    page = {
        "descriptor": run.descriptor_uid,
        "seq_num": [1, 2],
        "time": [1.0, 2.0],
        "data": {KEY: [image.tolist() for image in images(2)]},
        "timestamps": {KEY: [0.0, 0.0]},
        "filled": {},
        "uid": ["a", "b"],
    }
    documents = [run.start(), run.descriptor(external=""), ("event_page", page), run.stop(2)]
    assert_images(frames_of(routed(router(), documents)), images(2))


def test_images_of_files_that_somebody_filled_in_are_images_inside_events() -> None:
    run = RawRun()
    name, event = run.event(1, **{KEY: images(1)[0]})
    event["filled"] = {KEY: True}
    documents = [run.start(), run.descriptor(external="FILESTORE:"), (name, event), run.stop(1)]
    (frame,) = frames_of(routed(router(), documents))
    assert isinstance(frame.image, InlineImage)


def test_a_stack_in_an_event_is_several_frames() -> None:
    run = RawRun((3, *SHAPE))
    stacks = images(6).reshape(2, 3, *SHAPE)
    events = [run.event(i + 1, **{KEY: stack}) for i, stack in enumerate(stacks)]
    documents = [run.start(), run.descriptor(external=""), *events, run.stop(2)]
    assert_images(frames_of(routed(router(), documents)), images(6))


@pytest.mark.parametrize("per_event", [False, True])
def test_hdf5_streams(tmp_path: Path, per_event: bool) -> None:
    stored = images(6).reshape(2, 3, *SHAPE) if per_event else images(6)
    actions = list(routed(router(), hdf5_run(tmp_path / "a.h5", stored, per_event=per_event)))
    assert_images(frames_of(actions), images(6))
    # The event comes after its stream_datum and still gives the frame its time.
    times = {a.seq_num: a.time for a in actions if isinstance(a, FrameTimed)}
    assert times == {seq: 100.0 + seq for seq in range(1, len(stored) + 1)}


def test_one_stream_datum_for_many_events_and_old_parameter_names(tmp_path: Path) -> None:
    run = RawRun()
    hdf5_run(tmp_path / "a.h5", images(5))
    documents = [
        run.start(),
        run.descriptor(),
        run.stream_resource(tmp_path / "a.h5", path="/entry/data/data"),
        run.stream_datum(0, 5),
        run.stop(5),
    ]
    assert_images(frames_of(routed(router(), documents)), images(5))


def test_several_files_one_after_the_other(tmp_path: Path) -> None:
    hdf5_run(tmp_path / "a.h5", images(4)[:2])
    hdf5_run(tmp_path / "b.h5", images(4)[2:])
    run = RawRun()
    documents = [
        run.start(),
        run.descriptor(),
        run.stream_resource(tmp_path / "a.h5", HDF5, "a"),
        run.stream_datum(0, 2, "a"),
        run.stream_resource(tmp_path / "b.h5", HDF5, "b"),
        run.stream_datum(0, 2, "b", first_seq_num=3),
        run.stop(4),
    ]
    assert_images(frames_of(routed(router(), documents)), images(4))


@pytest.mark.parametrize(
    ("uri", "parameters"),
    [
        ("tiffs/", {"template": "img_{:05d}.tif"}),
        ("tiffs", {"template": "/{filename}_{:05d}.tif", "filename": "img"}),
        ("tiffs/", {"template": "%s%s_%05d.tif", "filename": "img"}),
        ("tiffs/img", {"template": "_{:05d}.tif"}),
    ],
)
@pytest.mark.parametrize("per_event", [1, 2])
def test_tiff_sequences(tmp_path: Path, uri: str, parameters: Any, per_event: int) -> None:
    write_tiffs(tmp_path / "tiffs", images(4))
    run = RawRun((per_event, *SHAPE))
    documents = [
        run.start(),
        run.descriptor(),
        run.stream_resource(
            f"{tmp_path}/{uri}",
            "multipart/related;type=image/tiff",
            **parameters,
            chunk_shape=[1, *SHAPE],
        ),
        run.stream_datum(0, 4 // per_event),
        run.stop(4 // per_event),
    ]
    assert_images(frames_of(routed(router(), documents)), images(4))


@pytest.mark.parametrize("per_file", [1, 3])
def test_hdf5_sequences(tmp_path: Path, per_file: int) -> None:
    for i in range(6 // per_file):
        write_hdf5(tmp_path / f"part_{i:03d}.h5", images(6)[i * per_file : (i + 1) * per_file])
    run = RawRun()
    resource = run.stream_resource(
        f"{tmp_path}/",
        "multipart/related;type=application/x-hdf5",
        template="part_{:03d}.h5",
        dataset="/entry/data/data",
        chunk_shape=[per_file, *SHAPE],
        join_method="concat",
    )
    documents = [run.start(), run.descriptor(), resource, run.stream_datum(0, 6), run.stop(6)]
    assert_images(frames_of(routed(router(), documents)), images(6))


def test_bulk_documents_of_older_bluesky() -> None:
    run = RawRun()
    events = [run.event(i + 1, **{KEY: image})[1] for i, image in enumerate(images(3))]
    documents = [run.start(), run.descriptor(external=""), ("bulk_events", {"primary": events})]
    assert_images(frames_of(routed(router(), [*documents, run.stop(3)])), images(3))
    documents = classic(RawRun(), "NPY_SEQ", {}, [{"index": 4}, {"index": 5}], "stem")
    bulk = {"resource": "r", "datum_ids": ["r/0", "r/1"]}
    bulk["datum_kwarg_list"] = [{"index": 4}, {"index": 5}]
    events = [document for document in documents if document[0] == "event"]
    documents = [*documents[:3], ("bulk_datum", bulk), *events, documents[-1]]
    found = [frame.image for frame in frames_of(routed(router(), documents))]
    assert found == [NpyImage("/data/stem_4.npy", 0), NpyImage("/data/stem_5.npy", 0)]


@pytest.mark.parametrize(
    "template", ["%99999999d.tif", "{0.__class__}.tif", "{:99999999d}", "%n{}"]
)
def test_templates_that_could_do_harm_give_failed_frames(tmp_path: Path, template: str) -> None:
    run = RawRun()
    kind = "multipart/related;type=image/tiff"
    documents = [
        run.start(),
        run.descriptor(),
        run.stream_resource(tmp_path, kind, template=template),
        run.stream_datum(0, 1),
    ]
    (frame,) = frames_of(routed(router(), documents))
    assert isinstance(frame.image, Unreadable)
    assert frame.image.status == "failed"


def classic(run: RawRun, spec: str, kwargs: Any, datums: list[Any], path: str) -> Documents:
    resource = {
        "uid": "r",
        "run_start": run.uid,
        "spec": spec,
        "root": "/data",
        "resource_path": path,
        "resource_kwargs": kwargs,
        "path_semantics": "posix",
    }
    documents = [run.start(), run.descriptor(external="FILESTORE:"), ("resource", resource)]
    for i, datum in enumerate(datums):
        datum_doc = {"datum_id": f"r/{i}", "resource": "r", "datum_kwargs": datum}
        documents += [("datum", datum_doc), run.event(i + 1, **{KEY: f"r/{i}"})]
    return [*documents, run.stop(len(datums))]


def test_classic_area_detector_hdf5() -> None:
    run = RawRun((2, *SHAPE))
    datums = [{"point_number": 0}, {"point_number": 1}]
    documents = classic(run, "AD_HDF5", {"frame_per_point": 2}, datums, "/sub/a.h5")
    found = [frame.image for frame in frames_of(routed(router(), documents))]
    path, dataset = "/data/sub/a.h5", "/entry/data/data"
    assert found == [Hdf5Image(path, dataset, row, rows_columns=SHAPE) for row in range(4)]


@pytest.mark.parametrize("shape", [(*SHAPE, 0), (*SHAPE[::-1], 0)])
@pytest.mark.parametrize("axes", [(), (1,)])
def test_old_area_detectors_declare_a_third_axis_of_zero(
    tmp_path: Path, shape: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["/entry/data/data"] = images(2).reshape(2, *axes, *SHAPE)
    datums = [{"point_number": 0}, {"point_number": 1}]
    documents = classic(RawRun(shape), "AD_HDF5", {"frame_per_point": 1}, datums, "a.h5")
    resource = next(doc for name, doc in documents if name == "resource")
    resource["root"] = str(tmp_path)
    assert_images(frames_of(routed(router(), documents)), images(2))


def test_classic_area_detector_tiff_and_numpy_sequence() -> None:
    run = RawRun()
    kwargs = {"template": "%s%s_%6.6d.tiff", "filename": "shot", "frame_per_point": 1}
    documents = classic(run, "AD_TIFF", kwargs, [{"point_number": 0}, {"point_number": 1}], "sub")
    found = [frame.image for frame in frames_of(routed(router(), documents))]
    assert found == [TiffImage(f"/data/sub/shot_00000{i}.tiff", 0, SHAPE) for i in (0, 1)]
    kwargs = {"template": "%s%s_%6.6d_WAXS.cbf", "filename": "shot"}
    documents = classic(RawRun(), "AD_CBF", kwargs, [{"point_number": 0}], "sub")
    (frame,) = frames_of(routed(router(), documents))
    assert frame.image == FabioImage("/data/sub/shot_000001_WAXS.cbf", 0)
    documents = classic(RawRun(), "NPY_SEQ", {}, [{"index": 7}], "stem")
    (frame,) = frames_of(routed(router(), documents))
    assert frame.image == NpyImage("/data/stem_7.npy", 0)


def test_the_files_of_an_eiger() -> None:
    run = RawRun((5, *SHAPE))
    documents = classic(run, "AD_EIGER2", {"images_per_file": 2}, [{"seq_id": 7}], "sub/abc")
    found = [frame.image for frame in frames_of(routed(router(), documents))]
    names = [f"/data/sub/abc_7_data_00000{i}.h5" for i in (1, 1, 2, 2, 3)]
    assert found == [
        Hdf5Image(name, "/entry/data/data", row, rows_columns=SHAPE)
        for name, row in zip(names, (0, 1, 0, 1, 0), strict=True)
    ]
    slices = [{"seq_id": 7, "frame_num": i} for i in range(3)]
    documents = classic(RawRun(), "AD_EIGER_SLICE", {"images_per_file": 2}, slices, "sub/abc")
    found = [frame.image for frame in frames_of(routed(router(), documents))]
    assert [(image.name[-9:], image.event) for image in found] == [
        ("000001.h5", 0),
        ("000001.h5", 1),
        ("000002.h5", 0),
    ]


def test_unknown_formats_are_unavailable_frames(tmp_path: Path) -> None:
    documents = classic(RawRun(), "MYSTERY", {}, [{}], "x")
    (frame,) = frames_of(routed(router(), documents))
    assert isinstance(frame.image, Unreadable)
    assert frame.image.status == "unavailable"
    assert "MYSTERY" in frame.image.reason
    assert "say so in input.specs" in frame.image.reason
    documents = classic(RawRun(), "MYSTERY", {}, [{"index": 3}], "stem")
    (frame,) = frames_of(routed(router(specs={"MYSTERY": "NPY_SEQ"}), documents))
    assert frame.image == NpyImage("/data/stem_3.npy", 0)
    run = RawRun()
    resource = run.stream_resource(tmp_path / "a.zarr", "application/x-zarr")
    documents = [run.start(), run.descriptor(), resource, run.stream_datum(0, 1)]
    (frame,) = frames_of(routed(router(), documents))
    assert isinstance(frame.image, Unreadable)


def test_only_selected_runs_and_never_our_own() -> None:
    chosen = router(select={"plan_name": "count", "sample": {"id": 1}})
    for start in ({"sample": {"id": 2}}, {}, {"plan_name": "scan", "sample": {"id": 1}}):
        assert not list(routed(chosen, inline_run(images(1), **start)))
    assert opened(routed(chosen, inline_run(images(1), sample={"id": 1})))
    assert not list(routed(router(), inline_run(images(1), purpose="gixi")))


def test_cameras_alignment_scans_and_other_streams_are_left_alone() -> None:
    run = RawRun((*SHAPE, 3))  # a colour camera
    assert not list(routed(router(), [run.start(), run.descriptor()]))
    run = RawRun((3, 3))  # an orientation matrix
    assert not list(routed(router(), [run.start(), run.descriptor()]))
    run = RawRun()
    assert not list(routed(router(), [run.start(), run.descriptor(stream="dark")]))
    run = RawRun(key="camera")
    assert not list(routed(router(data_key=KEY), [run.start(), run.descriptor()]))


def test_why_a_run_is_left_alone_is_recorded_and_warned_about_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    mistyped = router(data_key="imgg")
    for _ in range(3):
        run = RawRun()
        assert not list(routed(mistyped, [run.start(), run.descriptor(), run.stop(0)]))
    assert mistyped.left_alone.count == 3
    assert "has no key 'imgg', which is input.data_key" in mistyped.left_alone.last
    assert f"its images are {KEY}" in mistyped.left_alone.last
    assert "".join(capsys.readouterr()).count("warning") == 1
    elsewhere = router(stream="primry")
    run = RawRun()
    assert not list(routed(elsewhere, [run.start(), run.descriptor(), run.stop(0)]))
    assert "no stream 'primry', which is input.stream" in elsewhere.left_alone.last
    assert "images in 'primary'" in elsewhere.left_alone.last
    alignment = router()
    assert not list(routed(alignment, [run.start(), run.stop(0)]))
    assert alignment.left_alone.count == 0


def test_a_run_without_frames_gives_no_derived_run_unless_it_announced_some() -> None:
    run = RawRun()
    assert not list(routed(router(), [run.start(), run.descriptor(), run.stop(0)]))
    run = RawRun()
    opening, closing = routed(router(), [run.start(), run.descriptor(), run.stop(2)])
    assert isinstance(opening, RunOpened)
    assert (closing.n_missing, closing.missing) == (2, (0, 1))


def test_two_image_keys_need_a_choice() -> None:
    other = {"source": "x", "dtype": "array", "shape": list(SHAPE)}
    run = RawRun()
    documents = [run.start(), run.descriptor(external="", camera=other)]
    documents += [run.event(1, **{KEY: images(1)[0], "camera": images(1)[0]}), run.stop(1)]
    assert not list(routed(router(), documents))
    assert len(frames_of(routed(router(data_key=KEY), documents))) == 1


def test_documents_in_any_order_and_doubled_give_each_frame_once(tmp_path: Path) -> None:
    documents = hdf5_run(tmp_path / "a.h5", images(3))
    body, stop = documents[:-1], documents[-1]
    shuffled = [*reversed(body), *body, stop, *documents]
    frames = frames_of(routed(router(), shuffled))
    assert sorted(frame.number for frame in frames) == [0, 1, 2]
    for frame in frames:
        np.testing.assert_array_equal(pixels(frame), images(3)[frame.number])


def test_a_datum_that_comes_late_or_never() -> None:
    documents = classic(RawRun(), "NPY_SEQ", {}, [{"index": 0}, {"index": 1}], "s")
    late = [*documents[:3], documents[4], documents[3], documents[6], documents[7]]
    frames = frames_of(routed(router(), late))
    assert frames[0].image == NpyImage("/data/s_0.npy", 0)
    assert isinstance(frames[1].image, Unreadable)
    assert "never came" in frames[1].image.reason


def test_documents_evicted_do_not_hide_that_others_still_wait(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gixi_bluesky.callbacks.runs.parked._MOST_DOCUMENTS", 3)
    time = ManualClock()
    one = Router(InputSettings(), clock=time.clock)
    documents = inline_run(images(4))
    events = [(name, doc) for name, doc in documents if name == "event"]
    other = {"datum_id": "other/0", "resource": "other", "datum_kwargs": {}}
    list(one.feed(*events[0]))
    for event in events[1:3]:
        list(one.feed(*event))
    list(one.feed("datum", other))  # evicts the first event
    missing = events[0][1]["descriptor"]
    assert one.documents_lost == 1
    assert one.awaited == {missing, "other"}
    assert one.missed(2.0) == ()
    time.advance(2.5)
    assert set(one.missed(2.0)) == {missing, "other"}
    printed = capsys.readouterr()
    logged = next(
        line for line in (printed.out + printed.err).splitlines() if "document_lost" in line
    )
    assert missing in logged
    for _ in range(2):  # evicts the other events
        list(one.feed("datum", {**other, "datum_id": "other/1"}))
    assert set(one.missed(2.0)) == {"other"}


def test_a_stream_resource_that_never_comes_does_not_keep_the_run_open(tmp_path: Path) -> None:
    run = RawRun()
    documents = [
        run.start(),
        run.descriptor(),
        run.stream_resource(tmp_path / "a.h5", HDF5, "a"),
        run.stream_datum(0, 1, "a"),
        run.stream_datum(0, 1, "b", first_seq_num=2),
        run.stop(2),
    ]
    *_, closed = routed(router(), documents)
    assert isinstance(closed, RunClosed)
    assert (closed.n_frames, closed.n_missing, closed.missing) == (1, 1, (1,))


def test_frames_that_never_came_are_reported_at_the_stop() -> None:
    documents = inline_run(images(5))
    del documents[3]
    *_, closed = routed(router(), documents)
    assert (closed.n_frames, closed.n_missing, closed.missing) == (4, 1, (1,))


def test_wrong_shapes_fail_and_the_next_frame_goes_on() -> None:
    run = RawRun()
    values = [images(1)[0], images(1, (4, 4))[0], [[1, 2], [3]], "no datum", images(1)[0]]
    events = [run.event(i + 1, **{KEY: value}) for i, value in enumerate(values)]
    documents = [run.start(), run.descriptor(external=""), *events, run.stop(5)]
    frames = sorted(frames_of(routed(router(), documents)), key=lambda frame: frame.number)
    kinds = [type(frame.image) for frame in frames]
    assert kinds == [InlineImage, Unreadable, Unreadable, Unreadable, InlineImage]


TH = FromDocument.model_validate({"from": "th", "unit": "mrad", "scale": 2.0, "offset": 1.0})
EXPECTED = math.degrees((5.0 * 2 + 1) / 1000)


@pytest.mark.parametrize("place", ["event", "configuration", "baseline", "start"])
def test_the_incidence_angle_is_found_wherever_it_is(place: str) -> None:
    run = RawRun(**({"th": 5.0} if place == "start" else {}))
    name, descriptor = run.descriptor(external="")
    documents = [run.start()]
    data = {KEY: images(1)[0]}
    if place == "event":
        data["th"] = np.float64(5.0)
        descriptor["data_keys"]["th"] = {"source": "x", "dtype": "number", "shape": []}
    if place == "configuration":
        descriptor["configuration"] = {"det": {"data": {"th": [5.0]}, "timestamps": {}}}
    if place == "baseline":
        before = RawRun()
        before.uid = run.uid
        baseline = before.descriptor(stream="baseline")
        documents += [baseline, before.event(1, th=5.0)]
    documents += [(name, descriptor), run.event(1, **data), run.stop(1)]
    (frame,) = frames_of(routed(router(TH), documents))
    assert frame.incidence_angle_deg == pytest.approx(EXPECTED)


def test_a_frame_waits_for_the_event_with_its_angle_but_not_for_ever(tmp_path: Path) -> None:
    documents = hdf5_run(tmp_path / "a.h5", images(2))
    documents[1][1]["data_keys"]["th"] = {"source": "x", "dtype": "number", "shape": []}
    documents[4][1]["data"]["th"] = 5.0
    waiting = router(TH, file_timeout_s=5.0)
    actions = [list(waiting.feed(name, doc)) for name, doc in documents[:-2]]
    assert not frames_of(actions[3])
    (frame,) = frames_of(actions[4])
    assert frame.incidence_angle_deg == pytest.approx(EXPECTED)
    assert frame.time == 101.0
    (overdue,) = frames_of(waiting.tick(math.inf))
    assert isinstance(overdue.image, Unreadable)
    assert "'th' is not in the event" in overdue.image.reason


HOSTILE: list[tuple[str, Any]] = [
    ("start", {}),
    ("start", {"uid": 3, "time": 0}),
    ("start", {"uid": "x", "time": "now"}),
    ("descriptor", {"uid": "d", "run_start": "x", "name": "primary", "data_keys": []}),
    ("event", {"descriptor": "d", "seq_num": -1, "time": 0, "data": {}}),
    ("event", {"descriptor": "d", "seq_num": 10**30, "time": 0, "data": {}}),
    ("event", {"descriptor": "d", "seq_num": 1, "time": math.nan, "data": {}}),
    ("event_page", {"descriptor": "d", "seq_num": [1, 2], "time": [0], "data": {}}),
    ("stream_datum", {"stream_resource": "r", "descriptor": "d", "indices": {"start": 0}}),
    (
        "stream_datum",
        {
            "stream_resource": "r",
            "descriptor": "d",
            "indices": {"start": 0, "stop": 10**9},
            "seq_nums": {"start": 1, "stop": 10**9 + 1},
        },
    ),
    ("stream_resource", {"uid": "r", "run_start": "x"}),
    ("stop", {"run_start": None}),
    ("bulk_events", {"primary": [3]}),
    ("bulk_datum", {"resource": "r", "datum_ids": ["a"], "datum_kwarg_list": []}),
    ("datum_page", {"resource": "r", "datum_id": ["a"], "datum_kwargs": {"n": [1, 2]}}),
]


@pytest.mark.parametrize(("name", "doc"), HOSTILE)
def test_documents_that_break_their_schema_are_refused(name: str, doc: Any) -> None:
    with pytest.raises(DocumentError, match=f"^{name}: "):
        list(router().feed(name, doc))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@st.composite
def damaged_runs(draw: st.DrawFn) -> Documents:
    """A run in which documents are lost, doubled, moved, and keys are replaced by anything."""
    documents = [(name, dict(doc)) for name, doc in inline_run(images(3))]
    picked = draw(st.lists(st.sampled_from(documents), max_size=12))
    for i in draw(st.lists(st.integers(0, max(len(picked) - 1, 0)), max_size=3)):
        if picked:
            name, doc = picked[i]
            key = draw(st.sampled_from(sorted(doc)))
            picked[i] = (name, {**doc, key: draw(json_values)})
    return picked


@settings(max_examples=150, deadline=None)
@given(damaged_runs())
def test_whatever_comes_each_frame_comes_at_most_once(documents: Documents) -> None:
    target, numbers = router(), []
    for name, doc in documents:
        try:
            numbers += [(f.run_uid, f.number) for f in frames_of(target.feed(name, doc))]
        except DocumentError:
            continue
    assert max(Counter(numbers).values(), default=1) == 1


def test_recorded_streams_of_real_beamlines_pass(shared_data: Path) -> None:
    n_streams = 0
    for path, streams in recorded_streams(shared_data / "bluesky_docs"):
        for documents in streams:
            n_streams += 1
            actions = list(routed(router(), documents))
            runs, frames = opened(actions), frames_of(actions)
            assert len({(f.run_uid, f.number) for f in frames}) == len(frames), path
            assert {f.run_uid for f in frames} == {run.raw.uid for run in runs}, path
            for run in runs:
                shape = _declared(documents, run.raw.data_key)
                assert len(shape) >= 2, path
                assert min(shape[-2:]) >= 8, path
    assert n_streams > 35


def _declared(documents: Documents, key: str) -> list[int]:
    keys = itertools.chain.from_iterable(
        doc["data_keys"].items() for name, doc in documents if name == "descriptor"
    )
    return next(value["shape"] for name, value in keys if name == key)
