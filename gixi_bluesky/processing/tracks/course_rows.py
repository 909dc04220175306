"""Rows of `courses`: what forced measurement finds of tracks in one frame."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from gixi_bluesky.processing.tracks.course_plan import Task, TrackedFrame
from gixi_bluesky.processing.tracks.forced import ForcedMeasurement
from gixi_bluesky.processing.types import PolarImage

__all__ = ["Row", "measured_rows"]

Row = dict[str, float | int | str]

_LIMIT_SIGMAS = 1.645  # one-sided 95 %


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
            "place_q": float(task.places.q[i]),
            "place_phi": float(task.places.phi[i]),
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
