"""Settings of tracks."""

from __future__ import annotations

from pydantic import Field

from gixi_bluesky.processing.settings import Settings

__all__ = ["FEWEST_BINS", "TrackSettings"]

FEWEST_BINS = 64  # along phi and q, of images whose means are searched


class TrackSettings(Settings):
    """Settings of tracks: whether the peaks of a run are followed over its frames."""

    follow: bool = Field(
        True,
        description="fill peaks.track, courses and onsets of runs; courses are measured in a "
        "process of their own, from images kept on disk (4 GiB at most) until the stop",
    )
    sums_of: int = Field(
        20,
        ge=0,
        description="search the mean of so many frames of one incidence angle for peaks that are "
        "too weak for a single one; 0 = do not",
    )
