"""The interface of the scan's process to the process that measures courses."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.callbacks.courses.image_slots import MOST_IMAGE_BYTES, ImageSlots
from gixi_bluesky.callbacks.courses.messages import (
    CourseFiles,
    FollowedFrame,
    Progress,
    Rows,
    StoredCourses,
    Supplied,
    Work,
)
from gixi_bluesky.callbacks.courses.record_file import RecordFile
from gixi_bluesky.errors import GixiError, StoreError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.child import ChildProcess, ProcessEndedError
from gixi_bluesky.processes.limits import Limits
from gixi_bluesky.processes.loops import Loop
from gixi_bluesky.processing.settings import DetectorSettings

__all__ = ["Axes", "CourseProcess", "MeanSearch"]

Image = NDArray[np.float32]
Axes = tuple[NDArray[np.float64], NDArray[np.float64]]

_CHILD = "gixi_bluesky.callbacks.courses.course_child:serve"
_LIMITS = Limits(memory_gib=4.0, niceness=15)
_BUDGET_S = 0.5
_TIMEOUT_S = 120.0
_START_S = 120.0
_MOST_ROWS = 10_000  # that wait for the store
_MOST_IMAGES = 32 << 20  # bytes that wait for the disk
_MOST_RECORDS = 5000
_MOST_FAILURES = 5  # in a row
_LIVE_GROWTH = 1.1  # factor of frames after which onsets are estimated again
_IDLE_S = 1.0
_WRITE_S = 0.1  # between two looks at what is to be written
_PAUSE_S = 0.2  # longer with each failure
_log = get_logger()


class MeanSearch(NamedTuple):
    """The detector that searches the means of so many frames, 0 = none."""

    detector: DetectorSettings
    frames: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A record that is to be written, and the image that belongs to it."""

    record: FollowedFrame | StoredCourses
    image: Image | None = None


class CourseProcess:
    """Passes frames to a child process and returns rows of `courses`; never blocks its caller.

    The child starts with the first track, or with the frames of the first mean. It keeps its state
    in files that this process holds, so that another one goes on when it dies or hangs. What waits
    here is bounded: images are left out then, and read again from what is stored.

    search: how means of frames are searched; None = they are not
    axes: q (n_q,) 1/angstrom and phi (n_phi,) deg of the images, unless the first frame has others
    stored_image: returns the image that the run has stored of a frame, None without one
    timeout_s: after which a child that does not answer is replaced
    most_image_bytes: that images may take on the disk
    """

    def __init__(
        self,
        axes: Axes,
        search: MeanSearch | None = None,
        stored_image: Callable[[int], Image | None] = lambda _: None,
        *,
        timeout_s: float = _TIMEOUT_S,
        most_image_bytes: int = MOST_IMAGE_BYTES,
    ) -> None:
        self.stored_image = stored_image
        self.error = ""
        self.phases: Mapping[str, Any] = {}
        self.received = 0
        self._axes, self._axes_seen = axes, False
        self._search = search or MeanSearch(DetectorSettings(), 0)
        self._timeout_s = timeout_s
        self._most_image_bytes = most_image_bytes
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._rows: deque[Rows] = deque()
        self._n_rows = 0
        self._finishing = self._complete = self._summarised = self._due = False
        self._frames = self._frames_summarised = self._written = 0
        self._needed = False
        self._failures = 0
        self._files: _Files | None = None
        self._child: ChildProcess | None = None
        self._loop = Loop("gixi-courses", self._turn, self._end)

    @property
    def pid(self) -> int | None:
        """Process id of the child, None when there is none."""
        child = self._child
        return None if child is None else child.pid

    def put(self, frame: FollowedFrame, image: Image | None, axes: Axes | None) -> None:
        """Take the next frame, and its image if it has one."""
        with self._changed:
            if axes is not None and not self._axes_seen:
                self._axes, self._axes_seen = axes, True
            size = 0 if image is None else image.nbytes
            if self._waiting_bytes + size > _MOST_IMAGES:
                image, size = None, 0
            self._add(_Waiting(frame, image))
            self._waiting_bytes += size
            self._frames += 1

    def put_stored(self, courses: StoredCourses) -> None:
        """Take rows that an earlier session stored; before the frames."""
        with self._changed:
            self._add(_Waiting(courses))

    def rows(self, wait_s: float = 0.0) -> Rows | None:
        """Return the next batch of rows, None after a timeout."""
        with self._changed:
            if not self._rows and wait_s:
                self._changed.wait_for(lambda: self._rows or self.finished or self.error, wait_s)
            if not self._rows:
                return None
            batch = self._rows.popleft()
            self._n_rows -= len(batch["frame"])
            self._changed.notify_all()
            return batch

    def finish(self) -> None:
        """Request the measurement of all that is left."""
        with self._changed:
            self._finishing = True
            self._changed.notify_all()

    @property
    def finished(self) -> bool:
        """True if all rows were returned, after `finish`."""
        nothing = not self._needed and not self._waiting
        return self._finishing and not self._rows and (nothing or self._summarised)

    def close(self) -> None:
        """End the process and free the disk."""
        if self._loop.started:
            with self._changed:
                self._changed.notify_all()
            self._loop.stop(0.0)
        if self._child is not None:
            # In a thread of its own, since a process that waits for its disk cannot be killed.
            threading.Thread(target=self._child.end, name="gixi-courses-end", daemon=True).start()

    def _end(self) -> None:
        """End a process that was started while `close` was called, and free the disk."""
        if self._child is not None:
            self._child.end()
        if self._files is not None:
            self._files.close()

    def _add(self, waiting: _Waiting) -> None:
        if len(self._waiting) >= _MOST_RECORDS:
            self._give_up("the disk did not take what is to be measured")
        if self.error:
            return
        self._waiting.append(waiting)
        self._changed.notify_all()
        if not self._loop.started and not self._loop.stopping:
            self._loop.start()

    def _turn(self) -> None:
        """Write waiting records, and let the child work."""
        with self._changed:
            self._changed.wait_for(self._has_work, _IDLE_S)
        if self._loop.stopping or self.error:
            return
        self._write_waiting()
        if self._needed and not self._loop.stopping and self._n_rows < _MOST_ROWS:
            self._work()

    def _has_work(self) -> bool:
        if self._loop.stopping or self._waiting:
            return True
        if self.error or not self._needed or self._n_rows >= _MOST_ROWS:
            return False
        return self._due or (self._finishing and not self._summarised)

    def _write_waiting(self) -> None:
        while not self._loop.stopping:
            with self._changed:
                if not self._waiting:
                    return
                waiting = self._waiting[0]
            self._write(waiting)
            with self._changed:
                if self._waiting:  # not given up meanwhile
                    image = self._waiting.popleft().image
                    self._waiting_bytes -= 0 if image is None else image.nbytes

    def _write(self, waiting: _Waiting) -> None:
        record, files = waiting.record, self._open_files()
        if isinstance(record, FollowedFrame):
            if waiting.image is not None:
                slot = files.images.put(record.tracked.number, waiting.image)
                record = replace(record, slot=slot)
            self._written += 1
            enough = 0 < self._search.frames <= self._written
            self._needed |= enough or len(record.tracked.tracks) > 0
        files.records.append(record)
        self._due = self._needed
        self._complete = self._summarised = False

    def _work(self) -> None:
        last = self._finishing and self._complete
        often = self._frames > _LIVE_GROWTH * self._frames_summarised
        end = self._open_files().records.end
        asked = Work(end, self.received, _BUDGET_S, self._finishing, last or often)
        frames = self._frames
        try:
            answer = self._ask(asked)
        except (GixiError, OSError) as error:
            if self._loop.stopping:
                return
            self._failures += 1
            _log.warning("courses_not_measured", error=str(error), failures=self._failures)
            if self._child is not None:
                self._child.end()
            if self._failures >= _MOST_FAILURES:
                self._give_up(str(error))
            self._loop.pause(_PAUSE_S * self._failures)
            return
        self._failures = 0
        all_read = self._open_files().records.end == end
        if answer.lacking is not None:
            self._supply(answer.lacking)
        with self._changed:
            self.received = answer.first + len(answer.batches)
            self._rows.extend(answer.batches)
            self._n_rows += sum(len(batch["frame"]) for batch in answer.batches)
            self._due = answer.due or not all_read
            if answer.phases is not None:
                self.phases, self._frames_summarised = answer.phases, frames
            self._complete = answer.complete and all_read
            self._summarised = last and self._complete and answer.phases is not None
            self._changed.notify_all()

    def _ask(self, asked: Work) -> Progress:
        if self._child is None or not self._child.alive:
            self._start()
        if self._child is None:
            raise ProcessEndedError("the process that measures courses was ended")
        self._child.send(asked)
        answer = self._answer(self._child, self._timeout_s)
        if isinstance(answer, Exception):
            raise StoreError(str(answer)) from answer
        return cast("Progress", answer)

    def _start(self) -> None:
        if self._child is not None:
            _log.warning("course_process_replaced", pid=self._child.pid)
        files = self._open_files()
        child = ChildProcess(
            _CHILD, name="course", limits=_LIMITS, threads=1, keep=files.descriptors
        )
        child.start()
        q, phi = files.axes
        records, images, results = files.descriptors
        child.send(CourseFiles(records, images, results, q, phi, *self._search))
        self._child = child
        self._answer(child, _START_S)

    def _answer(self, child: ChildProcess, timeout_s: float) -> object:
        """Return the answer of the child, and write meanwhile what arrives.

        Otherwise a child that is slow or hangs would have the queue overflow. Raises
        ProcessEndedError, also for a child that gives no answer in time.
        """
        ends = time.monotonic() + timeout_s
        while not self._loop.stopping:
            with contextlib.suppress(TimeoutError):
                return child.receive(_WRITE_S)
            if time.monotonic() >= ends:
                break
            with contextlib.suppress(OSError):  # the next turn reports it
                self._write_waiting()
        message = f"the process that measures courses did not answer within {timeout_s:g} s"
        raise ProcessEndedError(message)

    def _supply(self, frame: int) -> None:
        """Write the image that the child lacks, if the run has stored it."""
        files, image = self._open_files(), self.stored_image(frame)
        slot = -1 if image is None else files.images.put(frame, image)
        files.records.append(Supplied(frame, slot))

    def _open_files(self) -> _Files:
        if self._files is None:
            self._files = _Files(self._axes, self._most_image_bytes)
        return self._files

    def _give_up(self, reason: str) -> None:
        _log.error("courses_given_up", reason=reason)
        with self._changed:
            self.error = f"courses are not complete: {reason}"
            self._waiting.clear()
            self._waiting_bytes = 0
            self._changed.notify_all()


class _Files:
    """Files without names; they end with this process and its child."""

    def __init__(self, axes: Axes, most_image_bytes: int) -> None:
        self.axes = axes
        self._files = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115 - closed below
        records, images, results = (file.fileno() for file in self._files)
        self.descriptors = (records, images, results)
        self.records = RecordFile(records)
        self.images = ImageSlots(images, (len(axes[1]), len(axes[0])), most_image_bytes)

    def close(self) -> None:
        for file in self._files:
            file.close()
