"""Sums of consecutive images of a run, which are analysed as frames."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from gixi_bluesky.callbacks.images.locations import (
    FrameRef,
    InlineImage,
    SummedImages,
    Unreadable,
)
from gixi_bluesky.callbacks.runs.actions import Action, Frame, RunClosed
from gixi_bluesky.errors import FrameError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processing.pixels.exposures import FrameSum
from gixi_bluesky.processing.settings import CorrectionSettings

__all__ = ["FrameSums"]

_OPEN_MOST = 64  # sums that wait for images at a time: each may hold one in memory
_log = get_logger()


@dataclass(slots=True)
class _Gathering:
    """The images of one sum so far; those inside events are added at once, to hold one array."""

    total: FrameSum
    frames: list[Frame] = field(default_factory=list)
    problem: str = ""

    def add(self, frame: Frame) -> None:
        if isinstance(frame.image, InlineImage):
            try:
                self.total.add(frame.image.array)
            except FrameError as error:
                self.problem = self.problem or f"image {frame.number}: {error}"
            frame = replace(frame, image=InlineImage(np.empty((0, 0))))
        self.frames.append(frame)


class FrameSums:
    """Makes one frame of each `sum_frames` images; its number is that of its first place.

    The images g·n … g·n + n - 1 belong together, in whatever order they come. A sum is complete
    with its last image; at the stop the rest goes on as it is, and says which images it holds.
    """

    def __init__(self, corrections: CorrectionSettings) -> None:
        self._settings = corrections
        self._n = corrections.sum_frames
        self._open: OrderedDict[int, _Gathering] = OrderedDict()
        self._given_up: set[int] = set()
        self._made = 0

    def __call__(self, actions: Iterable[Action]) -> Iterator[Action]:
        """Pass actions on, frames as sums."""
        for action in actions:
            if isinstance(action, Frame) and self._n > 1:
                yield from self._add(action)
            elif isinstance(action, RunClosed) and self._n > 1:
                for place in sorted(self._open):
                    yield self._take(place)
                yield replace(action, n_frames=self._made, n_images=action.n_frames)
            else:
                yield action

    def _add(self, frame: Frame) -> Iterator[Frame]:
        place = frame.number // self._n
        if place in self._given_up:
            return
        gathering = self._open.setdefault(place, _Gathering(FrameSum(self._settings)))
        gathering.add(frame)
        if len(gathering.frames) == self._n:
            yield self._take(place)
        elif len(self._open) > _OPEN_MOST:
            oldest = next(iter(self._open))
            self._given_up.add(oldest)
            self._open[oldest].problem = f"its images came too late: {_OPEN_MOST} later sums began"
            _log.warning("sum_given_up", raw_uid=frame.run_uid, frame=oldest * self._n)
            yield self._take(oldest)

    def _take(self, place: int) -> Frame:
        """Return the sum of what came."""
        gathering = self._open.pop(place)
        self._made += 1
        parts = sorted(gathering.frames, key=lambda frame: frame.number)
        first, last = parts[0], max(parts, key=lambda frame: frame.received)
        conditions = first.conditions
        if conditions.monitor is not None:
            total = sum(part.conditions.monitor or 0.0 for part in parts)
            conditions = replace(conditions, monitor=total)
        return replace(
            first,
            number=place * self._n,
            image=_image(gathering, parts),
            conditions=conditions,
            received=last.received,
            exposures=len(parts),
            note=_note([part.number for part in parts], self._n),
        )


def _image(gathering: _Gathering, parts: list[Frame]) -> FrameRef:
    """Return the location of the pixels, or the reason why there are none."""
    for part in parts:
        if isinstance(part.image, Unreadable):
            return Unreadable(part.image.status, f"image {part.number}: {part.image.reason}")
    if gathering.problem:
        return Unreadable("failed", gathering.problem)
    kinds = {part.conditions.rounded() for part in parts}
    if len(kinds) > 1:
        text = "; ".join(str(kind.given()) for kind in sorted(kinds, key=str)[:3])
        return Unreadable("failed", f"the images of this sum differ in their geometry: {text}")
    files = tuple(part.image for part in parts if not isinstance(part.image, InlineImage))
    if not files:
        return InlineImage(gathering.total.result())
    if gathering.total.exposures:
        return Unreadable("failed", "some images of this sum lie in its events, others in files")
    return SummedImages(files)


def _note(numbers: list[int], wanted: int) -> str:
    if len(numbers) == 1:
        text = f"image {numbers[0]} alone"
    elif numbers == list(range(numbers[0], numbers[-1] + 1)):
        text = f"sum of images {numbers[0]} to {numbers[-1]}"
    else:
        text = f"sum of images {', '.join(str(number) for number in numbers)}"
    return text + (f", {wanted - len(numbers)} fewer than wanted" if len(numbers) < wanted else "")
