"""Quality of tracks: IDF1, identity switches and whole reflections on simulated series."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from gixi_bluesky.processing.simulation.films import Series
from gixi_bluesky.processing.simulation.peak_lists import FALSE, PeakList
from gixi_bluesky.processing.simulation.random_series import FILMS, random_series
from gixi_bluesky.processing.simulation.seeds import EVALUATION, require_within
from gixi_bluesky.processing.tables import Peaks
from gixi_bluesky.processing.tracks.tracker import Tracker

__all__ = [
    "NearestTracker",
    "TrackScore",
    "compare_trackers",
    "evaluation_series",
    "score_tracks",
]

Int64 = NDArray[np.int64]

_FEWEST = 3  # peaks of a reflection that is asked to be whole


@dataclass(frozen=True, slots=True)
class TrackScore:
    """The tracks of one series against the reflections.

    idf1: 2 · pairs / (peaks of reflections + peaks with a track), pairs under the best one-to-one
        assignment of tracks to reflections (Ristani et al., ECCV 2016 workshops)
    switches: how often a reflection has another track than the time before; of several peaks of a
        reflection in one frame, the one that continues its track counts, else the first one
        (Bernardin & Stiefelhagen, J. Image Video Process. 2008, 246309)
    doubles: peaks with a track beside another one of the same reflection and frame
    whole: share of the reflections, found three times or more, that have one track only
    purity: share of the tracks, with three peaks or more, that are of one reflection only
    """

    idf1: float
    switches: int
    doubles: int
    whole: float
    purity: float
    reflections: int
    tracks: int

    def summary(self) -> dict[str, Any]:
        """Return the numbers by name."""
        return asdict(self)


class NearestTracker:
    """The baseline tracker: each peak takes the nearest latest peak of a track, greedily.

    They must lie within three sigma or half a width in |q|, and overlap in phi.
    """

    def __init__(self, memory: int = 3) -> None:
        self._memory = memory
        self._q, self._error, self._fwhm, self._phi, self._width = (np.empty(0) for _ in range(5))
        self._last = np.empty(0, np.int64)

    def step(self, frame: int, peaks: Peaks) -> Int64:
        """Return the track of each peak, (m,)."""
        numbers = np.full(len(peaks), -1, np.int64)
        alive = np.flatnonzero(frame - self._last <= self._memory)
        off = np.abs(peaks.q[:, None] - self._q[alive])
        error = np.hypot(peaks.q_error[:, None], self._error[alive])
        reach = np.maximum(3 * error, np.maximum(peaks.fwhm_q[:, None], self._fwhm[alive]) / 2)
        apart = np.abs(peaks.phi[:, None] - self._phi[alive])
        near = (off < reach) & (apart < (peaks.fwhm_phi[:, None] + self._width[alive]) / 2)
        pairs = np.argwhere(near)
        taken: set[int] = set()
        for peak, column in pairs[np.argsort(off[near], kind="stable")]:
            if numbers[peak] < 0 and int(column) not in taken:
                numbers[peak] = alive[column]
                taken.add(int(column))
        new = np.flatnonzero(numbers < 0)
        numbers[new] = len(self._q) + np.arange(len(new))
        self._grow(len(new))
        for state, values in zip(
            (self._q, self._error, self._fwhm, self._phi, self._width),
            (peaks.q, peaks.q_error, peaks.fwhm_q, peaks.phi, peaks.fwhm_phi),
            strict=True,
        ):
            state[numbers] = values
        self._last[numbers] = frame
        return numbers

    def _grow(self, count: int) -> None:
        for name in ("_q", "_error", "_fwhm", "_phi", "_width", "_last"):
            state = getattr(self, name)
            setattr(self, name, np.concatenate([state, np.zeros(count, state.dtype)]))


def score_tracks(lists: Sequence[PeakList], step: Callable[[int, Peaks], Int64]) -> TrackScore:
    """Track the peaks of a series by `step(frame, peaks)` and compare with the true reflections."""
    tracks, owners, frames = [], [], []
    for frame, one in enumerate(lists):
        tracks.append(step(frame, one.peaks))
        owners.append(one.reflection)
        frames.append(np.full(len(one.reflection), frame))
    return _score(np.concatenate(tracks), np.concatenate(owners), np.concatenate(frames))


def _score(track: Int64, owner: Int64, frame: Int64) -> TrackScore:
    real, numbered = owner != FALSE, track >= 0
    # A reflection that is listed twice in a frame is to be found once.
    n_real = len({(int(f), int(o)) for f, o in zip(frame[real], owner[real], strict=True)})
    both = real & numbered
    reflections, row = np.unique(owner[both], return_inverse=True)
    numbers, column = np.unique(track[both], return_inverse=True)
    shared = np.zeros((len(reflections), len(numbers)), np.int64)
    np.add.at(shared, (row, column), 1)
    chosen = linear_sum_assignment(shared, maximize=True)
    pairs = int(shared[chosen].sum())
    switches = doubles = whole = asked = 0
    for reflection in np.unique(owner[real]):
        mine = owner == reflection
        followed = mine & numbered
        sequence = _one_a_frame(frame[followed], track[followed])
        doubles += int(followed.sum()) - len(sequence)
        switches += int(np.count_nonzero(np.diff(sequence)))
        if mine.sum() >= _FEWEST:
            asked += 1
            whole += len(set(sequence)) == 1
    long = [n for n in np.unique(track[numbered]) if (track == n).sum() >= _FEWEST]
    pure = [len(np.unique(owner[track == n])) == 1 for n in long]
    return TrackScore(
        idf1=2 * pairs / max(n_real + int(numbered.sum()), 1),
        switches=switches,
        doubles=doubles,
        whole=whole / max(asked, 1),
        purity=float(np.mean(pure)) if pure else float("nan"),
        reflections=asked,
        tracks=len(np.unique(track[numbered])),
    )


def _one_a_frame(frame: Int64, track: Int64) -> list[int]:
    """Return the track of a reflection in each frame that has it; frames are in order."""
    sequence: list[int] = []
    for number in np.unique(frame):
        found = track[frame == number].tolist()
        sequence.append(sequence[-1] if sequence and sequence[-1] in found else found[0])
    return sequence


def evaluation_series(seed: int, count: int) -> Iterator[Series]:
    """Yield `count` series from `seed` on, the kinds of films in turn.

    Raises ConfigError for seeds that are not kept for evaluation.
    """
    for i, number in enumerate(require_within(seed, count, EVALUATION)):
        yield random_series(number, FILMS[i % len(FILMS)])


def compare_trackers(lists: Sequence[PeakList]) -> dict[str, TrackScore]:
    """Return the scores of our tracker and of the nearest peak on the same peak lists."""
    return {
        "tracks": score_tracks(lists, Tracker().step),
        "nearest": score_tracks(lists, NearestTracker().step),
    }
