"""The tables `matches` and `match_peaks` of one frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.match.bayes_factors import Trials
from gixi_bluesky.processing.match.candidates import matched_members
from gixi_bluesky.processing.match.lines import Features
from gixi_bluesky.processing.match.refinement import Refined
from gixi_bluesky.processing.tables import Matches, MatchPeaks, Peaks

__all__ = ["match_peaks_table", "matches_table"]

Int64 = NDArray[np.int64]

LOWEST_ASSIGNED = 0.05  # phases less probable name no hkl
_CELL = ("cell_a", "cell_b", "cell_c", "cell_alpha", "cell_beta", "cell_gamma")


def matches_table(refined: Sequence[Refined], features: Features) -> Matches:
    """Return a row for each candidate, in their order."""
    total = float(features.intensity.sum())
    table: Matches = Matches.from_rows([_row(one, total) for one in refined])
    return table


def _row(one: Refined, total: float) -> dict[str, Any]:
    c, pairs, tried = one.candidate, one.pairs, one.candidate.tried
    explained = tried.features.intensity[np.unique(tried.feature_of(pairs))].sum()
    expected = tried.expected(c.slot, one.amount)
    row = {
        "phase": c.structure.slug,
        "probability": c.bounded_probability,
        "intensity_fraction": explained / total if total > 0 else 0.0,
        "n_matched": len(pairs),
        "n_expected": len(np.union1d(expected, tried.line_of(pairs))),
        "group": ",".join(c.group),
        "zero_error": one.zero,
    }
    if one.lattice is None:
        scale, error = _isotropic(tried, pairs)
        cell = np.array(c.structure.cell) * np.array([scale] * 3 + [1.0] * 3)
        row |= {"lattice_scale": scale, "lattice_scale_error": error}
        row |= dict(zip(_CELL, cell, strict=True))
    else:
        row |= {"lattice_scale": one.lattice.scale, "lattice_scale_error": one.lattice.scale_error}
        row |= dict(zip(_CELL, one.lattice.cell, strict=True))
        row |= {f"{k}_error": v for k, v in zip(_CELL, one.lattice.error, strict=True)}
    return row | _texture(one)


def _texture(one: Refined) -> dict[str, float]:
    texture = one.orientation
    if texture is None:
        return {}
    if texture.contact is None:
        return {"random_fraction": texture.random_fraction}
    return {
        **dict(
            zip(("contact_h", "contact_k", "contact_l"), map(float, texture.contact), strict=True)
        ),
        "contact_probability": texture.probability,
        "mosaic_deg": texture.mosaic_deg,
        "mosaic_error_deg": texture.mosaic_error_deg,
        "random_fraction": texture.random_fraction,
    }


def match_peaks_table(refined: Sequence[Refined], peaks: Peaks) -> MatchPeaks:
    """Return a row for each peak that a candidate of some probability explains."""
    rows: list[dict[str, Any]] = []
    for one in refined:
        c = one.candidate
        if c.probability < LOWEST_ASSIGNED:
            continue
        peak, row = matched_members(c.tried, one.pairs)
        line = c.tried.line_of(one.pairs)[row]
        hkl, q_cif = c.tried.lines.hkl[line], c.tried.lines.q[line]
        if one.lattice is None:
            expected = q_cif / _isotropic(c.tried, one.pairs)[0]
        else:
            expected = one.lattice.q_at(hkl, q_cif, c.structure.cell)
        texture = one.orientation
        angle = np.full(len(peak), np.nan) if texture is None else texture.angle_deg
        rows += [
            {
                "peak": int(peaks.peak[index]), "phase": c.structure.slug,
                "h": int(h), "k": int(k), "l": int(el),
                "dq": peaks.q[index] - q - one.zero, "contact_angle_deg": at,
            }
            for index, (h, k, el), q, at in zip(peak, hkl, expected, angle, strict=True)
        ]  # fmt: skip
    table: MatchPeaks = MatchPeaks.from_rows(rows)
    return table


def _isotropic(tried: Trials, pairs: Int64) -> tuple[float, float]:
    """Return the lattice scale and its error, by least squares of q·scale = q of the CIF."""
    if not len(pairs):
        return 1.0, np.nan
    observed = tried.features.q[tried.feature_of(pairs)] - tried.limits.zero
    weight = (observed / tried.sigma_of(pairs)) ** 2
    scale = float(np.average(tried.lines.q[tried.line_of(pairs)] / observed, weights=weight))
    return float(np.clip(scale, tried.scales[0], tried.scales[-1])), float(weight.sum() ** -0.5)
