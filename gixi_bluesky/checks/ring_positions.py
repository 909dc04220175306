"""A check that the peaks of an image lie on the lines of the configured phases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.plurals import counted

if TYPE_CHECKING:
    from gixi_bluesky.processing.structures.cif_files import Structure
    from gixi_bluesky.processing.structures.reflections import Lines
    from gixi_bluesky.processing.types import FrameResult

__all__ = ["line_up"]

Float64 = NDArray[np.float64]

_CERTAIN = 0.5
_STRONG = 0.003  # of the strongest line
_FEWEST_PEAKS, _MOST_PEAKS = 4, 15
_MOST = 0.7  # of the peaks
_AGREES = 0.004  # of |q|
_LEAST_SNR = 5.0
_FACTORS = np.exp(np.arange(np.log(0.4), np.log(2.5), 0.002))
_NEAR = 0.02  # a lattice or a calibration that is off by this much is for the matching


def line_up(
    result: FrameResult, structures: Sequence[Structure], wavelength: float
) -> tuple[str, list[str]]:
    """Return which configured phases are in the image, and a likely error of the distance.

    wavelength: angstrom
    """
    if not structures:
        return "no phases configured to compare with", []
    table = result.match_table
    present = [
        f"{phase} {probability:.2f} ({matched} of {counted(expected, 'line')})"
        for phase, probability, matched, expected in zip(
            table.phase, table.probability, table.n_matched, table.n_expected, strict=True
        )
        if probability >= _CERTAIN
    ]
    if present:
        return f"lines up with {', '.join(present)}", []
    peaks = result.peak_table
    clear = np.flatnonzero(np.isfinite(peaks.q) & (peaks.q > 0) & (peaks.snr >= _LEAST_SNR))
    observed = peaks.q[clear[np.argsort(-peaks.snr[clear])][:_MOST_PEAKS]]
    if len(observed) < _FEWEST_PEAKS:
        return f"too few clear peaks ({len(observed)}) to compare with the configured phases", []
    doubts = ["none of the configured phases explains the peaks"]
    for structure in structures:
        factor = _likely_distance(observed, structure.reflections, wavelength)
        if factor is not None:
            doubts.append(
                f"the peaks would lie on the lines of {structure.name} if the distance were about "
                f"{factor:.3f} times as long: check distance, wavelength and pixel size"
            )
    return "does not line up with a configured phase", doubts


def _likely_distance(observed: Float64, lines: Lines, wavelength: float) -> float | None:
    """Return the factor of the distance that puts most peaks on lines, None if none stands out.

    observed: (n,) |q|, 1/angstrom; wavelength: angstrom
    """
    expected = lines.q[lines.intensity >= _STRONG * lines.intensity.max()]
    radius = np.tan(2 * np.arcsin(np.minimum(observed * wavelength / (4 * np.pi), 0.7)))
    scores = np.empty(len(_FACTORS))
    for i, factor in enumerate(_FACTORS):
        there = 4 * np.pi / wavelength * np.sin(np.arctan(radius / factor) / 2)
        scores[i] = _explained(there, expected)
    best = int(np.argmax(scores))
    # Of many lines, some have a peak at any distance.
    by_chance = max(scores[np.abs(_FACTORS - 1) < _NEAR].max(), np.median(scores))
    stands_out = scores[best] >= max(_FEWEST_PEAKS - 0.5, 2 * by_chance)
    factor = float(_FACTORS[best])
    return factor if stands_out and abs(factor - 1) > _NEAR else None


def _explained(observed: Float64, expected: Float64) -> float:
    """Return the number of peaks on a line, less up to one half for their distances from these.

    0 if too many of the peaks in reach of the lines lie on none.
    """
    within = observed[observed <= expected.max() * (1 + _AGREES)]
    if len(within) < _FEWEST_PEAKS:
        return 0.0
    off = np.abs(expected[None, :] / within[:, None] - 1).min(axis=1)
    near = off[off < _AGREES]
    if len(near) < _MOST * len(within):
        return 0.0
    return len(near) - 0.5 * float(near.mean() / _AGREES)
