"""Whether the peaks of an image lie where the configured phases have their lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gixi_bluesky.processing.structures.cif_files import Structure
    from gixi_bluesky.processing.types import FrameResult

__all__ = ["line_up"]

Float64 = NDArray[np.float64]

_CERTAIN = 0.5
_STRONG = 0.1  # of the strongest line
_MOST_LINES = 12
_FEWEST_LINES = 4
_AGREES = 0.004  # of |q|
_LEAST_SNR = 5.0
_SCALES = np.exp(np.arange(np.log(0.4), np.log(2.5), 0.002))
_NEAR = 0.02  # a lattice or a calibration that is off by this much is for the matching


def line_up(result: FrameResult, structures: Sequence[Structure]) -> tuple[str, list[str]]:
    """Return which configured phases are in the image, and a likely error of the distance."""
    if not structures:
        return "no phases configured to compare with", []
    table = result.match_table
    present = [
        f"{phase} {probability:.2f} ({matched} of {expected} lines)"
        for phase, probability, matched, expected in zip(
            table.phase, table.probability, table.n_matched, table.n_expected, strict=True
        )
        if probability >= _CERTAIN
    ]
    if present:
        return f"lines up with {', '.join(present)}", []
    peaks = result.peak_table
    observed = peaks.q[np.isfinite(peaks.q) & (peaks.snr >= _LEAST_SNR)]
    if len(observed) < _FEWEST_LINES:
        return f"too few clear peaks ({len(observed)}) to compare with the configured phases", []
    doubts = ["none of the configured phases explains the peaks"]
    for structure in structures:
        scale = _likely_scale(observed, structure, float(result.q[-1]))
        if scale is not None:
            doubts.append(
                f"the peaks would lie on the lines of {structure.name} if all |q| were {scale:.3f} "
                f"times as large: check distance (about {1 / scale:.3f} times as long), wavelength "
                "and pixel size"
            )
    return "does not line up with a configured phase", doubts


def _likely_scale(observed: Float64, structure: Structure, q_max: float) -> float | None:
    """Return the factor of all |q| by which most strong lines have a peak, None if none stands out.

    observed: (n,) |q|, 1/angstrom
    """
    lines = structure.reflections
    strong = np.flatnonzero(lines.intensity >= _STRONG * lines.intensity.max())
    strong = strong[np.argsort(-lines.intensity[strong])][:_MOST_LINES]
    expected = np.asarray(lines.q)[strong]
    scores = np.array([_found(observed * scale, expected, q_max * scale) for scale in _SCALES])
    best = int(np.argmax(scores))
    # Of many peaks, some lie on lines at any scale.
    here = max(scores[np.abs(_SCALES - 1) < _NEAR].max(), np.median(scores))
    scale = float(_SCALES[best])
    stands_out = scores[best] >= max(_FEWEST_LINES, 2 * here, 0.6 * len(expected))
    return scale if stands_out and abs(scale - 1) > _NEAR else None


def _found(observed: Float64, expected: Float64, reach: float) -> int:
    """Return how many expected lines within reach have a peak."""
    within = expected[expected <= reach]
    if not len(within):
        return 0
    nearest = np.abs(observed[None, :] / within[:, None] - 1).min(axis=1)
    return int(np.count_nonzero(nearest < _AGREES))
