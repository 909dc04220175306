"""A growing folder becomes a run that the router understands."""

from __future__ import annotations

import os

import event_model
import h5py
import numpy as np
import pytest
import tifffile

from gixi_bluesky.callbacks.folder import FolderRun, folder_input
from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
from gixi_bluesky.callbacks.images.locations import FrameReader
from gixi_bluesky.callbacks.runs.raw_run import Frame, FrameTimed, RunClosed
from gixi_bluesky.callbacks.runs.router import Router
from gixi_bluesky.callbacks.settings import InputSettings
from gixi_bluesky.errors import UnavailableError

IMAGE = np.arange(35, dtype=np.int32).reshape(5, 7)


class Watched:
    """A folder that is followed, with what the router makes of its documents."""

    def __init__(self, folder):
        self.router = Router(folder_input(InputSettings(), folder))
        self.actions = []
        self.run = FolderRun(folder, self.feed)

    def feed(self, name, doc):
        event_model.schema_validators[event_model.DocumentNames[name]].validate(doc)
        self.actions += self.router.feed(name, doc)

    def of(self, kind):
        return [action for action in self.actions if isinstance(action, kind)]


@pytest.fixture
def watched(tmp_path):
    return Watched(tmp_path)


def test_a_file_counts_when_two_looks_agree(tmp_path, watched):
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0")
    assert watched.run.poll() == 0
    tifffile.imwrite(path, IMAGE)
    assert watched.run.poll() == 0
    assert watched.run.poll() == 1
    assert watched.run.poll() == 0
    (frame,) = watched.of(Frame)
    read = FrameReader(FileAccess((), {})).read(frame.image)
    np.testing.assert_array_equal(read, IMAGE)


def test_frames_come_in_the_order_of_writing_and_know_their_file(tmp_path, watched):
    for age, name in enumerate(("c.tif", "a.tif", "b.tif")):
        tifffile.imwrite(tmp_path / name, IMAGE)
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["/entry/data/data"] = np.stack([IMAGE, IMAGE])
    watched.run.poll()
    watched.run.poll()
    names = [watched.run.name_of(frame.number) for frame in watched.of(Frame)]
    expected = ["c.tif", "a.tif", "b.tif", "d.h5::0", "d.h5::1"]
    assert names == [str(tmp_path / name) for name in expected]
    assert [timed.time for timed in watched.of(FrameTimed)][:3] == [1000, 1001, 1002]


def test_a_file_that_cannot_be_read_still_gets_its_frame(tmp_path, watched):
    (tmp_path / "junk.tif").write_bytes(b"junk")
    watched.run.poll()
    watched.run.poll()
    (frame,) = watched.of(Frame)
    with pytest.raises(UnavailableError):
        FrameReader(FileAccess((), {})).read(frame.image)


def test_other_files_and_empty_ones_are_left_alone(tmp_path, watched):
    (tmp_path / "log.txt").write_text("x")
    (tmp_path / "empty.tif").touch()
    (tmp_path / "folder.tif").mkdir()
    watched.run.poll()
    assert watched.run.poll() == 0


def test_the_stop_closes_the_run_with_all_frames(tmp_path, watched):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE)
    watched.run.poll()
    watched.run.poll()
    watched.run.stop()
    (closed,) = watched.of(RunClosed)
    assert (closed.n_frames, closed.n_missing) == (1, 0)


def test_an_absent_folder_is_told(tmp_path):
    with pytest.raises(UnavailableError, match="expected the folder to follow"):
        FolderRun(tmp_path / "absent", lambda name, doc: None)


def test_configured_roots_stay_and_the_folder_joins_them(tmp_path):
    settings = folder_input(InputSettings(roots=("/data",)), tmp_path)
    assert tmp_path in settings.roots
    assert folder_input(InputSettings(), tmp_path).roots == ()
