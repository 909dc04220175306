"""The measurement of one run's courses in limited pieces of work, and the onsets."""

from __future__ import annotations

import math
import time
from array import array
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.callbacks.courses.image_slots import ImageSlots
from gixi_bluesky.callbacks.courses.messages import (
    NO_IMAGE,
    CourseFiles,
    FollowedFrame,
    Progress,
    Rows,
    StoredCourses,
    Supplied,
    Work,
)
from gixi_bluesky.callbacks.courses.record_file import RecordFile
from gixi_bluesky.log import get_logger
from gixi_bluesky.processing.tables import Courses
from gixi_bluesky.processing.tracks.course_plan import CoursePlan
from gixi_bluesky.processing.tracks.course_rows import measured_rows
from gixi_bluesky.processing.tracks.ledger import Ledger
from gixi_bluesky.processing.tracks.places import Places
from gixi_bluesky.processing.tracks.scatter import with_scatter
from gixi_bluesky.processing.tracks.sums import Search, SumTracks
from gixi_bluesky.processing.types import PolarImage

__all__ = ["CourseJob"]

_ROWS_AT_ONCE = 2000
_FEWEST_BINS = 16  # of an image along phi and q
_SWEEP_GROWTH = 1.25  # factor of frames after which earlier ones are measured again
_FATAL_ATTEMPTS = 2
_log = get_logger()

_BOUNDS = ("", "_low", "_high")
_FATAL = "measuring this frame ended its process"


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A frame is going to be measured."""

    frame: int


@dataclass(frozen=True, slots=True)
class _Measured:
    """A frame was measured, and its rows."""

    frame: int
    columns: Rows


class CourseJob:
    """Measures due courses, and continues where an earlier process ended.

    Its memory grows by some tens of bytes a frame; images, places and rows are in the files.
    """

    def __init__(self, files: CourseFiles) -> None:
        self._records = RecordFile(files.records)
        self._images = ImageSlots(files.images, (len(files.phi), len(files.q)))
        self._results = RecordFile(files.results)
        self._axes = (files.q, files.phi)
        self._plan = CoursePlan()
        self._ledger = Ledger()
        self._offsets = array("q")
        self._times = array("d")
        self._stored: defaultdict[int, array[int]] = defaultdict(_tracks)  # by frame
        self._sums = _Sums(files)
        self._supplied: dict[int, int] = {}
        self._batches = array("q")  # offsets of the rows in the file of results
        self._attempts: defaultdict[int, int] = defaultdict(int)
        self._next_sweep = 0
        self._recall()

    def work(self, asked: Work) -> Progress:
        """Measure for at most the requested time."""
        self._read(asked.records_end)
        ends = time.monotonic() + asked.budget_s
        lacking = None
        rows = 0
        while rows < _ROWS_AT_ONCE and lacking is None and time.monotonic() < ends:
            position = self._due(complete=asked.complete)
            if position is not None:
                done, lacking = self._measure(position)
                rows += done
            elif self._sums.next < len(self._plan):
                lacking = self._sum(self._sums.next)
            else:
                break
        first, batches = asked.received, []
        size = 0
        for offset in self._batches[first:]:
            columns = self._batch(offset)
            batches.append(columns)
            size += len(columns["frame"])
            if size >= _ROWS_AT_ONCE:
                break
        sent_all = first + len(batches) == len(self._batches)
        return Progress(
            first,
            tuple(batches),
            due=not sent_all or self._any_due(complete=asked.complete),
            complete=sent_all and not self._any_due(complete=True),
            lacking=lacking,
            phases=self._phases() if asked.summarise else None,
        )

    def _recall(self) -> None:
        """Read the measurements of an earlier process."""
        for offset, record in self._results.follow(1 << 62):
            if isinstance(record, _Attempt):
                self._attempts[record.frame] += 1
            elif isinstance(record, _Measured):
                self._attempts.pop(record.frame, None)
                if record.columns["frame"]:
                    self._batches.append(offset)
                    self._note(record.columns)
                self._stored[record.frame].extend(record.columns["track"])

    def _batch(self, offset: int) -> Rows:
        record = self._results.read(offset)
        return record.columns if isinstance(record, _Measured) else {}

    def _read(self, end: int) -> None:
        for offset, record in self._records.follow(end):
            if isinstance(record, FollowedFrame):
                self._plan.add(record.tracked)
                self._offsets.append(offset)
                self._times.append(record.time)
                self._ledger.add_frame(record.peak_tracks, record.matches, record.match_peaks)
            elif isinstance(record, Supplied):
                self._supplied[record.frame] = record.slot
            elif isinstance(record, StoredCourses):
                self._ledger.courses.add(
                    record.frame, record.track, record.intensity, record.intensity_error
                )
                for frame, track in zip(record.frame.tolist(), record.track.tolist(), strict=True):
                    self._stored[frame].append(track)

    def _any_due(self, *, complete: bool) -> bool:
        return self._sums.next < len(self._plan) or self._due(complete=complete) is not None

    def _due(self, *, complete: bool) -> int | None:
        """Return the position of the frame to measure next, None where there is none now.

        Later tracks in earlier frames wait for all means, which may add tracks.
        """
        own = self._plan.own_due()
        waits = not (complete or len(self._plan) >= self._next_sweep)
        if own is not None or waits or self._sums.next < len(self._plan):
            return own
        found = self._plan.births_due()
        if found is None and len(self._plan):
            self._next_sweep = math.ceil(_SWEEP_GROWTH * len(self._plan))
        return found

    def _frame(self, position: int) -> FollowedFrame:
        record = self._records.read(self._offsets[position])
        if not isinstance(record, FollowedFrame):
            message = f"the record of frame {self._plan.number(position)} is not that of a frame"
            raise TypeError(message)
        return record

    def _sum(self, position: int) -> int | None:
        """Add a frame to the mean; return the frame whose image is lacking, None if it is there."""
        record = self._frame(position)
        image = self._stored_image(record)
        frame = record.tracked.number
        if image is None and not record.reason and frame not in self._supplied:
            return frame
        new = self._sums.add(image, record)
        if new is not None:
            self._plan.add_fixed(*new)
        return None

    def _measure(self, position: int) -> tuple[int, int | None]:
        """Measure a frame; return the number of rows, or the frame whose image is lacking."""
        record = self._frame(position)
        frame = record.tracked.number
        tasks = self._plan.tasks(position, record.tracked)
        stored = set(self._stored.get(frame, ()))
        if all(stored.issuperset(task.tracks.tolist()) for task in tasks):
            self._plan.done(position)
            return 0, None
        found = self._image(record)
        if found is None:
            return 0, frame
        if self._attempts.get(frame, 0) >= _FATAL_ATTEMPTS:
            found = _FATAL
        self._results.append(_Attempt(frame))
        table: Courses = Courses.from_rows(measured_rows(record.tracked, tasks, found, stored))
        columns = {name: values.tolist() for name, values in table.items()}
        offset = self._results.append(_Measured(frame, columns))
        self._plan.done(position)
        self._attempts.pop(frame, None)
        self._supplied.pop(frame, None)
        if len(table):
            self._batches.append(offset)
            self._note(columns)
        return len(table), None

    def _note(self, columns: Rows) -> None:
        self._ledger.courses.add(
            np.asarray(columns["frame"], np.int64),
            np.asarray(columns["track"], np.int64),
            np.asarray(columns["intensity"], float),
            np.asarray(columns["intensity_error"], float),
        )

    def _image(self, record: FollowedFrame) -> PolarImage | str | None:
        """Return the image of a frame, the reason why there is none, or None if it is needed."""
        if record.reason:
            return record.reason
        image = self._stored_image(record)
        if image is None:
            return NO_IMAGE if record.tracked.number in self._supplied else None
        return self._polar(image)

    def _stored_image(self, record: FollowedFrame) -> NDArray[np.float32] | None:
        frame = record.tracked.number
        image = self._images.get(frame, record.slot)
        if image is None and frame in self._supplied:
            image = self._images.get(frame, self._supplied[frame])
        return image

    def _polar(self, image: NDArray[np.float32]) -> PolarImage | str:
        if min(image.shape) < _FEWEST_BINS:
            n_phi, n_q = image.shape
            return f"nothing can be measured in an image of {n_phi} x {n_q} bins"
        return with_scatter(image, *self._axes)

    def _phases(self) -> dict[str, dict[str, float | int | None]]:
        times = {self._plan.number(i): self._times[i] for i in range(len(self._plan))}
        rows = self._ledger.phases(times).to_dict("records")
        return {str(row["phase"]): _onset(row) for row in rows if np.isfinite(row["onset_frame"])}


class _Sums:
    """The search in means of frames; it is left out when it fails."""

    def __init__(self, files: CourseFiles) -> None:
        self._files = files
        self._tracks: SumTracks | None = None
        self._off = not files.sums_of
        self.next = 0  # position of the frame that comes next

    def add(
        self, image: NDArray[np.float32] | None, record: FollowedFrame
    ) -> tuple[NDArray[np.int64], Places] | None:
        """Take the next frame; return tracks that its mean shows."""
        self.next += 1
        if self._off or image is None:
            return None
        axes = (self._files.q, self._files.phi)
        try:
            if self._tracks is None:
                self._tracks = SumTracks(lambda polar: self._search(polar), self._files.sums_of)
            return self._tracks.add(image, record.incidence_angle_deg, axes, record.tracked.places)
        except Exception as error:  # courses of the other tracks must not be lost by it
            self._off = True
            _log.error("means_not_searched", exc_info=error)
            return None

    @cached_property
    def _search(self) -> Search:
        """Loaded with the first mean, as it takes time and memory."""
        from gixi_bluesky.processing.tracks.sum_search import peak_search

        return peak_search(self._files.detector)


def _tracks() -> array[int]:
    return array("i")


def _onset(row: Mapping[Any, Any]) -> dict[str, float | int | None]:
    """Return onset and end in JSON types; frames are whole numbers."""
    found: dict[str, float | int | None] = {}
    for what in ("onset", "end"):
        for bound in _BOUNDS:
            frame, moment = row[f"{what}_frame{bound}"], row[f"{what}_time{bound}"]
            found[f"{what}_frame{bound}"] = int(frame) if math.isfinite(frame) else None
            found[f"{what}_time{bound}"] = float(moment) if math.isfinite(moment) else None
    return found
