"""The input of the onsets of a run, in memory that does not grow with the frames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gixi_bluesky.processing.tables import Matches, MatchPeaks
from gixi_bluesky.processing.tracks.phase_tables import (
    LEAST_PROBABILITY,
    LEAST_SHARE,
    TRUSTED_FRAMES,
    phase_row,
)

__all__ = ["CourseBins", "Ledger"]

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_MOST_BINS = 1024


class CourseBins:
    """The courses of all tracks, averaged over equal numbers of frames once there are many.

    Up to `most` frames every measurement is kept as it is; beyond, each bin holds the weighted
    mean of 2, 4, 8 … frames.
    """

    def __init__(self, most: int = _MOST_BINS) -> None:
        self._most = most
        self._width = 1  # frames a bin
        self._weighted: dict[int, Float64] = {}
        self._weight: dict[int, Float64] = {}
        self._highest = 0

    @property
    def width(self) -> int:
        """Number of frames in a bin."""
        return self._width

    def add(self, frames: Int64, tracks: Int64, intensity: Float64, error: Float64) -> None:
        """Take measurements, (n,) each; NaN = no data."""
        known = np.isfinite(intensity) & np.isfinite(error) & (error > 0)
        if not known.any():
            return
        frames, tracks = frames[known], tracks[known]
        weight = error[known] ** -2.0
        weighted = weight * intensity[known]
        while int(frames.max()) // self._width >= self._most:
            self._halve()
        self._highest = max(self._highest, int(frames.max()))
        for track in np.unique(tracks):
            mine = tracks == track
            at = frames[mine] // self._width
            if int(track) not in self._weight:
                self._weight[int(track)] = np.zeros(self._most)
                self._weighted[int(track)] = np.zeros(self._most)
            np.add.at(self._weight[int(track)], at, weight[mine])
            np.add.at(self._weighted[int(track)], at, weighted[mine])

    def matrix(self, tracks: Iterable[int]) -> tuple[Int64, Float64, Float64]:
        """Return frames (n,), and of the tracks that were measured intensity and error (k, n)."""
        n = self._highest // self._width + 1
        mine = [track for track in tracks if track in self._weight]
        weight = np.array([self._weight[track][:n] for track in mine]).reshape(len(mine), n)
        weighted = np.array([self._weighted[track][:n] for track in mine]).reshape(len(mine), n)
        known = weight > 0
        safe = np.where(known, weight, 1.0)
        intensity = np.where(known, weighted / safe, np.nan)
        error = np.where(known, safe**-0.5, np.nan)
        frames = np.arange(n) * self._width
        measured = known.any(axis=0)
        return frames[measured], intensity[:, measured], error[:, measured]

    def _halve(self) -> None:
        self._width *= 2
        for values in (*self._weight.values(), *self._weighted.values()):
            values[: self._most // 2] = values[0::2] + values[1::2]
            values[self._most // 2 :] = 0.0


class Ledger:
    """The tracks of each phase, and their courses.

    It returns what `track_table` and `phase_table` return for all rows of a run.
    """

    def __init__(self) -> None:
        self.courses = CourseBins()
        self._peaks: defaultdict[int, int] = defaultdict(int)
        self._named: defaultdict[int, defaultdict[tuple[str, str], float]] = defaultdict(
            lambda: defaultdict(float)
        )
        self._probable: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def add_frame(self, tracks: Int64, matches: Matches, match_peaks: MatchPeaks) -> None:
        """Take the peaks of a frame by their tracks, (m,), -1 = none, and their explanations."""
        for track in tracks[tracks >= 0].tolist():
            self._peaks[track] += 1
        probability = dict(zip(matches.phase, matches.probability.tolist(), strict=True))
        for phase, value in probability.items():
            of_phase = self._probable[phase]
            of_phase[0] = max(of_phase[0], value)
            of_phase[1] += value >= LEAST_PROBABILITY
        hkl = (match_peaks.h.tolist(), match_peaks.k.tolist(), match_peaks.l.tolist())
        for peak, phase, *indices in zip(match_peaks.peak, match_peaks.phase, *hkl, strict=True):
            track = int(tracks[peak]) if 0 <= peak < len(tracks) else -1
            if track >= 0 and phase in probability:
                name = " ".join(map(str, indices))
                self._named[track][phase, name] += probability[phase]

    def explanations(self) -> dict[int, tuple[str, str]]:
        """Return phase and hkl by track, of those that have one."""
        found = {}
        for track, weights in self._named.items():
            by_phase: defaultdict[str, float] = defaultdict(float)
            for (phase, _), weight in weights.items():
                by_phase[phase] += weight
            least = LEAST_SHARE * self._peaks[track]
            good = {key: w for key, w in weights.items() if by_phase[key[0]] >= least}
            if good:
                found[track] = max(good, key=lambda key: (by_phase[key[0]], good[key]))
        return found

    def phases(self, times: Mapping[int, float]) -> pd.DataFrame:
        """Return the phases as `phase_table` does; beyond `width` frames, bounds are coarse."""
        named = self.explanations()
        rows: list[dict[str, Any]] = []
        for phase, (highest, frames) in sorted(self._probable.items()):
            if frames < TRUSTED_FRAMES:
                continue
            mine = sorted(track for track, (name, _) in named.items() if name == phase)
            matrix, width = self.courses.matrix(mine), self.courses.width
            rows.append(phase_row(phase, highest, len(mine), matrix, times, width))
        return pd.DataFrame(rows)
