"""The bounded queue of frames between the documents and the analysis."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from gixi_bluesky.callbacks.images.locations import InlineImage, SpilledImage, Unreadable
from gixi_bluesky.callbacks.runs.raw_run import Frame
from gixi_bluesky.callbacks.settings import QueueSettings
from gixi_bluesky.callbacks.worker.spill_folder import SpillFolder, sweep
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.disk_thread import DiskThread
from gixi_bluesky.processes.loops import Loop

__all__ = ["FrameQueue"]

_MIB = 1 << 20
_ASK_AGAIN_S = 0.05
_CLOSE_S = 5.0
_SWEEP_S = 10.0
_FULL = "the queue was full"
_log = get_logger()


@dataclass(slots=True, eq=False)
class _Entry:
    place: int
    frame: Frame


class FrameQueue:
    """Frames in order of arrival, at most `settings.max_mib` of them in memory.

    Beyond that the newest images go to disk, written by a thread of their own, or the oldest
    frames are dropped. While the disk is slower than the detector, up to as much again waits in
    memory; then, and when the disk is full, frames are dropped too. A dropped frame keeps its place
    in the queue, without its image. Only the thread that spills uses the disk, so that a frozen one
    blocks no other thread.

    fed: the caller who puts frames looks at `full` first, so that none is spilled or dropped
    """

    def __init__(self, settings: QueueSettings, *, fed: bool = False) -> None:
        self._limit = int(settings.max_mib * _MIB)
        self._fed = fed
        self._spills = settings.overflow == "spill" and not fed
        self._runs: dict[str, deque[_Entry]] = {}
        # By place: images in memory, and what else could be dropped.
        self._inline: dict[int, _Entry] = {}
        self._others: dict[int, _Entry] = {}
        self._places = self._length = 0
        self._bytes = self._held = 0
        self._changed = threading.Condition()
        self._closing = False
        self._parent_folder = settings.spill_directory
        self._folder: SpillFolder | None = None
        self._owner = os.getpid()
        self._wake: Callable[[], object] = lambda: None
        self._released: deque[Path] = deque()
        self.spilling = Loop("gixi-spill", self._spill, self._remove_folder)
        if self._spills:
            self._sweep()

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes held in memory, by frames and by results that wait for their turn."""
        return self._bytes + self._held

    @property
    def limit(self) -> int:
        """Bytes that may be held in memory."""
        return self._limit

    @property
    def full(self) -> bool:
        """True if producers that can wait should wait."""
        return self.nbytes > self._limit

    @property
    def roomy(self) -> bool:
        """True if producers that waited may continue: half of the memory is free."""
        return self.nbytes <= self._limit / 2

    def when_put(self, wake: Callable[[], object]) -> None:
        """Register `wake`, which is called after each `put` and must not block."""
        self._wake = wake

    def hold(self, nbytes: int) -> None:
        """Add to the count of bytes held, such as results; negative = released."""
        with self._changed:
            self._held += nbytes

    def put(self, frame: Frame) -> None:
        """Append a frame; makes room at once or lets the spilling thread make it."""
        with self._changed:
            entry = _Entry(self._places, frame)
            self._places += 1
            self._runs.setdefault(frame.run_uid, deque()).append(entry)
            self._index(entry)
            self._length += 1
            self._bytes += frame.image.nbytes
            if not self._fed:
                self._drop_beyond(2 * self._limit if self._spills else self._limit, _FULL)
                if self._spills and self.full and not self.spilling.started:
                    with contextlib.suppress(RuntimeError):  # no thread to be had: the next time
                        self.spilling.start()
            self._changed.notify_all()
        self._wake()

    def take(self, timeout: float, ready: Callable[[str], bool] = lambda _: True) -> Frame | None:
        """Remove and return the oldest frame whose run is ready, None after `timeout` seconds.

        ready: says of a run's uid whether its frames may be taken; asked again now and then
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while (run := self._oldest(ready)) is None:
                left = deadline - time.monotonic()
                if left <= 0 or self._closing:
                    return None
                self._changed.wait(min(left, _ASK_AGAIN_S))
            return self._remove(run)

    def discard(self, run_uid: str | None = None) -> None:
        """Discard the frames of one run, or all of them, without a trace."""
        gone: list[Frame] = []
        with self._changed:
            for uid in [run_uid] if run_uid is not None else list(self._runs):
                while self._runs.get(uid):
                    gone.append(self._remove(uid))
        for frame in gone:
            self.release(frame)

    def release(self, frame: Frame) -> None:
        """Forget a frame that was taken: its spilled image is no longer needed."""
        if isinstance(frame.image, SpilledImage) and self._owner == os.getpid():
            self._released.append(Path(frame.image.path))

    def close(self) -> None:
        """Stop spilling and remove what lies on disk."""
        with self._changed:
            self._closing = True
            self._runs.clear()
            self._inline.clear()
            self._others.clear()
            self._length = self._bytes = self._held = 0
            self._changed.notify_all()
        self.spilling.stop(_CLOSE_S)

    def _index(self, entry: _Entry) -> None:
        if isinstance(entry.frame.image, InlineImage):
            self._inline[entry.place] = entry
        elif not isinstance(entry.frame.image, Unreadable):
            self._others[entry.place] = entry

    def _oldest(self, ready: Callable[[str], bool]) -> str | None:
        heads = sorted((frames[0].place, uid) for uid, frames in self._runs.items())
        return next((uid for _, uid in heads if ready(uid)), None)

    def _remove(self, run_uid: str) -> Frame:
        entry = self._runs[run_uid].popleft()
        if not self._runs[run_uid]:
            del self._runs[run_uid]
        self._inline.pop(entry.place, None)
        self._others.pop(entry.place, None)
        self._length -= 1
        self._bytes -= entry.frame.image.nbytes
        return entry.frame

    def _drop_beyond(self, ceiling: int, reason: str) -> None:
        """Drop the oldest frames but the last until the rest fits; called with the lock."""
        while self.nbytes > ceiling and len(self._inline) + len(self._others) > 1:
            inline = next(iter(self._inline), None)
            other = next(iter(self._others), None)
            if inline is not None and (self._spills or other is None or inline < other):
                entry = self._inline.pop(inline)
            elif other is not None:
                entry = self._others.pop(other)
                self.release(entry.frame)
            self._replace(entry, replace(entry.frame, image=Unreadable("dropped", reason)))

    def _replace(self, entry: _Entry, frame: Frame) -> None:
        self._bytes += frame.image.nbytes - entry.frame.image.nbytes
        entry.frame = frame

    def _sweep(self) -> None:
        disk = DiskThread("gixi-sweep")
        try:
            disk.call(lambda: sweep(self._parent_folder), _SWEEP_S)
        except OSError as error:
            _log.error("spill_folders_not_swept", error=str(error))
        disk.end()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    def _spill(self) -> None:
        while self._released and not self._closing:
            self._released.popleft().unlink(missing_ok=True)
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self.full, timeout=1.0)
            # The newest is analysed last, so it does not come back from disk while it is written.
            newest = next(reversed(self._inline), None)
            if self._closing or not self.full or newest is None:
                entry = None
            else:
                entry = self._inline[newest]
        if entry is None:
            self.spilling.pause(_ASK_AGAIN_S)
        else:
            self._move_to_disk(entry)

    def _move_to_disk(self, entry: _Entry) -> None:
        frame = entry.frame
        if not isinstance(frame.image, InlineImage):
            return
        try:
            if self._folder is None:
                self._folder = SpillFolder(self._parent_folder)
                _log.warning(
                    "queue_spills", folder=str(self._folder.path), frames_waiting=len(self)
                )
            path = self._folder.write(frame.image.array)
        except OSError as error:
            _log.error("queue_cannot_spill", error=str(error))
            with self._changed:
                self._drop_beyond(self._limit, f"{_FULL} and the disk refused: {error.strerror}")
            return
        with self._changed:
            if self._inline.pop(entry.place, None) is None:  # taken or dropped meanwhile
                self._released.append(path)
                return
            self._others[entry.place] = entry
            self._replace(entry, replace(frame, image=SpilledImage(str(path))))
