"""Courses: every track measured in every frame, also where and before it was found."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.tables import Courses, Peaks
from gixi_bluesky.processing.tracks.course_plan import CoursePlan, TrackedFrame
from gixi_bluesky.processing.tracks.course_rows import Row, measured_rows
from gixi_bluesky.processing.tracks.places import Places
from gixi_bluesky.processing.tracks.tracker import Tracker
from gixi_bluesky.processing.types import PolarImage

if TYPE_CHECKING:
    from gixi_bluesky.processing.tracks.sums import SumTracks

__all__ = ["CourseFold", "tracked_frame"]

Int64 = NDArray[np.int64]


class CourseFold:
    """Follows the peaks of frames in order, and measures all tracks in all frames. In memory.

    What is measured depends on the peaks of the frames in order and on their images alone, not on
    when `measure` is called.

    stored: (frame, track) pairs that need no measurement
    """

    def __init__(self, stored: Collection[tuple[int, int]] = ()) -> None:
        self._tracker = Tracker()
        self._plan = CoursePlan()
        self._frames: list[TrackedFrame] = []
        self._stored = stored

    @property
    def complete(self) -> bool:
        """True if every track was measured in every frame."""
        return self._plan.complete

    @property
    def places(self) -> Places:
        """The expected place of each track in the latest frame."""
        return self._tracker.places[1]

    def step(self, frame: int, peaks: Peaks) -> Int64:
        """Return the track of each peak of a frame, (m,), -1 = none; frames in order."""
        numbers = self._tracker.step(frame, peaks)
        self._add(frame, numbers)
        return numbers

    def resume(self, frame: int, peaks: Peaks, numbers: Int64) -> None:
        """Take a frame whose tracks are stored. Raises ValueError if they do not follow."""
        self._tracker.resume(frame, peaks, numbers)
        self._add(frame, numbers)

    def measure(self, image: Callable[[int], PolarImage | str]) -> Courses:
        """Return all rows that are due; each row comes once.

        image: returns the polar image of a frame, or why there is none
        """
        rows: list[Row] = []
        for position, frame in enumerate(self._frames):
            tasks = self._plan.tasks(position, frame)
            self._plan.done(position)
            if tasks:
                found = image(frame.number)
                stored = {track for at, track in self._stored if at == frame.number}
                rows += measured_rows(frame, tasks, found, stored)
        table: Courses = Courses.from_rows(rows)
        return table

    def find_in_means(
        self, sums: SumTracks, image: Callable[[int], tuple[PolarImage, float] | None]
    ) -> None:
        """Add tracks that only means of frames show; after the last frame.

        image: returns the polar image of a frame and its incidence angle, None without one
        """
        for frame in self._frames:
            found = image(frame.number)
            if found is None:
                continue
            polar, angle = found
            new = sums.add(polar.intensity, angle, (polar.q, polar.phi), frame.places)
            if new is not None:
                self._plan.add_fixed(*new)

    def _add(self, number: int, numbers: Int64) -> None:
        frame = tracked_frame(number, numbers, self._tracker)
        self._plan.add(frame)
        self._frames.append(frame)


def tracked_frame(number: int, numbers: Int64, tracker: Tracker) -> TrackedFrame:
    """Return the tracks of the frame that the tracker took last.

    numbers: (m,) the track of each of its peaks, -1 = none
    """
    tracks, places = tracker.places
    return TrackedFrame(number, tracks, places, np.unique(numbers[numbers >= 0]))
