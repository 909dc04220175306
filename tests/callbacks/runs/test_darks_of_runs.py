"""Darks in a stream of the run: taken before, again and again, late, or never."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FAKE, Stores, fake_config
from hypothesis import given
from hypothesis import strategies as st
from raw_runs import KEY, SHAPE, Documents, RawRun, feed, images, routed, write_hdf5

from gixi_bluesky.callbacks.analysis import Analysis
from gixi_bluesky.callbacks.documents.value_sources import DarkStream
from gixi_bluesky.callbacks.images.locations import Unreadable
from gixi_bluesky.callbacks.runs.actions import Frame
from gixi_bluesky.callbacks.runs.router import Router
from gixi_bluesky.callbacks.settings import InputSettings
from gixi_bluesky.errors import ConfigError
from gixi_bluesky.processing.settings import CorrectionSettings


class DarkRun:
    """A run with frames of 50 counts more than their number, and darks of any level."""

    def __init__(self, external: str = "") -> None:
        self.run, self.darks = RawRun(), RawRun()
        self.darks.uid = self.run.uid
        self.n = self.n_darks = 0
        self.head: Documents = [
            self.run.start(),
            self.run.descriptor(external=""),
            self.darks.descriptor("dark", external=external),
        ]

    def frame(self) -> tuple[str, dict[str, Any]]:
        self.n += 1
        return self.run.event(self.n, **{KEY: images(1)[0] + np.uint16(50 + self.n)})

    def dark(self, level: int) -> tuple[str, dict[str, Any]]:
        self.n_darks += 1
        return self.darks.event(self.n_darks, **{KEY: np.full(SHAPE, level, np.uint16)})

    @property
    def stop(self) -> tuple[str, dict[str, Any]]:
        return self.run.stop(self.n)


def routed_frames(documents: Documents, events: int = 1) -> list[Frame]:
    dark = DarkStream(stream="dark", events=events)
    target = Router(InputSettings(), None, CorrectionSettings(dark=dark))
    return [a for a in routed(target, documents) if isinstance(a, Frame)]


def levels(frame: Frame) -> list[int]:
    assert frame.dark is not None
    return [int(np.load(image.path)[0, 0]) for image in frame.dark.images]


@given(st.permutations(["dark 1", "dark 2", "dark 3", "frame", "frame", "frame"]))
def test_the_first_darks_are_those_of_every_frame_in_whatever_order(order: list[str]) -> None:
    run = DarkRun()
    darks = {f"dark {i}": run.dark(i) for i in (1, 2, 3)}
    middle = [darks[one] if one in darks else run.frame() for one in order]
    frames = routed_frames([*run.head, *middle, run.stop], events=2)
    assert sorted(f.number for f in frames) == [0, 1, 2]
    assert all(levels(frame) == [1, 2] for frame in frames)


def test_frames_wait_for_a_dark_that_comes_late() -> None:
    run = DarkRun()
    waiting = [*run.head, run.frame(), run.frame()]
    assert not routed_frames(waiting)
    assert [f.number for f in routed_frames([*waiting, run.dark(5)])] == [0, 1]


def test_at_the_stop_fewer_darks_do() -> None:
    run = DarkRun()
    documents = [*run.head, run.dark(4), run.frame()]
    assert not routed_frames(documents, events=3)
    (frame,) = routed_frames([*documents, run.stop], events=3)
    assert levels(frame) == [4]


def test_without_any_dark_the_frames_are_unavailable_at_the_stop() -> None:
    run = DarkRun()
    documents = [*run.head, run.frame(), run.frame()]
    assert not routed_frames(documents)
    frames = routed_frames([*documents, run.stop])
    assert [f.number for f in frames] == [0, 1]
    for frame in frames:
        assert isinstance(frame.image, Unreadable)
        assert frame.image.status == "unavailable"
        assert "no dark image came in the stream 'dark'" in frame.image.reason


def test_darks_inside_events_in_files_and_by_late_datum(tmp_path: Path) -> None:
    inline = DarkRun()
    documents = [*inline.head, inline.dark(2), inline.dark(4), inline.frame(), inline.stop]

    streamed = DarkRun("STREAM:")
    write_hdf5(tmp_path / "dark.h5", np.full((3, *SHAPE), 3, np.uint16))
    documents += [
        *streamed.head,
        streamed.darks.stream_resource(tmp_path / "dark.h5"),
        streamed.darks.stream_datum(0, 2),
        streamed.frame(),
        streamed.stop,
    ]

    classic = DarkRun("OLD:")
    np.save(tmp_path / "dark_0.npy", np.full(SHAPE, 3, np.uint16))
    resource = {
        "uid": "r",
        "run_start": classic.run.uid,
        "spec": "NPY_SEQ",
        "root": str(tmp_path),
        "resource_path": "dark",
        "resource_kwargs": {},
        "path_semantics": "posix",
    }
    documents += [
        *classic.head,
        ("resource", resource),
        classic.darks.event(1, **{KEY: "r/0"}),
        classic.frame(),
        ("datum", {"datum_id": "r/0", "resource": "r", "datum_kwargs": {"index": 0}}),
        classic.stop,
    ]
    stores = Stores()
    config = fake_config(tmp_path, corrections={"dark": {"stream": "dark", "events": 2}})
    with Analysis(config, store=stores, factory=FAKE) as analysis:
        feed(analysis, documents)
        assert analysis.drain(120)
    assert len(stores.made) == 3
    for store in stores.made:
        assert store.table("frames")["status"].tolist() == ["ok"]
        np.testing.assert_allclose(store.table("peaks")["q"], [(1 + 51 - 3) / 100])
    recorded = stores.made[0].start["gixi"]["provenance"]["config"]["corrections"]["dark"]
    assert recorded["stream"] == "dark"


def test_a_dark_that_cannot_be_read_makes_its_frames_unavailable(tmp_path: Path) -> None:
    run = DarkRun("STREAM:")
    stores = Stores()
    config = fake_config(tmp_path, corrections={"dark": {"stream": "dark"}, "sum_frames": 2})
    with Analysis(config, store=stores, factory=FAKE) as analysis:
        feed(
            analysis,
            [
                *run.head,
                run.darks.stream_resource(tmp_path / "absent.h5"),
                run.darks.stream_datum(0, 1),
                run.frame(),
                run.frame(),
                run.stop,
            ],
        )
        assert analysis.drain(120)
    (row,) = stores.only.table("frames").to_dict("records")
    assert row["status"] == "unavailable"
    assert row["reason"].startswith("the dark of the run: ")


def test_the_stream_of_the_images_is_no_dark(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="both name the stream 'primary'"):
        fake_config(tmp_path, corrections={"dark": {"stream": "primary"}})
