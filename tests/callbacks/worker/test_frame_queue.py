"""The queue is bounded, and what does not fit goes to disk or is dropped with a row."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from waiting import wait_until

from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
from gixi_bluesky.callbacks.images.locations import (
    FrameReader,
    Hdf5Image,
    InlineImage,
    SpilledImage,
    Unreadable,
)
from gixi_bluesky.callbacks.runs.raw_run import Frame
from gixi_bluesky.callbacks.settings import QueueSettings
from gixi_bluesky.callbacks.worker import frame_queue
from gixi_bluesky.callbacks.worker.frame_queue import FrameQueue
from gixi_bluesky.callbacks.worker.spill_folder import SpillFolder, sweep
from gixi_bluesky.processing.geometry.conditions import Conditions

PIXELS = (128, 1024)  # one image of bytes is an eighth of a MiB


def frame(number: int, image: object = None) -> Frame:
    image = image or InlineImage(np.full(PIXELS, number, np.uint8))
    return Frame("run", number, number + 1, 0.0, image, Conditions(), 0.0, 0.0)  # type: ignore[arg-type]


def dropped(frames: list[Frame]) -> dict[int, str]:
    return {
        one.number: one.image.reason
        for one in frames
        if isinstance(one.image, Unreadable) and one.image.status == "dropped"
    }


def taken(queue: FrameQueue) -> list[Frame]:
    frames = []
    while (one := queue.take(0)) is not None:
        frames.append(one)
    return frames


def test_frames_leave_in_order() -> None:
    queue = FrameQueue(QueueSettings())
    for number in range(5):
        queue.put(frame(number))
    assert [one.number for one in taken(queue)] == [0, 1, 2, 3, 4]
    assert queue.nbytes == 0
    assert queue.take(0.01) is None


def test_drop_oldest_gives_up_the_oldest_and_says_so() -> None:
    queue = FrameQueue(QueueSettings(max_mib=0.5, overflow="drop_oldest"))
    for number in range(10):
        queue.put(frame(number))
    assert queue.nbytes <= 0.5 * 2**20
    frames = taken(queue)
    assert [one.number for one in frames] == list(range(10))  # each keeps its place
    assert list(dropped(frames)) == list(range(7))
    assert dropped(frames)[0] == "the queue was full"


def test_spilled_frames_come_back_in_order_and_bit_by_bit(tmp_path: Path) -> None:
    settings = QueueSettings(max_mib=0.5, spill_directory=tmp_path / "spill")
    queue = FrameQueue(settings)
    for number in range(20):
        queue.put(frame(number))
        wait_until(lambda: queue.nbytes <= 0.5 * 2**20)
    frames = taken(queue)
    assert [one.number for one in frames] == list(range(20))
    assert not dropped(frames)
    assert any(isinstance(one.image, SpilledImage) for one in frames)
    reader = FrameReader(FileAccess((tmp_path / "elsewhere",), {}))
    for one in frames:
        np.testing.assert_array_equal(reader.read(one.image), np.full(PIXELS, one.number))
        queue.release(one)
    wait_until(lambda: not list(tmp_path.rglob("*.npy")))
    queue.close()
    wait_until(lambda: not list((tmp_path / "spill").iterdir()))


def test_a_forked_child_removes_nothing(tmp_path: Path) -> None:
    queue = FrameQueue(QueueSettings(max_mib=0.5, spill_directory=tmp_path))
    for number in range(10):
        queue.put(frame(number))
    wait_until(lambda: queue.nbytes <= 0.5 * 2**20)
    before = sorted(tmp_path.rglob("*.npy"))
    assert before
    forked = os.fork()
    if forked == 0:
        while (one := queue.take(0)) is not None:
            queue.release(one)
        queue.close()
        os._exit(0)
    os.waitpid(forked, 0)
    assert sorted(tmp_path.rglob("*.npy")) == before
    queue.close()
    wait_until(lambda: not list(tmp_path.iterdir()))


def test_the_folder_of_a_killed_process_is_swept_at_the_next_start(tmp_path: Path) -> None:
    forked = os.fork()
    if forked == 0:
        SpillFolder(tmp_path).write(np.zeros((4, 4)))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(forked, 0)
    held = SpillFolder(tmp_path)
    held.write(np.ones((4, 4)))
    fresh = tmp_path / "gixi-spill-being-made"
    fresh.mkdir()
    assert len(list(tmp_path.rglob("*.npy"))) == 2
    FrameQueue(QueueSettings(spill_directory=tmp_path)).close()
    assert sorted(tmp_path.iterdir()) == sorted([held.path, fresh])
    assert sweep(tmp_path) == 0
    held.remove()


def test_a_disk_slower_than_the_detector_never_lets_memory_grow_beyond_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thaws = threading.Event()
    monkeypatch.setattr(np, "save", lambda *_, **__: thaws.wait(180))
    queue = FrameQueue(QueueSettings(max_mib=0.5, spill_directory=tmp_path))
    for number in range(40):
        queue.put(frame(number))  # never waits for the disk, which is frozen
        assert queue.nbytes <= 2**20
    thaws.set()
    frames = taken(queue)
    assert [one.number for one in frames] == list(range(40))
    assert dropped(frames)
    queue.close()


def test_a_frozen_disk_blocks_only_the_thread_that_spills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither frames that come or go, nor the end of the queue; then the next start."""
    thaws = threading.Event()
    frozen: set[str] = set()

    def hang(*_: object, **__: object) -> None:
        frozen.add(threading.current_thread().name)
        assert thaws.wait(120), "the test has left its disk frozen"

    queue = FrameQueue(QueueSettings(max_mib=0.5, spill_directory=tmp_path))
    for number in range(10):
        queue.put(frame(number))
    wait_until(lambda: queue.nbytes <= 0.5 * 2**20)
    with monkeypatch.context() as disk:
        disk.setattr(frame_queue, "_CLOSE_S", 0.1)
        disk.setattr(frame_queue, "_SWEEP_S", 0.1)
        for owner, name in ((np, "save"), (Path, "unlink"), (shutil, "rmtree"), (Path, "glob")):
            disk.setattr(owner, name, hang)
        frames = taken(queue)
        assert any(isinstance(one.image, SpilledImage) for one in frames)
        for one in frames:
            queue.release(one)
        wait_until(lambda: frozen == {"gixi-spill"})
        queue.put(frame(10))
        assert [one.number for one in taken(queue)] == [10]
        queue.close()
        FrameQueue(QueueSettings(max_mib=0.5, spill_directory=tmp_path)).close()
        wait_until(lambda: frozen == {"gixi-spill", "gixi-sweep"})
    thaws.set()
    wait_until(lambda: not list(tmp_path.iterdir()))


def test_a_full_disk_drops_frames_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", refuse)
    queue = FrameQueue(QueueSettings(max_mib=0.5, spill_directory=tmp_path))
    for number in range(6):
        queue.put(frame(number))
    wait_until(lambda: queue.nbytes <= 0.5 * 2**20)
    assert "No space left" in dropped(taken(queue))[0]
    queue.close()


def test_references_to_files_are_never_spilled(tmp_path: Path) -> None:
    queue = FrameQueue(QueueSettings(max_mib=0.1, spill_directory=tmp_path))
    images = [Hdf5Image("/x.h5", "/d", number) for number in range(100)]
    for number, image in enumerate(images):
        queue.put(frame(number, image))
    assert [one.image for one in taken(queue)] == images
    queue.put(frame(0, Unreadable("failed", "x")))
    queue.close()


def test_references_alone_cannot_fill_the_memory_and_a_put_stays_cheap() -> None:
    queue = FrameQueue(QueueSettings(max_mib=1.0, overflow="drop_oldest"))
    for number in range(3000):
        queue.put(frame(number, Hdf5Image("/x.h5", "/d", number)))
    assert queue.nbytes <= 2**20 + 1024
    frames = taken(queue)
    assert len(frames) == 3000
    assert list(dropped(frames)) == list(range(len(dropped(frames))))  # the oldest


def test_what_else_is_held_counts(tmp_path: Path) -> None:
    queue = FrameQueue(QueueSettings(max_mib=1.0, spill_directory=tmp_path), fed=True)
    queue.hold(2**20 + 1)
    assert queue.full
    queue.hold(-(2**20) // 2 - 1)
    assert queue.roomy
    queue.close()
