"""Dark images from a separate stream of a run, for the frames of the run."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from gixi_bluesky.callbacks.documents.value_sources import DarkStream
from gixi_bluesky.callbacks.images.locations import (
    FrameRef,
    InlineImage,
    SpilledImage,
    Unreadable,
)
from gixi_bluesky.callbacks.runs.actions import Action, DarkImages, Frame, RunClosed
from gixi_bluesky.log import get_logger

__all__ = ["RunDarks"]

_HELD_BYTES = 512 << 20  # of frames that wait for the dark
_log = get_logger()


class RunDarks:
    """Gives each frame of one run the mean of the first events of its dark stream.

    Which events these are does not depend on when they come, so that a replay, which may send
    streams one after the other, gives the same. Frames wait for the dark; those that still wait
    when the run stops have what came of it by then, and are unavailable without any.
    """

    def __init__(self, run_uid: str, dark: DarkStream) -> None:
        self._run_uid = run_uid
        self._settings = dark
        self._frames: dict[int, Frame] = {}  # of the dark stream, by number
        self._images: tuple[FrameRef, ...] = ()
        self._held: deque[Frame] = deque()
        self._held_bytes = 0
        self._folder: _Folder | None = None

    def take(self, actions: Iterable[Action]) -> Iterator[Frame]:
        """Take the images of a dark stream; yields the frames that waited for them."""
        for action in actions:
            if isinstance(action, Frame) and action.seq_num <= self._settings.events:
                self._frames[action.number] = replace(action, image=self._on_disk(action.image))
        events = {frame.seq_num for frame in self._frames.values()}
        if not self._images and len(events) == self._settings.events:
            self._complete()
            yield from self._release()

    def __call__(self, actions: Iterable[Action]) -> Iterator[Action]:
        """Pass actions on, frames with their dark."""
        for action in actions:
            if isinstance(action, Frame):
                yield from self._give(action)
            else:
                if isinstance(action, RunClosed):
                    self._complete()
                    yield from self._release()
                yield action

    def _complete(self) -> None:
        self._images = tuple(self._frames[number].image for number in sorted(self._frames))

    def _give(self, frame: Frame) -> Iterator[Frame]:
        if self._images:
            yield self._with_dark(frame)
            return
        if not self._held:
            stream = self._settings.stream
            _log.info("frames_wait_for_dark", raw_uid=self._run_uid, stream=stream)
        self._held.append(frame)
        self._held_bytes += frame.image.nbytes
        while self._held_bytes > _HELD_BYTES:
            oldest = self._held.popleft()
            self._held_bytes -= oldest.image.nbytes
            reason = f"no dark came while {_HELD_BYTES >> 20} MiB of images waited for it"
            yield replace(oldest, image=Unreadable("dropped", reason))

    def _release(self) -> Iterator[Frame]:
        while self._held:
            yield self._with_dark(self._held.popleft())
        self._held_bytes = 0

    def _with_dark(self, frame: Frame) -> Frame:
        if not self._images:
            reason = f"no dark image came in the stream {self._settings.stream!r} of the run"
            return replace(frame, image=Unreadable("unavailable", reason))
        return replace(frame, dark=DarkImages(self._run_uid, self._images, self._folder))

    def _on_disk(self, image: FrameRef) -> FrameRef:
        """Write an image from an event to a file, as it is needed repeatedly."""
        if not isinstance(image, InlineImage):
            return image
        self._folder = self._folder or _Folder()
        try:
            return SpilledImage(str(self._folder.save(image)))
        except OSError as error:
            return Unreadable("unavailable", f"the dark cannot be kept on disk: {error}")


class _Folder:
    """A temporary folder that lives as long as this object."""

    def __init__(self) -> None:
        self._path = Path(tempfile.mkdtemp(prefix="gixi-dark-"))
        self._saved = 0
        weakref.finalize(self, shutil.rmtree, self._path, ignore_errors=True)

    def save(self, image: InlineImage) -> Path:
        self._saved += 1
        path = self._path / f"{self._saved}.npy"
        np.save(path, image.array, allow_pickle=False)
        return path
