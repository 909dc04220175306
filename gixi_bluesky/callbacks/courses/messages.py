"""Messages to and from the process that measures courses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.settings import DetectorSettings
from gixi_bluesky.processing.tables import Matches, MatchPeaks
from gixi_bluesky.processing.tracks.course_plan import TrackedFrame

__all__ = [
    "NO_IMAGE",
    "CourseFiles",
    "FollowedFrame",
    "Progress",
    "StoredCourses",
    "Supplied",
    "Work",
]

Rows = Mapping[str, list[Any]]

NO_IMAGE = "the image of the frame is not stored"  # the reason of a course without a value


@dataclass(frozen=True, slots=True)
class CourseFiles:
    """The first message: descriptors of files without names, which outlive the process.

    records: pickled FollowedFrame, StoredCourses and Supplied, written by the parent
    images: slots of images, written by the parent
    results: what was measured, written by the child
    q, phi: axes of the images, (n_q,) 1/angstrom and (n_phi,) deg
    sums_of: number of frames whose mean is searched with the `detector`, 0 = none
    """

    records: int
    images: int
    results: int
    q: NDArray[np.float64]
    phi: NDArray[np.float64]
    detector: DetectorSettings
    sums_of: int


@dataclass(frozen=True, slots=True)
class FollowedFrame:
    """A frame in the file of records.

    peak_tracks: (m,) of the peaks, -1 = none
    slot: of its image, -1 = not kept; reason: why there never was an image, empty = there was
    """

    tracked: TrackedFrame
    time: float
    peak_tracks: NDArray[np.int64]
    matches: Matches
    match_peaks: MatchPeaks
    slot: int
    reason: str
    incidence_angle_deg: float


@dataclass(frozen=True, slots=True)
class StoredCourses:
    """Rows of `courses` that an earlier session stored, (n,) each."""

    frame: NDArray[np.int64]
    track: NDArray[np.int64]
    intensity: NDArray[np.float64]
    intensity_error: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Supplied:
    """The image that was lacking; slot -1 = it cannot be had."""

    frame: int
    slot: int


@dataclass(frozen=True, slots=True)
class Work:
    """Read the new records, then measure for about so long; the answer is Progress.

    records_end: bytes of the file of records that are written
    received: how many batches of rows have reached the parent
    complete: also measure later tracks in earlier frames, whatever that costs
    summarise: estimate onsets, too
    """

    records_end: int
    received: int
    budget_s: float
    complete: bool = False
    summarise: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """The answer to Work.

    batches: rows of `courses` by column, the first one numbered `first`
    due: whether more can be measured now; complete: whether nothing at all is left
    lacking: a frame whose image is needed, None = none
    phases: onsets by phase, None = not asked
    """

    first: int
    batches: tuple[Rows, ...] = ()
    due: bool = False
    complete: bool = False
    lacking: int | None = None
    phases: Mapping[str, Mapping[str, float | int | None]] | None = None
