"""Tracks of a run as a fold: numbers for its peaks, courses, and onsets of its phases."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gixi_bluesky.callbacks.derived.folds import (
    FoldBuilder,
    Folded,
    FrameFold,
    OrderedFrame,
    StoredFrames,
)
from gixi_bluesky.callbacks.derived.working_images import WorkingImages
from gixi_bluesky.callbacks.runs.actions import RawRun
from gixi_bluesky.callbacks.worker.jobs import Ready
from gixi_bluesky.processing.tables import Courses, Peaks
from gixi_bluesky.processing.tracks.courses import CourseFold
from gixi_bluesky.processing.tracks.phase_tables import phase_table, track_table
from gixi_bluesky.processing.tracks.scatter import with_scatter
from gixi_bluesky.processing.types import PolarImage
from gixi_bluesky.tiled_adapters.schema import TABLES, StreamTable

__all__ = ["TrackFold", "with_tracks"]

_SHARE = 0.3  # of the time of the store's thread that measuring may take while frames come
_FRAMES_AT_ONCE = 4
_FEWEST_BINS = 16  # of an image along phi and q
_LIVE_GROWTH = 1.1  # factor of frames after which onsets are estimated again
_BOUNDS = ("", "_low", "_high")


class TrackFold:
    """Follows the peaks of one run and measures every track in every frame.

    Courses may lag behind; `finish` completes them. What is computed follows from the stored rows
    and images alone, when it is computed does not matter.
    """

    name = "tracks"
    tables: tuple[StreamTable, ...] = (TABLES["courses"],)
    needs_images = True

    def __init__(self) -> None:
        self._fold = CourseFold()
        self._images = WorkingImages()
        self._stored: StoredFrames | None = None
        self._axes: tuple[Any, Any] | None = None
        self._status: dict[int, str] = {}
        self._times: dict[int, float] = {}
        self._rows: dict[str, list[pd.DataFrame]] = {
            name: [] for name in ("peaks", "matches", "match_peaks", "courses")
        }
        self._measured_at = 0.0
        self._summarised = 0
        self._summary: dict[str, Any] = {}

    def restore(self, stored: StoredFrames) -> None:
        """Follow the stored frames again, and take the courses that are stored."""
        courses = stored.table("courses")
        if len(courses):
            courses = courses.drop_duplicates(["frame", "track"])
            self._rows["courses"].append(courses)
            self._fold = CourseFold(set(zip(courses["frame"], courses["track"], strict=True)))
        self._stored = stored
        for frame in stored:
            rows = frame.stored.get("peaks")
            tracks = np.empty(0, np.int64) if rows is None else rows["track"].to_numpy(np.int64)
            self._fold.resume(frame.number, _peaks(frame), tracks)
            self._note(frame, tracks)

    def add(self, frame: OrderedFrame) -> Folded:
        """Give the peaks of a frame their tracks, and measure as many frames as time allows."""
        if frame.result is not None:
            self._axes = (frame.result.q, frame.result.phi)
        kept = frame.image is None or self._images.put(frame.number, frame.image)
        tracks = self._fold.step(frame.number, _peaks(frame))
        self._note(frame, tracks)
        columns = {"peaks": {"track": tracks.tolist()}} if frame.status == "ok" else {}
        return Folded(columns=columns, rows=self._measured(None if kept else frame))

    def finish(self) -> Folded:
        """Measure all that is left."""
        rows = self._as_rows(self._fold.measure(self._image))
        self._images.close()
        self._summarised = 0
        return Folded(rows=rows)

    def summary(self) -> Mapping[str, Any]:
        """Return the number of tracks, and onset and end of the phases."""
        n = len(self._status)
        if n > _LIVE_GROWTH * self._summarised:
            self._summarised = n
            self._summary = self._summarise()
        return self._summary

    def _measured(self, at_once: OrderedFrame | None) -> dict[str, Any]:
        """Return rows of courses: of a frame whose image is not kept, or as time allows."""
        began = time.perf_counter()
        if at_once is not None:
            image = at_once.image
            frames = [at_once.number]
            found = self._fold.measure(lambda _: self._polar(image), frames)
            return self._as_rows(found)
        if began < self._measured_at:
            return {}
        frames = self._fold.oldest(_FRAMES_AT_ONCE)
        rows = self._as_rows(self._fold.measure(self._image, frames))
        ended = time.perf_counter()
        self._measured_at = ended + (ended - began) * (1 / _SHARE - 1)
        return rows

    def _image(self, frame: int) -> PolarImage | str:
        status = self._status.get(frame, "ok")
        if status != "ok":
            return f"the frame is {status}"
        image = self._images.get(frame)
        if image is None and self._stored is not None:
            image = self._stored.image(frame)
        return self._polar(image)

    def _polar(self, image: Any) -> PolarImage | str:
        if image is None:
            return "the image of the frame is not stored"
        if self._axes is None or min(image.shape) < _FEWEST_BINS:
            n_phi, n_q = image.shape
            return f"nothing can be measured in an image of {n_phi} x {n_q} bins"
        return with_scatter(image, *self._axes)

    def _note(self, frame: OrderedFrame, tracks: Any) -> None:
        self._status[frame.number] = frame.status
        self._times[frame.number] = frame.time
        for name in ("peaks", "matches", "match_peaks"):
            rows = getattr(frame, name).frame()
            rows.insert(0, "frame", frame.number)
            if name == "peaks":
                rows = rows.assign(track=tracks if len(rows) else [])
            if len(rows):
                self._rows[name].append(rows)

    def _as_rows(self, courses: Courses) -> dict[str, Any]:
        if not len(courses):
            return {}
        columns = dict(courses.items())
        self._rows["courses"].append(pd.DataFrame(columns))
        return {"courses": {name: values.tolist() for name, values in columns.items()}}

    def _summarise(self) -> dict[str, Any]:
        if not self._rows["peaks"] or not self._rows["matches"]:
            return {"n_tracks": self._fold.n_tracks}
        tables = {name: _joined(parts) for name, parts in self._rows.items()}
        if not len(tables["match_peaks"]) or not len(tables["courses"]):
            return {"n_tracks": self._fold.n_tracks}
        tracks = track_table(tables["peaks"], tables["match_peaks"], tables["matches"])
        phases = phase_table(tracks, tables["courses"], tables["matches"], self._times)
        onsets = {
            str(row["phase"]): _onset(row) for row in phases.to_dict("records") if _known(row)
        }
        return {"n_tracks": self._fold.n_tracks, "phases": onsets}


def with_tracks(build: FoldBuilder) -> FoldBuilder:
    """Return what builds the tracks of a run before its other folds."""

    def folds(raw: RawRun, ready: Ready) -> Sequence[FrameFold]:
        return (TrackFold(), *build(raw, ready))

    return folds


def _peaks(frame: OrderedFrame) -> Peaks:
    return frame.peaks if frame.status == "ok" else Peaks.empty()


def _known(row: Mapping[Any, Any]) -> bool:
    return math.isfinite(row["onset_frame"])


def _onset(row: Mapping[Any, Any]) -> dict[str, float | int | None]:
    """Return onset and end in JSON types; frames are whole numbers."""
    told: dict[str, float | int | None] = {}
    for what in ("onset", "end"):
        for bound in _BOUNDS:
            frame, moment = row[f"{what}_frame{bound}"], row[f"{what}_time{bound}"]
            told[f"{what}_frame{bound}"] = int(frame) if math.isfinite(frame) else None
            told[f"{what}_time{bound}"] = float(moment) if math.isfinite(moment) else None
    return told


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
