"""A growing folder becomes a run that the router understands."""

from __future__ import annotations

import gzip
import os

import event_model
import fabio
import h5py
import numpy as np
import pytest
import tifffile

from gixi_bluesky.callbacks.folder import FolderRun, folder_input
from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
from gixi_bluesky.callbacks.images.locations import FrameReader, Unreadable
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


def test_an_absent_folder_is_reported(tmp_path):
    with pytest.raises(UnavailableError, match="expected the folder to follow"):
        FolderRun(tmp_path / "absent", lambda name, doc: None)


def test_configured_roots_stay_and_the_folder_joins_them(tmp_path):
    settings = folder_input(InputSettings(roots=("/data",)), tmp_path)
    assert tmp_path in settings.roots
    assert folder_input(InputSettings(), tmp_path).roots == ()


def test_files_of_one_time_come_in_natural_order_and_compressed_ones_are_read(tmp_path, watched):
    for number in (10, 9, 1):
        path = tmp_path / f"x_{number}.cbf"
        fabio.cbfimage.CbfImage(data=IMAGE + number).write(str(path))
        (tmp_path / f"x_{number}.cbf.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
        os.utime(tmp_path / f"x_{number}.cbf.gz", (1000, 1000))
    watched.run.poll()
    watched.run.poll()
    frames = watched.of(Frame)
    names = [watched.run.name_of(frame.number) for frame in frames]
    assert names == [str(tmp_path / f"x_{number}.cbf.gz") for number in (1, 9, 10)]
    reader = FrameReader(FileAccess((), {}))
    for frame, number in zip(frames, (1, 9, 10), strict=True):
        np.testing.assert_array_equal(reader.read(frame.image), IMAGE + number)


def test_a_file_that_is_no_image_is_reported_once_for_each_kind(tmp_path, watched, capsys):
    for name in ("a.raw", "b.raw", "notes", ".hidden.raw"):
        (tmp_path / name).write_bytes(b"x")
    watched.run.poll()
    watched.run.poll()
    reported = "".join(capsys.readouterr())
    assert reported.count("image_file_ignored") == 2
    assert "notes" in reported
    assert "ending in .raw" in reported


def test_a_master_beside_its_data_files_adds_no_frame(tmp_path, watched):
    images = np.arange(3 * 400, dtype=np.uint32).reshape(3, 20, 20)
    with h5py.File(tmp_path / "s_master.h5", "w") as file:
        file["/entry/data/data_000001"] = h5py.ExternalLink("s_data_000001.h5", "/entry/data/data")
    watched.run.poll()
    watched.run.poll()
    with h5py.File(tmp_path / "s_data_000001.h5", "w") as file:
        file["/entry/data/data"] = images
    watched.run.poll()
    watched.run.poll()
    frames = watched.of(Frame)
    assert [watched.run.name_of(frame.number) for frame in frames] == [
        f"{tmp_path}/s_data_000001.h5::{i}" for i in range(3)
    ]


def test_a_master_of_files_elsewhere_sends_a_resource_for_each(tmp_path, watched):
    images = np.arange(3 * 400, dtype=np.uint32).reshape(3, 20, 20)
    (tmp_path / "raw").mkdir()
    with h5py.File(tmp_path / "s_master.h5", "w") as file:
        for number, part in enumerate((images[:2], images[2:]), start=1):
            name = f"raw/s_data_{number:06d}.h5"
            file[f"/entry/data/data_{number:06d}"] = h5py.ExternalLink(name, "/entry/data/data")
            with h5py.File(tmp_path / name, "w") as data:
                data["/entry/data/data"] = part
    watched.run.poll()
    watched.run.poll()
    reader = FrameReader(FileAccess((), {}))
    read = [reader.read(frame.image) for frame in watched.of(Frame)]
    np.testing.assert_array_equal(read, images)


def test_a_file_that_leaves_a_choice_says_so_in_its_frame(tmp_path, watched):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["/one"] = file["/two"] = np.zeros((20, 20))
        file["/three"] = np.zeros((20, 20))
    watched.run.poll()
    watched.run.poll()
    (frame,) = watched.of(Frame)
    assert isinstance(frame.image, Unreadable)
    assert frame.image.status == "failed"
    assert "/one" in frame.image.reason
    assert "/three" in frame.image.reason
