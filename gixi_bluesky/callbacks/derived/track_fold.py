"""Tracks of a run as a fold: numbers for its peaks, courses, and onsets of its phases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.callbacks.courses.course_process import Axes, CourseProcess, MeanSearch
from gixi_bluesky.callbacks.courses.messages import (
    NO_IMAGE,
    FollowedFrame,
    Rows,
    StoredCourses,
)
from gixi_bluesky.callbacks.derived.folds import (
    FoldBuilder,
    Folded,
    FrameFold,
    OrderedFrame,
    StoredFrames,
)
from gixi_bluesky.callbacks.runs.actions import RawRun
from gixi_bluesky.callbacks.settings import AnalysisConfig
from gixi_bluesky.callbacks.worker.jobs import Ready
from gixi_bluesky.errors import StoreError
from gixi_bluesky.processing.geometry.grids import PolarGrid
from gixi_bluesky.processing.tables import Peaks
from gixi_bluesky.processing.tracks.courses import tracked_frame
from gixi_bluesky.processing.tracks.settings import FEWEST_BINS
from gixi_bluesky.processing.tracks.tracker import Tracker
from gixi_bluesky.tiled_adapters.schema import TABLES, StreamTable

__all__ = ["TrackFold", "with_tracks"]

_ROWS_PER_PAGE = 4000
_STORED_ROWS = 50_000  # in one record
_WAIT_S = 0.5


class TrackFold:
    """Numbers the peaks of one run; its courses are measured in a process of their own.

    Numbers are given here, since they belong to the rows of the frame. Courses may lag behind and
    are complete when the run has finished. Here is kept what is expected of each track and nothing
    of the frames.

    axes: of the images of a resumed run without further frames
    """

    name = "tracks"
    tables: tuple[StreamTable, ...] = (TABLES["courses"],)
    needs_images = True

    def __init__(self, axes: Axes, courses: CourseProcess | None = None) -> None:
        self._tracker = Tracker()
        self._courses = courses or CourseProcess(axes)

    @property
    def finished(self) -> bool:
        """True if `finish` has returned all rows."""
        return self._courses.finished

    def restore(self, stored: StoredFrames) -> None:
        """Follow the stored frames again; only courses that are not stored are measured."""
        self._courses.stored_image = stored.image_reader
        courses = stored.table("courses")
        for first in range(0, len(courses), _STORED_ROWS):
            part = courses.iloc[first : first + _STORED_ROWS]
            self._courses.put_stored(
                StoredCourses(
                    part["frame"].to_numpy(np.int64),
                    part["track"].to_numpy(np.int64),
                    part["intensity"].to_numpy(float),
                    part["intensity_error"].to_numpy(float),
                )
            )
        for frame in stored:
            rows = frame.stored.get("peaks")
            tracks = np.empty(0, np.int64) if rows is None else rows["track"].to_numpy(np.int64)
            self._tracker.resume(frame.number, _peaks(frame), tracks)
            # Whether the image was stored is found out when it is needed.
            self._put(frame, tracks, "" if frame.status == "ok" else f"the frame is {frame.status}")

    def add(self, frame: OrderedFrame) -> Folded:
        """Give the peaks of a frame their tracks, and return what was measured meanwhile."""
        numbers = self._tracker.step(frame.number, _peaks(frame))
        reason = "" if frame.status == "ok" else f"the frame is {frame.status}"
        if not reason and frame.image is None:
            reason = NO_IMAGE
        self._put(frame, numbers, reason)
        columns = {"peaks": {"track": numbers.tolist()}} if frame.status == "ok" else {}
        return Folded(columns=columns, rows=self._measured(0.0))

    def collect(self) -> Folded:
        """Return what was measured since the last frame."""
        return Folded(rows=self._measured(0.0))

    def finish(self) -> Folded:
        """Return rows that are left, until `finished`. Raises StoreError if some cannot be had."""
        self._courses.finish()
        rows = self._measured(_WAIT_S)
        if not rows and self._courses.error:
            raise StoreError(self._courses.error)
        return Folded(rows=rows)

    def summary(self) -> Mapping[str, Any]:
        """Return the number of tracks, and onset and end of the phases."""
        return {"n_tracks": self._tracker.n_tracks, "phases": dict(self._courses.phases)}

    def close(self) -> None:
        """End the process that measures."""
        self._courses.close()

    def _put(self, frame: OrderedFrame, numbers: NDArray[np.int64], reason: str) -> None:
        axes = None if frame.result is None else (frame.result.q, frame.result.phi)
        followed = FollowedFrame(
            tracked=tracked_frame(frame.number, numbers, self._tracker),
            time=frame.time,
            peak_tracks=numbers,
            matches=frame.matches,
            match_peaks=frame.match_peaks,
            slot=-1,
            reason=reason,
            incidence_angle_deg=_angle(frame),
        )
        self._courses.put(followed, frame.image, axes)

    def _measured(self, wait_s: float) -> dict[str, Rows]:
        batches: list[Rows] = []
        n = 0
        while n < _ROWS_PER_PAGE:
            batch = self._courses.rows(wait_s if not batches else 0.0)
            if batch is None:
                break
            batches.append(batch)
            n += len(batch["frame"])
        if not batches:
            return {}
        return {
            "courses": {
                name: [value for batch in batches for value in batch[name]] for name in batches[0]
            }
        }


def with_tracks(build: FoldBuilder, config: AnalysisConfig) -> FoldBuilder:
    """Return a function that builds the tracks of a run before its other folds."""
    sums_of = config.tracks.sums_of if config.grid.space == "polar" else 0
    search = MeanSearch(config.detector, sums_of)

    def folds(raw: RawRun, ready: Ready) -> Sequence[FrameFold]:
        axes = _axes(ready)
        searched = search if min(map(len, axes)) >= FEWEST_BINS else None
        return (TrackFold(axes, CourseProcess(axes, searched)), *build(raw, ready))

    return folds


def _axes(ready: Ready) -> Axes:
    grid = ready.provenance.config["grid"]
    polar = PolarGrid(grid["q_max_inv_angstrom"], tuple(grid["shape"]))
    return polar.q, polar.phi


def _angle(frame: OrderedFrame) -> float:
    if frame.result is not None:
        return frame.result.incidence_angle_deg
    rows = frame.stored.get("frames")
    return math.nan if rows is None else float(rows["incidence_angle_deg"].iloc[0])


def _peaks(frame: OrderedFrame) -> Peaks:
    return frame.peaks if frame.status == "ok" else Peaks.empty()
