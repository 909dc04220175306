"""Tracks: a fold over the peaks of frames in their order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.tables import Peaks
from gixi_bluesky.processing.tracks.assignment import assign, doubles, second_boxes
from gixi_bluesky.processing.tracks.motion import UNNUMBERED, Motion
from gixi_bluesky.processing.tracks.places import Places

__all__ = ["Tracker"]

Int64 = NDArray[np.int64]

_SURE_SNR = 10.0  # of a peak whose track is numbered at once
_CONFIRMED = 2  # peaks of a track that is numbered
_PATIENCE = 5  # frames that an unnumbered track waits for its second peak


class Tracker:
    """Gives every peak of a frame the number of its track, from the frames before it alone.

    A weak peak that continues nothing has -1; if another one follows it within five frames, that
    one and all later ones have a number. Numbers are counted from 0 in the order in which they are
    given, so the same frames give the same numbers. A track never ends: its place stays known, and
    a peak that comes back there after a gap continues it. Of two boxes of one peak, the one that
    continues the longer track has its number, the other one -1.
    """

    def __init__(self) -> None:
        self._motion: Motion | None = None
        self._frame = -1
        self._next = 0

    @property
    def n_tracks(self) -> int:
        """Number of numbered tracks."""
        return self._next

    @property
    def places(self) -> tuple[Int64, Places]:
        """The numbered tracks and where each is expected in the latest frame."""
        if self._motion is None:
            return np.empty(0, np.int64), Places.none()
        numbered = np.flatnonzero(self._motion.number != UNNUMBERED)
        motion = self._motion.kept(numbered[np.argsort(self._motion.number[numbered])])
        return motion.number, Places(motion.q, motion.phi, motion.fwhm_q, motion.fwhm_phi)

    def step(self, frame: int, peaks: Peaks) -> Int64:
        """Return the track of each peak, (m,) int64, -1 = none; frames must be in order.

        Raises ValueError for a frame that is not later than the one before.
        """
        self._move_to(frame)
        numbers = np.full(len(peaks), UNNUMBERED, np.int64)
        usable = np.flatnonzero(_usable(peaks))
        if not usable.size:
            return numbers
        seen = _chosen(peaks, usable)
        free = np.arange(len(seen))
        if self._motion is not None:
            tracks, taken = assign(self._motion, seen)
            free = np.setdiff1d(free, taken)
            # Boxes that were apart when their tracks began may have become one peak.
            first = ~second_boxes(seen, taken, self._motion.hits[tracks])
            tracks, taken = tracks[first], taken[first]
            self._motion.update(tracks, seen, taken, frame)
            self._confirm(tracks)
            numbers[usable[taken]] = self._motion.number[tracks]
            free = free[~doubles(seen, taken, free)]
        numbers[usable[free]] = self._begin(seen, free, frame)
        return numbers

    def resume(self, frame: int, peaks: Peaks, numbers: Int64) -> None:
        """Take a frame whose tracks are known; the next one has the numbers it would have had.

        Raises ValueError if the peaks would get other numbers now.
        """
        given = self.step(frame, peaks)
        if not np.array_equal(given, numbers):
            message = (
                f"the stored tracks of frame {frame} do not follow from the frames before it; "
                "analyse the run again with --again"
            )
            raise ValueError(message)

    def _move_to(self, frame: int) -> None:
        if frame <= self._frame:
            message = f"got frame {frame} after frame {self._frame}; expected frames in order"
            raise ValueError(message)
        if self._motion is not None:
            for passed in range(self._frame + 1, frame + 1):
                self._motion.predict(passed)
            young = self._motion.number == UNNUMBERED
            forgotten = young & (frame - self._motion.last > _PATIENCE)
            if forgotten.any():
                self._motion = self._motion.kept(~forgotten)
        self._frame = frame

    def _confirm(self, tracks: NDArray[np.intp]) -> None:
        motion = self._motion
        if motion is None:
            return
        ripe = tracks[(motion.number[tracks] == UNNUMBERED) & (motion.hits[tracks] >= _CONFIRMED)]
        motion.number[ripe] = self._numbers(len(ripe))

    def _begin(self, peaks: Peaks, free: NDArray[np.intp], frame: int) -> Int64:
        numbers = np.full(len(free), UNNUMBERED, np.int64)
        sure = peaks.snr[free] >= _SURE_SNR
        numbers[sure] = self._numbers(int(sure.sum()))
        begun = Motion.of(peaks, free, numbers.copy(), frame)
        self._motion = begun if self._motion is None else self._motion.joined(begun)
        return numbers

    def _numbers(self, count: int) -> Int64:
        first, self._next = self._next, self._next + count
        return np.arange(first, first + count, dtype=np.int64)


def _usable(peaks: Peaks) -> NDArray[np.bool_]:
    values = (peaks.q, peaks.phi, peaks.fwhm_q, peaks.fwhm_phi)
    known = np.logical_and.reduce([np.isfinite(value) for value in values])
    return known & (peaks.q > 0) & (peaks.fwhm_q > 0) & (peaks.fwhm_phi > 0)


def _chosen(peaks: Peaks, index: NDArray[np.intp]) -> Peaks:
    table: Peaks = Peaks(**{name: values[index] for name, values in peaks.items()})
    return table
