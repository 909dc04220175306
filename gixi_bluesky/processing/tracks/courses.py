"""Courses: every track measured in every frame, also where and before it was found."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.tables import Courses, Peaks
from gixi_bluesky.processing.tracks.course_plan import CoursePlan, Task, TrackedFrame
from gixi_bluesky.processing.tracks.forced import ForcedMeasurement
from gixi_bluesky.processing.tracks.tracker import Tracker
from gixi_bluesky.processing.types import PolarImage

__all__ = ["CourseFold", "measured_rows", "tracked_frame"]

Int64 = NDArray[np.int64]
Row = dict[str, float | int | str]

_LIMIT_SIGMAS = 1.645  # one-sided 95 %


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
        """Whether every track was measured in every frame."""
        return self._plan.complete

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


def measured_rows(
    frame: TrackedFrame,
    tasks: Iterable[Task],
    image: PolarImage | str,
    stored: Collection[int] = (),
) -> list[Row]:
    """Return a row of `courses` for each track of the tasks that is not in `stored`.

    image: of the frame, or why there is none
    """
    rows: list[Row] = []
    forced: ForcedMeasurement | None = None
    for task in tasks:
        wanted = [i for i, track in enumerate(task.tracks) if int(track) not in stored]
        if not wanted:
            continue
        if forced is None and not isinstance(image, str):
            forced = ForcedMeasurement(image)
        rows += _task_rows(frame, task, wanted, forced, str(image) if forced is None else "")
    return rows


def _task_rows(
    frame: TrackedFrame,
    task: Task,
    wanted: list[int],
    image: ForcedMeasurement | None,
    reason: str,
) -> list[Row]:
    found = None if image is None else image.at(task.places.joined(task.beside))
    rows: list[Row] = []
    for i in wanted:
        track = int(task.tracks[i])
        row: Row = {
            "frame": frame.number,
            "track": track,
            "detected": int(track in frame.detected),
        }
        if found is None:
            row |= {"reason": reason}
        elif not np.isfinite(found.intensity[i]):
            row |= {"reason": "no data at this place"}
        else:
            intensity, error = float(found.intensity[i]), float(found.intensity_error[i])
            row |= {
                "q": float(found.q[i]),
                "q_error": float(found.q_error[i]),
                "intensity": intensity,
                "intensity_error": error,
                "upper_limit": max(intensity, 0.0) + _LIMIT_SIGMAS * error,
                "reason": "",
            }
        rows.append(row)
    return rows
