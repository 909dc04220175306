"""The bounded queue of frames between the documents and the analysis."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from gixi_bluesky.callbacks.images.locations import InlineImage, SpilledImage
from gixi_bluesky.callbacks.runs.raw_run import Frame
from gixi_bluesky.callbacks.settings import QueueSettings
from gixi_bluesky.log import get_logger

__all__ = ["FrameQueue"]

_MIB = 1 << 20
_ASK_AGAIN_S = 0.05
_log = get_logger()


class FrameQueue:
    """Frames in order of arrival, at most `settings.max_mib` of them in memory.

    Beyond that the newest images go to disk, written by a thread of their own, or the oldest
    frames are dropped. While the disk is slower than the detector, up to as much again waits in
    memory; then, and when the disk is full, frames are dropped too. `put` never waits.

    dropped: called with each frame that is given up and why, on the thread that put or spilled
    fed: whoever puts frames looks at `full` first, so that none is spilled or dropped
    """

    def __init__(
        self,
        settings: QueueSettings,
        dropped: Callable[[Frame, str], None],
        *,
        fed: bool = False,
    ) -> None:
        self._limit = int(settings.max_mib * _MIB)
        self._fed = fed
        self._spills = settings.overflow == "spill" and not fed
        self._dropped = dropped
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._parent_folder = settings.spill_directory
        self._folder: Path | None = None
        self._written = 0
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return self._bytes

    @property
    def full(self) -> bool:
        """Whether whoever can wait should wait."""
        return self._bytes > self._limit

    @property
    def roomy(self) -> bool:
        """Whether whoever waited may go on: half of it is free."""
        return self._bytes <= self._limit / 2

    def put(self, frame: Frame) -> None:
        """Append a frame; makes room at once or lets the spilling thread make it."""
        with self._changed:
            self._frames.append(frame)
            self._bytes += frame.image.nbytes
            ceiling = 2 * self._limit if self._spills else self._limit
            over = self._bytes > ceiling and not self._fed
            victims = self._evict(ceiling) if over else []
            if self._spills and self._bytes > self._limit and self._thread is None:
                self._thread = threading.Thread(target=self._spill, name="gixi-spill", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        self._give_up(victims, "the queue was full")

    def take(self, timeout: float, ready: Callable[[str], bool] = lambda _: True) -> Frame | None:
        """Remove and return the oldest frame whose run is ready, None after `timeout` seconds.

        ready: says of a run's uid whether its frames may be taken; asked again now and then
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while (place := self._oldest(ready)) is None:
                left = deadline - time.monotonic()
                if left <= 0 or self._closing:
                    return None
                self._changed.wait(min(left, _ASK_AGAIN_S))
            frame = self._frames[place]
            del self._frames[place]
            self._bytes -= frame.image.nbytes
            return frame

    def discard(self, run_uid: str | None = None) -> None:
        """Forget the frames of one run, or all of them, as if they had never come."""
        with self._changed:
            everything, self._frames = self._frames, deque()
            gone: list[Frame] = []
            for frame in everything:
                chosen = run_uid is None or frame.run_uid == run_uid
                (gone if chosen else self._frames).append(frame)
            self._bytes -= sum(frame.image.nbytes for frame in gone)
        for frame in gone:
            self.release(frame)

    def release(self, frame: Frame) -> None:
        """Forget a frame that was taken: its spilled image is no longer needed."""
        if isinstance(frame.image, SpilledImage):
            Path(frame.image.path).unlink(missing_ok=True)

    def close(self) -> None:
        """Stop spilling and remove what lies on disk."""
        with self._changed:
            self._closing = True
            self._frames.clear()
            self._bytes = 0
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=10.0)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _oldest(self, ready: Callable[[str], bool]) -> int | None:
        answers: dict[str, bool] = {}
        for place, frame in enumerate(self._frames):
            if frame.run_uid not in answers:
                answers[frame.run_uid] = ready(frame.run_uid)
            if answers[frame.run_uid]:
                return place
        return None

    def _evict(self, ceiling: int) -> list[Frame]:
        """Remove the oldest frames that hold pixels until the rest fits; called with the lock."""
        victims: list[Frame] = []
        kept: deque[Frame] = deque()
        while self._bytes > ceiling and len(self._frames) > 1:
            frame = self._frames.popleft()
            if isinstance(frame.image, InlineImage) or not self._spills:
                self._bytes -= frame.image.nbytes
                victims.append(frame)
            else:
                kept.append(frame)
        self._frames.extendleft(reversed(kept))
        return victims

    def _give_up(self, victims: list[Frame], reason: str) -> None:
        for frame in victims:
            self.release(frame)
            self._dropped(frame, reason)

    def _spill(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._bytes > self._limit)
                if self._closing:
                    return
                frame = self._newest_inline()
            if frame is None:
                # References to files alone fill the limit: there is nothing to write.
                with self._changed:
                    self._changed.wait(timeout=0.5)
                continue
            self._move_to_disk(frame)

    def _newest_inline(self) -> Frame | None:
        # The newest is analysed last, so it does not come back from disk while it is written.
        return next((f for f in reversed(self._frames) if isinstance(f.image, InlineImage)), None)

    def _move_to_disk(self, frame: Frame) -> None:
        try:
            if self._folder is None:
                if self._parent_folder is not None:
                    self._parent_folder.mkdir(parents=True, exist_ok=True)
                self._folder = Path(tempfile.mkdtemp(prefix="gixi-spill-", dir=self._parent_folder))
                _log.warning("queue_spills", folder=str(self._folder), frames_waiting=len(self))
            self._written += 1
            path = self._folder / f"{self._written}.npy"
            if isinstance(frame.image, InlineImage):
                np.save(path, frame.image.array, allow_pickle=False)
        except OSError as error:
            _log.error("queue_cannot_spill", error=str(error))
            with self._changed:
                victims = self._evict(self._limit)
            self._give_up(victims, f"the queue was full and the disk refused: {error.strerror}")
            return
        spilled = replace(frame, image=SpilledImage(str(path)))
        with self._changed:
            place = next((i for i, one in enumerate(self._frames) if one is frame), None)
            if place is None:  # taken meanwhile
                path.unlink(missing_ok=True)
                return
            self._frames[place] = spilled
            self._bytes += spilled.image.nbytes - frame.image.nbytes
