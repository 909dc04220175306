"""A series of analysed frames: tracks, their courses, and when the phases begin and end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from gixi_bluesky.processing.tracks.courses import CourseFold
from gixi_bluesky.processing.tracks.phase_tables import (
    phase_courses,
    phase_table,
    track_table,
    with_sum_tracks,
)
from gixi_bluesky.processing.tracks.sum_phases import PhaseLines, with_phases_of_sums
from gixi_bluesky.processing.tracks.sums import SumTracks
from gixi_bluesky.processing.tracks.unexplained import Unexplained, unexplained_lines
from gixi_bluesky.processing.types import FrameResult

__all__ = ["SeriesResult", "follow"]


@dataclass(frozen=True, slots=True)
class SeriesResult:
    """The frames of one film, with its tracks, courses and phases.

    results: of each frame, with the tracks of its peaks
    peaks, courses: rows of all frames, with the columns of the stored tables
    tracks: a row a track, see `track_table`; phases: a row a phase, see `phase_table`
    unexplained: lines without a phase, in groups of a common course, and cells proposed for them
    phase_courses: the amount of each phase over the frames, see `phase_courses`
    """

    results: tuple[FrameResult, ...]
    peaks: pd.DataFrame
    courses: pd.DataFrame
    tracks: pd.DataFrame
    phases: pd.DataFrame
    phase_courses: pd.DataFrame
    unexplained: Unexplained


def follow(
    results: Sequence[FrameResult],
    times: Sequence[float] | None = None,
    sums: SumTracks | None = None,
    lines: Sequence[PhaseLines] = (),
) -> SeriesResult:
    """Follow the peaks of analysed frames, given in order of their `index`.

    times: of the results, in any unit
    sums: finds peaks that only means of frames show; None = they are not searched
    lines: of the candidates, by which the tracks of such peaks are given their phase
    """
    fold = CourseFold()
    tracked = [replace(one, tracks=fold.step(one.index, one.peak_table)) for one in results]
    by_index = {one.index: one for one in tracked}
    if sums is not None:
        fold.find_in_means(
            sums, lambda frame: (by_index[frame].polar, by_index[frame].incidence_angle_deg)
        )
    courses = fold.measure(lambda frame: by_index[frame].polar)
    rows = pd.DataFrame(dict(courses.items()))
    rows = rows.sort_values(["frame", "track"], kind="stable", ignore_index=True)
    peaks = _joined([one.peaks for one in tracked])
    matches = _joined([one.matches for one in tracked])
    tracks = track_table(peaks, _joined([one.match_peaks for one in tracked]), matches)
    tracks = with_phases_of_sums(with_sum_tracks(tracks, rows), matches, lines)
    moments: Mapping[int, float] = (
        {} if times is None else dict(zip(by_index, map(float, times), strict=True))
    )
    phases = phase_table(tracks, rows, matches, moments)
    return SeriesResult(
        results=tuple(tracked),
        peaks=peaks,
        courses=rows,
        tracks=tracks,
        phases=phases,
        phase_courses=phase_courses(tracks, rows, phases["phase"]),
        unexplained=unexplained_lines(tracks, rows),
    )


def _joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    if filled:
        return pd.concat(filled, ignore_index=True)
    return tables[0] if tables else pd.DataFrame()
