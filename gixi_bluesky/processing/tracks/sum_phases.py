"""Phases of the tracks that only means of frames show: which line lies at their |q|."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gixi_bluesky.processing.tracks.course_plan import FIRST_SUM_TRACK
from gixi_bluesky.processing.tracks.phase_tables import LEAST_PROBABILITY, TRUSTED_FRAMES

if TYPE_CHECKING:
    from gixi_bluesky.processing.structures.reflections import Lines

__all__ = ["PhaseLines", "stored_lines", "with_phases_of_sums"]

Float64 = NDArray[np.float64]

_REACH = 0.004  # of |q|, within which a line may lie
_LEAST_INTENSITY = 0.01  # of a line, over the strongest one of its phase


@dataclass(frozen=True, slots=True)
class PhaseLines:
    """The powder lines of a candidate, with the lattice of its CIF.

    slug: its name in `matches`
    q: (n,) 1/angstrom; hkl: (n, 3); intensity: (n,)
    """

    slug: str
    q: Float64
    hkl: NDArray[np.int64]
    intensity: Float64

    @classmethod
    def of(cls, slug: str, reflections: Lines) -> PhaseLines:
        """Return the lines of a structure."""
        return cls(
            slug,
            np.asarray(reflections.q, float),
            np.asarray(reflections.hkl, np.int64).reshape(-1, 3),
            np.asarray(reflections.intensity, float),
        )


def stored_lines(phases: Iterable[Mapping[str, Any]]) -> list[PhaseLines]:
    """Return the lines that a run's start document has as `phases_searched`."""
    found = []
    for phase in phases:
        lines = phase.get("lines") or {}
        if lines.get("q"):
            found.append(
                PhaseLines(
                    str(phase["slug"]),
                    np.asarray(lines["q"], float),
                    np.asarray(lines["hkl"], np.int64).reshape(-1, 3),
                    np.asarray(lines["intensity"], float),
                )
            )
    return found


def with_phases_of_sums(
    tracks: pd.DataFrame, matches: pd.DataFrame, lines: Iterable[PhaseLines]
) -> pd.DataFrame:
    """Return the table with phase and hkl of tracks that only means show.

    tracks: with those of `with_sum_tracks`; matches: rows of `matches`
    Only phases that are probable in two frames or more are tried, each with the median of its
    lattice scale in these frames. A track within 0.4 % of a line of exactly one of them has that
    phase and the nearest line of it; with lines of several phases it has none.
    """
    sums = tracks["track"] >= FIRST_SUM_TRACK
    if not sums.any():
        return tracks
    scales = _scales(matches)
    places = [_scaled(one, scales[one.slug]) for one in lines if one.slug in scales]
    phases, hkl = tracks["phase"].tolist(), tracks["hkl"].tolist()
    for row in np.flatnonzero(sums.to_numpy()).tolist():
        q = float(tracks["q"].iloc[row])
        near = [(one, i) for one in places if (i := _nearest(one.q, q)) is not None]
        if len(near) == 1:
            ((one, i),) = near
            phases[row], hkl[row] = one.slug, " ".join(map(str, one.hkl[i]))
    return tracks.assign(phase=phases, hkl=hkl)


def _scales(matches: pd.DataFrame) -> dict[str, float]:
    """Return the lattice scale of each phase that is probable in enough frames."""
    trusted = matches[matches["probability"] >= LEAST_PROBABILITY]
    scales = {}
    for phase, rows in trusted.groupby("phase"):
        if len(rows) >= TRUSTED_FRAMES:
            known = rows["lattice_scale"].dropna()
            scales[str(phase)] = float(known.median()) if len(known) else 1.0
    return scales


def _scaled(one: PhaseLines, scale: float) -> PhaseLines:
    kept = one.intensity >= _LEAST_INTENSITY * one.intensity.max(initial=0.0)
    return PhaseLines(one.slug, one.q[kept] / scale, one.hkl[kept], one.intensity[kept])


def _nearest(lines: Float64, q: float) -> int | None:
    if not len(lines):
        return None
    nearest = int(np.argmin(np.abs(lines - q)))
    return nearest if abs(lines[nearest] - q) < _REACH * q else None
