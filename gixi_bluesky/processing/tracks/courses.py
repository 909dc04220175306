"""Courses: every track measured in every frame, also where and before it was found."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.tables import Courses, Peaks
from gixi_bluesky.processing.tracks.forced import measure_at
from gixi_bluesky.processing.tracks.places import Places
from gixi_bluesky.processing.tracks.tracker import Tracker
from gixi_bluesky.processing.types import PolarImage

__all__ = ["CourseFold"]

Int64 = NDArray[np.int64]

_LIMIT_SIGMAS = 1.645  # one-sided 95 %


@dataclass(frozen=True, slots=True)
class _Task:
    """Tracks to be measured in a frame; those beside them only because they overlap."""

    tracks: Int64
    places: Places
    beside: Places


class CourseFold:
    """Follows the peaks of frames in order, and measures all tracks in all frames.

    A track that gets its number in frame n is measured in the frames before at its place in
    frame n, and from then on where it is expected. What is measured depends on the peaks of the
    frames in order and on their images alone, not on when `measure` is called.

    stored: (frame, track) pairs that need no measurement
    """

    def __init__(self, stored: Collection[tuple[int, int]] = ()) -> None:
        self._tracker = Tracker()
        self._stored = stored
        self._known = 0
        self._placed: dict[int, Places] = {}
        self._detected: dict[int, frozenset[int]] = {}
        self._tasks: dict[int, list[_Task]] = {}

    @property
    def pending(self) -> int:
        """How many frames wait for a measurement."""
        return len(self._tasks)

    @property
    def n_tracks(self) -> int:
        """How many tracks have a number."""
        return self._tracker.n_tracks

    def oldest(self, count: int) -> list[int]:
        """Return up to `count` frames that wait for a measurement, the earliest first."""
        return sorted(self._tasks)[:count]

    def step(self, frame: int, peaks: Peaks) -> Int64:
        """Return the track of each peak of a frame, (m,), -1 = none; frames in order."""
        numbers = self._tracker.step(frame, peaks)
        self._schedule(frame, numbers)
        return numbers

    def resume(self, frame: int, peaks: Peaks, numbers: Int64) -> None:
        """Take a frame whose tracks are stored. Raises ValueError if they do not follow."""
        self._tracker.resume(frame, peaks, numbers)
        self._schedule(frame, numbers)

    def measure(
        self, image: Callable[[int], PolarImage | str], frames: Collection[int] | None = None
    ) -> Courses:
        """Return the rows that are due, of some frames or of all; each row comes once.

        image: returns the polar image of a frame, or why there is none
        """
        rows = []
        for frame in sorted(self._tasks if frames is None else self._tasks.keys() & frames):
            found = image(frame)
            for task in self._tasks.pop(frame):
                rows += list(self._rows(frame, task, found))
        table: Courses = Courses.from_rows(rows)
        return table

    def _schedule(self, frame: int, numbers: Int64) -> None:
        tracks, places = self._tracker.places
        new = np.flatnonzero(tracks >= self._known)
        if len(new):
            fresh = places.chosen(new)
            for earlier, placed in self._placed.items():
                beside = placed.chosen(placed.near(fresh))
                self._tasks.setdefault(earlier, []).append(_Task(tracks[new], fresh, beside))
                self._placed[earlier] = placed.joined(fresh)
            self._known = int(tracks[-1]) + 1
        self._detected[frame] = frozenset(numbers[numbers >= 0].tolist())
        self._placed[frame] = places
        if len(tracks):
            nothing = places.chosen(np.zeros(len(places), bool))
            self._tasks.setdefault(frame, []).append(_Task(tracks, places, nothing))

    def _rows(
        self, frame: int, task: _Task, image: PolarImage | str
    ) -> Iterator[dict[str, float | int | str]]:
        wanted = [i for i, t in enumerate(task.tracks) if (frame, int(t)) not in self._stored]
        if not wanted:
            return
        detected = self._detected[frame]
        forced = (
            None if isinstance(image, str) else measure_at(image, task.places.joined(task.beside))
        )
        for i in wanted:
            track = int(task.tracks[i])
            row: dict[str, float | int | str] = {"frame": frame, "track": track}
            row["detected"] = int(track in detected)
            if forced is None:
                yield {**row, "reason": str(image)}
            elif not np.isfinite(forced.intensity[i]):
                yield {**row, "reason": "no data at this place"}
            else:
                intensity, error = float(forced.intensity[i]), float(forced.intensity_error[i])
                yield {
                    **row,
                    "q": float(forced.q[i]),
                    "q_error": float(forced.q_error[i]),
                    "intensity": intensity,
                    "intensity_error": error,
                    "upper_limit": max(intensity, 0.0) + _LIMIT_SIGMAS * error,
                    "reason": "",
                }
