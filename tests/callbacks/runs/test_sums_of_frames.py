"""Sums of consecutive images: which belong together, and what the row of a sum says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from fakes import FAKE, Stores, fake_config
from hypothesis import given
from hypothesis import strategies as st
from raw_runs import KEY, Documents, RawRun, feed, hdf5_run, images, inline_run, routed

from gixi_bluesky.callbacks.analysis import Analysis
from gixi_bluesky.callbacks.documents.value_sources import DocumentKey, FromDocument
from gixi_bluesky.callbacks.images.locations import InlineImage, SummedImages, Unreadable
from gixi_bluesky.callbacks.runs.actions import Frame, RunClosed
from gixi_bluesky.callbacks.runs.router import Router
from gixi_bluesky.callbacks.settings import InputSettings
from gixi_bluesky.processing.settings import CorrectionSettings


def router(n: int, sources: Any = None) -> Router:
    return Router(InputSettings(), sources, CorrectionSettings(sum_frames=n))


def frames_of(documents: Documents, n: int, sources: Any = None) -> list[Frame]:
    return [a for a in routed(router(n, sources), documents) if isinstance(a, Frame)]


def counts(frame: Frame) -> float:
    assert isinstance(frame.image, InlineImage)
    return float(frame.image.array.mean())


def test_images_of_a_file_are_summed_and_the_rest_at_the_stop(tmp_path: Path) -> None:
    frames = frames_of(hdf5_run(tmp_path / "a.h5", images(7)), 3)
    assert [(f.number, f.seq_num, f.exposures) for f in frames] == [(0, 1, 3), (3, 4, 3), (6, 7, 1)]
    assert [f.note for f in frames] == [
        "sum of images 0 to 2",
        "sum of images 3 to 5",
        "image 6 alone, 2 fewer than wanted",
    ]
    assert [len(f.image.parts) for f in frames if isinstance(f.image, SummedImages)] == [3, 3, 1]


@given(st.permutations(range(7)), st.lists(st.integers(0, 6), max_size=4))
def test_the_same_images_belong_together_in_any_order(order: list[int], again: list[int]) -> None:
    start, descriptor, *events, stop = inline_run(images(7))
    shuffled = [events[i] for i in [*order, *again]]
    actions = list(routed(router(3), [start, descriptor, *shuffled, stop]))
    found = {f.number: counts(f) for f in actions if isinstance(f, Frame)}
    assert found == {0: 1 + 2 + 3, 3: 4 + 5 + 6, 6: 7}
    closed = actions[-1]
    assert isinstance(closed, RunClosed)
    assert (closed.n_images, closed.n_frames, closed.n_missing) == (7, 3, 0)


def test_images_that_never_came_are_reported(tmp_path: Path) -> None:
    documents = inline_run(images(6))
    del documents[3]
    actions = list(routed(router(3), documents))
    first = next(a for a in actions if isinstance(a, Frame) and a.number == 0)
    assert first.note == "sum of images 0, 2, 1 fewer than wanted"
    assert counts(first) == 1 + 3
    closed = actions[-1]
    assert isinstance(closed, RunClosed)
    assert (closed.n_images, closed.n_frames, closed.missing) == (5, 2, (1,))


def test_images_of_different_geometry_are_no_sum() -> None:
    run = RawRun()
    documents = [run.start(), run.descriptor(external="")]
    for i, angle in enumerate((0.1, 0.1, 0.1, 0.2)):
        documents.append(run.event(i + 1, **{KEY: images(1)[0], "th": angle, "i0": 10.0 + i}))
    sources = {"incidence_angle_deg": FromDocument(**{"from": "th"})}
    same, other = frames_of([*documents, run.stop(4)], 2, sources)
    assert isinstance(same.image, InlineImage)
    assert same.incidence_angle_deg == 0.1
    assert isinstance(other.image, Unreadable)
    assert "differ in their geometry" in other.image.reason
    # The monitors of the images add up as their counts do.
    sources = {"monitor": DocumentKey(**{"from": "i0"})}
    assert [f.conditions.monitor for f in frames_of(documents, 2, sources)] == [21.0, 25.0]


def test_an_unreadable_image_makes_its_sum_unreadable() -> None:
    documents = inline_run(images(4))
    documents[3][1]["data"][KEY] = np.ones((3, 3))
    bad, good = frames_of(documents, 2)
    assert isinstance(bad.image, Unreadable)
    assert bad.image.reason.startswith("image 1: got an image of (3, 3)")
    assert counts(good) == 3 + 4


def test_sums_that_wait_for_ever_are_given_up_once() -> None:
    """Only every second image comes: memory stays bounded, and each sum has one row."""
    documents = inline_run(images(400))
    start, descriptor, *events, stop = documents
    late = [*events[::2], events[1]]
    frames = frames_of([start, descriptor, *late, stop], 2)
    assert Counter(f.number for f in frames) == Counter(range(0, 400, 2))
    given_up = [f for f in frames if isinstance(f.image, Unreadable)]
    assert len(given_up) == 200 - 64
    assert "came too late" in given_up[0].image.reason


def test_rows_images_and_counts_of_a_stored_sum(tmp_path: Path) -> None:
    stores = Stores()
    config = fake_config(tmp_path, corrections={"sum_frames": 3}, output={"images": "every_2"})
    with Analysis(config, store=stores, factory=FAKE) as analysis:
        for documents in (inline_run(images(8)), hdf5_run(tmp_path / "raw.h5", images(8))):
            feed(analysis, documents)
        assert analysis.drain(120)
    for store in stores.made:
        rows = store.table("frames").sort_values("frame")
        assert rows["frame"].tolist() == [0, 3, 6]
        assert rows["status"].tolist() == ["ok"] * 3
        assert rows["reason"].tolist()[0] == "sum of images 0 to 2"
        peaks = store.table("peaks").sort_values("frame")
        np.testing.assert_allclose(peaks["q"], [0.06, 0.15, 0.15])
        assert store.stop["gixi"]["n_frames"] == 3
        assert store.start["gixi"]["image_step"] == 6
        uid = store.start["uid"]
        with h5py.File(tmp_path / "results" / f"{uid}.nxs") as file:
            assert file["/entry/polar/frame"][:].tolist() == [0, 6]
            stored = file["/entry/polar/intensity"][:, 0, 0]
        np.testing.assert_allclose(stored, [6, 15])


def test_a_sum_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sum_frames"):
        fake_config(tmp_path, corrections={"sum_frames": 0})
