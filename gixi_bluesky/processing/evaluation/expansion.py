"""Thermal expansion of two phases over simulated series, as the refined cells show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.evaluation.crystal_scorecard import NORMAL_SIGMA
from gixi_bluesky.processing.evaluation.mixtures import (
    ZERO_ERROR,
    MixedPhase,
    Mixture,
    SharedConditions,
    mixture_of,
    seen_by_a_flat_detector,
)
from gixi_bluesky.processing.match.phases import Matcher
from gixi_bluesky.processing.settings import MatchingSettings
from gixi_bluesky.processing.simulation.texture import Cell, Texture
from gixi_bluesky.processing.structures.cif_files import Structure, read_structures, shipped_cifs
from gixi_bluesky.processing.tables import Matches

__all__ = ["ExpansionReport", "expanding_series", "judge_expansion"]

Float64 = NDArray[np.float64]

EXPANSION = 0.005  # of the lengths a over a series
TETRAGONAL, CUBIC = "MAPbI3", "MAPbBr3"
_AXIAL = -0.6  # expansion along c over that along a, of the tetragonal phase
_Q_MAX = 4.0
_LENGTHS = ((TETRAGONAL, 0), (TETRAGONAL, 2), (CUBIC, 0))
_ONE_OF_EACH = [0, 2]  # of these, a length of each phase


@dataclass(frozen=True, slots=True)
class ExpansionReport:
    """Lengths of the cells in all frames, and their expansion over each series.

    found: share of the frames' phases found at a probability above 0.5
    length_error: median |da| / a; length_pull: width of da over its error
    expansion_error: median of |found - true| expansion; expansion_pull: width of that over the
        error that follows from the cells' errors; worst_pull: the largest
    """

    series: int
    frames: int
    found: float
    length_error: float
    length_pull: float
    expansion_error: float
    expansion_pull: float
    worst_pull: float

    def summary(self) -> dict[str, Any]:
        """Return the numbers by name."""
        return asdict(self)


def expanding_series(
    seed: int, n_frames: int, candidates: tuple[Structure, ...]
) -> Iterator[Mixture]:
    """Yield the frames of one series of a tetragonal and a cubic phase.

    Both lengths a grow by 0.5 %, c of the tetragonal phase shrinks by 0.3 %. Amounts, textures and
    view are those of the series; zero error, line errors and false peaks those of each frame.
    """
    rng = np.random.default_rng([seed, 4])
    polar = seen_by_a_flat_detector(rng, _Q_MAX)
    snr = np.exp(rng.uniform(np.log(60), np.log(600), 2))
    fwhm = float(rng.uniform(0.01, 0.025))
    textures = (Texture(), Texture(contact=(1, 0, 0), mosaic_deg=6.0, powder_fraction=0.3))
    of_phase = [textures[int(i)] for i in rng.integers(2, size=2)]
    structures = {c.slug: c for c in candidates}
    for strain in np.linspace(0, EXPANSION, n_frames):
        lengths = {TETRAGONAL: (strain, strain, _AXIAL * strain), CUBIC: (strain,) * 3}
        phases = [
            MixedPhase(structures[slug], 0.5, _strained(structures[slug].cell, change), *rest)
            for (slug, change), *rest in zip(lengths.items(), of_phase, snr.tolist(), strict=True)
        ]
        conditions = SharedConditions(fwhm, float(snr.max()), float(rng.normal(0, ZERO_ERROR)))
        yield mixture_of(rng, phases, polar, conditions, candidates)


def judge_expansion(seed: int, count: int, n_frames: int = 20) -> ExpansionReport:
    """Match `count` series from `seed` on and compare cells and expansions with the true ones."""
    candidates = read_structures(shipped_cifs().values(), _Q_MAX)
    match = Matcher(candidates, MatchingSettings())
    series = [
        np.array([_relative_lengths(match, f) for f in expanding_series(n, n_frames, candidates)])
        for n in range(seed, seed + count)
    ]
    strain, error = np.moveaxis(np.array(series), 3, 0)  # (series, frames, lengths) each
    known = np.isfinite(error) & (error > 0)
    found = np.isfinite(strain[..., _ONE_OF_EACH]).mean()
    along = np.linspace(0, 1, n_frames)
    drift, drift_error = np.array(
        [
            _drift(along[seen], strain[n, seen, axis], error[n, seen, axis])
            for n, axis in np.ndindex(count, len(_LENGTHS))
            if (seen := known[n, :, axis]).sum() > n_frames / 2
        ]
    ).T
    strain, error = strain[known], error[known]
    return ExpansionReport(
        series=count,
        frames=count * n_frames,
        found=float(found),
        length_error=float(np.median(abs(strain))),
        length_pull=NORMAL_SIGMA * float(np.median(abs(strain / error))),
        expansion_error=float(np.median(abs(drift))),
        expansion_pull=NORMAL_SIGMA * float(np.median(abs(drift / drift_error))),
        worst_pull=float(abs(drift / drift_error).max()),
    )


def _strained(cell: Cell, change: tuple[float, float, float]) -> Cell:
    a, b, c = (length * (1 + part) for length, part in zip(cell[:3], change, strict=True))
    return a, b, c, *cell[3:]


def _relative_lengths(match: Matcher, frame: Mixture) -> Float64:
    """Return (lengths, 2): the strain that is found beyond the true one, and its error."""
    matches, _ = match(frame.peaks, frame.polar)
    true = {phase.structure.slug: phase.cell for phase in frame.present}
    found = np.array([_length(matches, slug, axis) for slug, axis in _LENGTHS])
    found /= np.array([true[slug][axis] for slug, axis in _LENGTHS])[:, None]
    found[:, 0] -= 1
    return found


def _length(matches: Matches, slug: str, axis: int) -> tuple[float, float]:
    """Return a length of a phase and its error, angstrom; NaN = not found."""
    row = np.flatnonzero((matches.phase == slug) & (matches.probability > 0.5))
    if not len(row):
        return np.nan, np.nan
    name = f"cell_{'abc'[axis]}"
    return float(getattr(matches, name)[row[0]]), float(getattr(matches, f"{name}_error")[row[0]])


def _drift(along: Float64, off: Float64, error: Float64) -> tuple[float, float]:
    """Return what grows from 0 to 1 along the series in `off`, and its standard error."""
    weight = error**-2
    mean = np.average(along, weights=weight)
    spread = float((weight * (along - mean) ** 2).sum())
    return float((weight * (along - mean) * off).sum() / spread), spread**-0.5
