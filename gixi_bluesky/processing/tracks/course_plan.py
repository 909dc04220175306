"""The plan of which tracks are measured in which frames, independent of the order of measuring."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.tracks.places import Places, coincide

__all__ = ["FIRST_SUM_TRACK", "CoursePlan", "Task", "TrackedFrame"]

Int64 = NDArray[np.int64]

_OWN = -1
FIRST_SUM_TRACK = 1_000_000  # found in means of frames; those of single frames count from 0


@dataclass(frozen=True, slots=True)
class TrackedFrame:
    """The input of forced measurement for a frame, besides its image.

    tracks: (n,) int64, numbered so far, in increasing order; places: (n,) where each is expected
    detected: (k,) int64, tracks that have a peak in this frame
    """

    number: int
    tracks: Int64
    places: Places
    detected: Int64


@dataclass(frozen=True, slots=True)
class Task:
    """Tracks to measure in one frame; places `beside` them are separated, not measured."""

    tracks: Int64
    places: Places
    beside: Places


@dataclass(frozen=True, slots=True)
class _Birth:
    tracks: Int64
    places: Places


class CoursePlan:
    """Lists what is due in each frame; keeps 32 bytes a frame, and the places of new tracks.

    A track that gets its number in frame n is measured in the frames before at its place in frame
    n, and from then on where it is expected. Tasks depend on the frames in their order alone, so
    that courses are the same whenever they are measured.
    """

    def __init__(self) -> None:
        self._births: list[_Birth] = []
        self._numbers = array("q")
        self._known = array("q")  # births up to each frame, its own included
        self._next = array("q")  # the next birth that is due in each frame
        self._fixed: list[_Birth] = []
        self._next_fixed = array("q")
        self._n_tracks = 0
        self._own_due: dict[int, None] = {}  # positions, in order
        self._swept = 0  # frames before have no births due, up to `_swept_births`
        self._swept_births = (0, 0)

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def n_tracks(self) -> int:
        """Number of numbered tracks."""
        return self._n_tracks

    def add(self, frame: TrackedFrame) -> None:
        """Take the next frame; its tracks that are new are due in all frames before it."""
        new = frame.tracks >= self._n_tracks
        if new.any():
            self._births.append(_Birth(frame.tracks[new], frame.places.chosen(new)))
            self._n_tracks = int(frame.tracks[-1]) + 1
        self._numbers.append(frame.number)
        self._known.append(len(self._births))
        self._next_fixed.append(0)
        self._next.append(_OWN if len(frame.tracks) else len(self._births))
        if len(frame.tracks):
            self._own_due[len(self._numbers) - 1] = None

    def add_fixed(self, tracks: Int64, places: Places) -> None:
        """Take tracks whose places stay; they are due in all frames, earlier and later ones."""
        self._fixed.append(_Birth(tracks, places))

    def number(self, position: int) -> int:
        """Return the number of the frame at a position."""
        return self._numbers[position]

    def own_due(self, *, newest: bool = False) -> int | None:
        """Return the first position, or the last, whose own tracks are due; None without one."""
        if not self._own_due:
            return None
        return next(reversed(self._own_due) if newest else iter(self._own_due))

    def births_due(self) -> int | None:
        """Return the first position where later tracks are due; None without one."""
        births = len(self._births), len(self._fixed)
        if self._swept_births != births:
            self._swept, self._swept_births = 0, births
        while self._swept < len(self._numbers) and not self._is_due(self._swept):
            self._swept += 1
        return self._swept if self._swept < len(self._numbers) else None

    @property
    def complete(self) -> bool:
        """True if nothing is due."""
        return not self._own_due and self.births_due() is None

    def tasks(self, position: int, own: TrackedFrame) -> list[Task]:
        """Return what is due in the frame at a position."""
        begun, due, known = self._known[position], self._next[position], len(self._births)
        tasks = [Task(own.tracks, own.places, Places.none())] if due == _OWN else []
        placed = own.places
        for i in range(begun, known):
            birth = self._births[i]
            if i >= due:
                beside = placed.chosen(placed.near(birth.places))
                tasks.append(Task(birth.tracks, birth.places, beside))
            placed = placed.joined(birth.places)
        for birth in self._fixed[self._next_fixed[position] :]:
            near = own.places.near(birth.places) & ~coincide(own.places, birth.places)
            tasks.append(Task(birth.tracks, birth.places, own.places.chosen(near)))
        return tasks

    def done(self, position: int) -> None:
        """Record that all that was due in a frame was measured."""
        self._next[position] = len(self._births)
        self._next_fixed[position] = len(self._fixed)
        self._own_due.pop(position, None)

    def _is_due(self, position: int) -> bool:
        if self._next_fixed[position] < len(self._fixed):
            return True
        return max(self._next[position], self._known[position]) < len(self._births)
