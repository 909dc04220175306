"""Tables of a series: its tracks with their phase, and when each phase begins and ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gixi_bluesky.processing.tracks.common_course import Course, common_course
from gixi_bluesky.processing.tracks.course_plan import FIRST_SUM_TRACK
from gixi_bluesky.processing.tracks.onset import Interval, end_of, onset_of

__all__ = [
    "LEAST_PROBABILITY",
    "LEAST_SHARE",
    "TRACK_COLUMNS",
    "TRUSTED_FRAMES",
    "course_matrix",
    "phase_courses",
    "phase_row",
    "phase_table",
    "track_table",
    "with_sum_tracks",
]

Float64 = NDArray[np.float64]

TRACK_COLUMNS = (
    "track", "phase", "hkl", "n_frames", "n_detections", "first_frame", "last_frame",
    "q", "phi", "kind", "intensity",
)  # fmt: skip
LEAST_SHARE = 0.25  # of a track's peaks that must name a phase, each by its probability
LEAST_PROBABILITY = 0.5  # of a phase that is listed, in two frames at least
TRUSTED_FRAMES = 2
_SAME_Q, _SAME_PHI = 0.004, 4.0  # relative; deg
_ONSET_COLUMNS = tuple(
    f"{what}_{kind}{bound}"
    for what in ("onset", "end")
    for kind in ("frame", "time")
    for bound in ("", "_low", "_high")
)


def track_table(
    peaks: pd.DataFrame, match_peaks: pd.DataFrame, matches: pd.DataFrame
) -> pd.DataFrame:
    """Return one row a track, the longest first.

    Columns: track, the phase and hkl that most of its peaks are explained by (empty = none),
    n_frames and n_detections, first_frame and last_frame with a peak, of the peaks the mean q
    (1/angstrom) and phi (deg), the most frequent kind and the highest intensity.
    """
    followed = peaks[peaks["track"] >= 0]
    if not len(followed):
        return pd.DataFrame(columns=list(TRACK_COLUMNS))
    tracks = followed.groupby("track").agg(
        n_frames=("frame", "nunique"),
        n_detections=("frame", "size"),
        first_frame=("frame", "min"),
        last_frame=("frame", "max"),
        q=("q", "mean"),
        phi=("phi", "mean"),
        kind=("kind", lambda kinds: kinds.mode().iloc[0]),
        intensity=("intensity", "max"),
    )
    tracks = tracks.join(_explanations(followed, match_peaks, matches)).reset_index()
    tracks[["phase", "hkl"]] = tracks[["phase", "hkl"]].fillna("")
    tracks = tracks.sort_values("n_frames", ascending=False, kind="stable", ignore_index=True)
    return tracks[list(TRACK_COLUMNS)]


def with_sum_tracks(tracks: pd.DataFrame, courses: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the tracks that were found in means of frames only.

    They have no phase yet, no detections, and `sum` as their kind; n_frames counts the frames in
    which the intensity is three standard errors above zero. Where a peak of a single frame was
    followed at the same place later on, that track stands for both.
    """
    mine = courses[courses["track"] >= FIRST_SUM_TRACK]
    rows = []
    for track, course in mine.groupby("track"):
        q, phi = float(course["place_q"].median()), float(course["place_phi"].median())
        beside = (tracks["q"] - q).abs() < _SAME_Q * q
        if (beside & ((tracks["phi"] - phi).abs() < _SAME_PHI)).any():
            continue
        seen = course[course["intensity"] > 3 * course["intensity_error"]]
        frames = seen["frame"] if len(seen) else course["frame"]
        rows.append(
            {
                "track": track,
                "phase": "",
                "hkl": "",
                "n_frames": len(seen),
                "n_detections": 0,
                "first_frame": frames.min(),
                "last_frame": frames.max(),
                "q": q,
                "phi": phi,
                "kind": "sum",
                "intensity": course["intensity"].max(),
            }
        )
    if not rows:
        return tracks
    found = pd.DataFrame(rows)[list(TRACK_COLUMNS)]
    return found if not len(tracks) else pd.concat([tracks, found], ignore_index=True)


def _explanations(
    followed: pd.DataFrame, match_peaks: pd.DataFrame, matches: pd.DataFrame
) -> pd.DataFrame:
    """Return phase and hkl by track, of those that have one."""
    nothing = pd.DataFrame({"phase": [], "hkl": []}, dtype=object)
    if not len(match_peaks) or not len(matches):
        return nothing
    columns = ["frame", "peak", "track"]
    named = match_peaks.merge(followed[columns], on=["frame", "peak"])
    named = named.merge(matches[["frame", "phase", "probability"]], on=["frame", "phase"])
    if not len(named):
        return nothing
    named["hkl"] = named[["h", "k", "l"]].astype(int).astype(str).agg(" ".join, axis=1)
    weight = named.groupby(["track", "phase", "hkl"])["probability"].sum().reset_index()
    by_phase = weight.groupby(["track", "phase"])["probability"].transform("sum")
    total = followed.groupby("track").size()
    weight = weight.assign(by_phase=by_phase)
    weight = weight[by_phase >= LEAST_SHARE * weight["track"].map(total)]
    order = ["track", "by_phase", "probability"]
    best = weight.sort_values(order, kind="stable").groupby("track").last()
    return best[["phase", "hkl"]]


def course_matrix(courses: pd.DataFrame, tracks: Any) -> tuple[Any, Float64, Float64]:
    """Return frames (n,), intensity and its error (tracks, n); NaN = not measured."""
    chosen = courses[courses["track"].isin(tracks)]
    intensity = chosen.pivot(index="track", columns="frame", values="intensity")
    error = chosen.pivot(index="track", columns="frame", values="intensity_error")
    return (
        intensity.columns.to_numpy(np.int64),
        intensity.to_numpy(float),
        error.to_numpy(float),
    )


def phase_table(
    tracks: pd.DataFrame,
    courses: pd.DataFrame,
    matches: pd.DataFrame,
    times: Mapping[int, float] | None = None,
) -> pd.DataFrame:
    """Return one row for each phase that is probable in two frames or more.

    Columns: phase, max_probability, n_tracks, and with `_low` and `_high` of their 95 % intervals
    onset_frame and end_frame (the first and the last frame with material; NaN where the phase is
    there to the last frame), onset_time and end_time (NaN without times).
    """
    rows = []
    for phase, probability in matches.groupby("phase", sort=True)["probability"]:
        if (probability >= LEAST_PROBABILITY).sum() < TRUSTED_FRAMES:
            continue
        mine = _tracks_of(tracks, phase)
        matrix = course_matrix(courses, mine)
        rows.append(phase_row(str(phase), float(probability.max()), len(mine), matrix, times or {}))
    columns = ["phase", "max_probability", "n_tracks", *_ONSET_COLUMNS]
    return pd.DataFrame(rows, columns=columns)


def _tracks_of(tracks: pd.DataFrame, phase: Any) -> pd.Series:
    """Return the tracks of a phase, without those that are named by their |q| alone."""
    single = tracks["track"] < FIRST_SUM_TRACK
    mine: pd.Series = tracks.loc[single & (tracks["phase"] == phase), "track"]
    return mine


def phase_courses(tracks: pd.DataFrame, courses: pd.DataFrame, phases: Any) -> pd.DataFrame:
    """Return how much of each phase there is in each frame, a row for each.

    Columns: phase, frame, amount (1 at its highest) and its standard error. It is what the courses
    of the phase's tracks have in common; phases without a track above the noise have no rows.
    """
    parts = []
    for phase in phases:
        mine = _tracks_of(tracks, phase)
        course = _course(course_matrix(courses, mine))
        if course is not None:
            values = {"frame": course.frames, "amount": course.amount, "error": course.error}
            parts.append(pd.DataFrame({"phase": phase, **values}))
    columns = ["phase", "frame", "amount", "error"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def phase_row(
    phase: str,
    max_probability: float,
    n_tracks: int,
    matrix: tuple[Any, Float64, Float64],
    times: Mapping[int, float],
    width: int = 1,
) -> dict[str, Any]:
    """Return the row of a phase in `phase_table`.

    matrix: of its tracks, as `course_matrix`; width: frames that each of its columns stands for
    """
    course = _course(matrix)
    row = {"phase": phase, "max_probability": max_probability, "n_tracks": n_tracks}
    return row | _times(course, times, width)


def _course(matrix: tuple[Any, Float64, Float64]) -> Course | None:
    return common_course(*matrix) if len(matrix[1]) else None


def _times(course: Course | None, times: Mapping[int, float], width: int) -> dict[str, float]:
    found = dict.fromkeys(_ONSET_COLUMNS, np.nan)
    if course is None:
        return found
    for what, interval in (("onset", onset_of(course)), ("end", end_of(course))):
        if interval is not None:
            last = Interval(interval.frame, interval.low, interval.high + width - 1)
            found |= _named(what, last, times)
    return found


def _named(what: str, interval: Interval, times: Mapping[int, float]) -> dict[str, float]:
    values = {"": interval.frame, "_low": interval.low, "_high": interval.high}
    return {f"{what}_frame{bound}": float(frame) for bound, frame in values.items()} | {
        f"{what}_time{bound}": float(times.get(frame, np.nan)) for bound, frame in values.items()
    }
