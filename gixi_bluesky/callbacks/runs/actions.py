"""Actions that documents cause: open a run, analyse a frame, close a run."""

from __future__ import annotations

from dataclasses import dataclass, field

from gixi_bluesky.callbacks.documents.document_types import RunStart, RunStop
from gixi_bluesky.callbacks.images.locations import FrameRef
from gixi_bluesky.processing.geometry.conditions import Conditions

__all__ = ["Action", "DarkImages", "Frame", "FrameTimed", "RawRun", "RunClosed", "RunOpened"]


@dataclass(frozen=True, slots=True)
class DarkImages:
    """The dark that a run brought.

    key: no two different ones have the same
    keeper: what keeps their files as long as this is there
    """

    key: str
    images: tuple[FrameRef, ...]
    keeper: object = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class RawRun:
    """A raw run, stream and image key that is being analysed."""

    start: RunStart
    stream: str
    data_key: str

    @property
    def uid(self) -> str:
        """The uid of the raw run."""
        return self.start.uid


@dataclass(frozen=True, slots=True)
class Frame:
    """One image to analyse.

    number: 0-based position of the image in its raw stream and key; of a sum, where it begins
    time: of the raw event, seconds since 1970; NaN when the event has not come yet
    received: when its document came, as Clock.monotonic; `arrived` is the same as Clock.wall
    exposures: how many images it sums; `note` says which, for its row
    dark: None = as the configuration says
    source: what its image is called, see `source_name`; of a sum, its first one
    """

    run_uid: str
    number: int
    seq_num: int
    time: float
    image: FrameRef
    conditions: Conditions
    received: float
    arrived: float
    exposures: int = 1
    note: str = ""
    dark: DarkImages | None = None
    source: str = ""

    @property
    def incidence_angle_deg(self) -> float | None:
        """The angle from the documents, None when the configuration fixes it."""
        return self.conditions.incidence_angle_deg


@dataclass(frozen=True, slots=True)
class RunOpened:
    """A run has its first frame, or ended without those that it announced."""

    raw: RawRun


@dataclass(frozen=True, slots=True)
class FrameTimed:
    """The time of frames whose event came after them."""

    run_uid: str
    seq_num: int
    time: float


@dataclass(frozen=True, slots=True)
class RunClosed:
    """The raw run stopped; `missing` are announced images that never came (at most 100).

    n_frames: how many there are to analyse
    n_images: how many images these are made of, where images are summed
    """

    run_uid: str
    stop: RunStop
    n_frames: int
    n_missing: int
    missing: tuple[int, ...]
    n_images: int = 0


Action = RunOpened | Frame | FrameTimed | RunClosed
