"""A check that the rings of an image are centred on the beam, and not mirrored or elsewhere.

Averaged over phi, rings are sharp only about their true centre. The profile of the image is
therefore compared with those of the image flipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from gixi_bluesky.processing.remap.sides import Sides

if TYPE_CHECKING:
    from gixi_bluesky.processing.geometry.instrument import Geometry

__all__ = ["doubtful_orientation", "sharpness"]

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]

_BINS = 600
_PIXELS = 400_000
_FEWEST = 20  # pixels in a bin whose mean says something
_BROAD = 12.0  # bins, of what is no ring
_SHARPER = 2.0  # a flip that makes the profile sharper by this factor is likely right
_RINGS = 3.0  # sharpness over that of counting noise, below which there are no rings
_SIDES_AGREE = 0.003
_FLIPS = {"vertical": (-1, 1), "horizontal": (1, -1), "both": (-1, -1)}


def doubtful_orientation(
    frame: NDArray[Any], valid: Bool, geometry: Geometry, q_max: float
) -> tuple[str, list[str]]:
    """Return what the rings of an image say of the geometry, and what is doubtful.

    frame, valid: (rows, columns) after `orient`; q_max in 1/angstrom
    """
    here = sharpness(frame, valid, geometry, q_max)
    flipped = {
        name: sharpness(frame[::rows, ::columns], valid[::rows, ::columns], geometry, q_max)
        for name, (rows, columns) in _FLIPS.items()
    }
    doubts = []
    best = max(flipped, key=lambda name: flipped[name])
    if flipped[best] > max(_SHARPER * here, _RINGS):
        doubts.append(
            f"rings are {flipped[best] / max(here, 1.0):.1f} times as sharp if the image is "
            f"flipped once more ({best}): check geometry.flip and the beam centre"
        )
    difference = Sides(geometry, valid, q_max).difference(frame)
    if difference is None:
        return "no rings on both sides of the beam to compare", doubts
    if abs(difference) > _SIDES_AGREE:
        doubts.append(
            f"rings lie {difference:+.2%} in |q| on the right of the beam against the left: check "
            "the beam centre's column"
        )
    return f"rings left and right of the beam agree within {abs(difference):.2%}", doubts


def sharpness(frame: NDArray[Any], valid: Bool, geometry: Geometry, q_max: float) -> float:
    """Return the variance of the radial profile about its broad course, over that of its noise.

    The noise is the scatter of the pixels within their rings, so that 1 means no ring at all.
    """
    every = -(-frame.size // _PIXELS)
    rows, columns = np.indices(frame[::every].shape).astype(float)
    q_xy, q_z = geometry.q_at(rows * every, columns)
    use = valid[::every] & (q_z > geometry.horizon_q_z) & np.isfinite(frame[::every])
    q = np.hypot(q_xy, q_z)[use]
    counts = np.sqrt(np.maximum(frame[::every][use].astype(float), 0))
    bins = np.floor(q / q_max * _BINS).astype(int)
    inside = bins < _BINS
    bins, counts = bins[inside], counts[inside]
    n = np.bincount(bins, minlength=_BINS)
    enough = n >= _FEWEST
    if np.count_nonzero(enough) < _BINS // 10:
        return 0.0
    mean = np.bincount(bins, counts, minlength=_BINS)[enough] / n[enough]
    square = np.bincount(bins, counts**2, minlength=_BINS)[enough] / n[enough]
    within = np.maximum(square - mean**2, 1e-12) / n[enough]
    standing = mean - gaussian_filter1d(mean, _BROAD)
    return float(np.mean(standing**2) / np.mean(within))
