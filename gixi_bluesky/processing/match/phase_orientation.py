"""Orientation of a phase: contact plane, mosaic spread and random fraction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.match.contact_planes import ANGLES, family_angles
from gixi_bluesky.processing.match.fibre_models import (
    FEWEST_SPOTS,
    LEAST_SEEN,
    RING_DEG,
    STRAY,
)
from gixi_bluesky.processing.match.lines import Visibility
from gixi_bluesky.processing.match.plane_angles import PlaneAngles
from gixi_bluesky.processing.match.tilts import MOSAICS_DEG
from gixi_bluesky.processing.match.views import View
from gixi_bluesky.processing.structures.directions import Cell, Hkl

__all__ = ["PhaseOrientation", "Spots", "phase_orientation"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

OFF_AXIS_DEG = 10.0  # from the surface and its normal; nearer, the width along phi is not the tilt
ALLOWED = 0.1  # of a fibre's highest density


@dataclass(frozen=True, slots=True)
class Spots:
    """Matched peaks of one phase: (n,) each.

    hkl: (n, 3) family of the line; q_cif: its |q|, 1/angstrom; strength: of the line, strongest = 1
    phi, fwhm_phi: deg; size_deg: width along phi that the width along q gives a spot
    """

    cell: Cell
    hkl: Int64
    q: Float64
    strength: Float64
    phi: Float64
    fwhm_phi: Float64
    size_deg: Float64
    intensity: Float64


@dataclass(frozen=True, slots=True)
class PhaseOrientation:
    """The texture of one phase.

    contact: hkl along the surface normal, None = not textured; probability: of that plane
    mosaic_deg, mosaic_error_deg: FWHM of the tilt, NaN = unknown
    random_fraction: share of the phase without preferred orientation
    angle_deg: (n,) of each peak's family to the contact plane, nearest to where the peak lies
    """

    contact: Hkl | None
    probability: float
    mosaic_deg: float
    mosaic_error_deg: float
    random_fraction: float
    angle_deg: Float64


def phase_orientation(
    spots: Spots, visibility: Visibility, angles: PlaneAngles | None = None
) -> PhaseOrientation:
    """Find the texture that explains where along phi the peaks of a phase lie.

    Each spot is one draw from the density of its line along the visible phi: even for a powder;
    for a fibre that of Fisher tilts about the contact plane, with a tenth of strays. Planes have
    prior weights of 1 / (|h| + |k| + |l|)², mosaics equal ones, powder and fibre one half each.
    The mosaic is the mean width along phi of isolated spots off the axes, their size taken off.
    angles: of the phase's lines; None = computed for this call
    """
    narrow = spots.fwhm_phi < RING_DEG
    if narrow.sum() < FEWEST_SPOTS:
        return _powder(spots)
    hkl = [(int(h), int(k), int(el)) for h, k, el in spots.hkl]
    lines = sorted(set(hkl))
    angles = angles or PlaneAngles.of(spots.cell, lines)
    row = np.array([lines.index(one) for one in hkl])
    place = np.array([angles.rows[one] for one in lines])[row]
    view = View.of(visibility)
    at = np.clip(np.rint(spots.phi), 0, 90).astype(np.int64)
    density, brought = angles.at(place, at), angles.brought(place, view, view.column(spots.q))
    relative = (1 - STRAY) * density / np.maximum(brought, LEAST_SEEN) + STRAY
    weight = narrow / np.sqrt(np.bincount(row, narrow, len(lines))[row].clip(1))
    logs = np.einsum("j,jpm->pm", weight, np.log(relative))
    logs += np.log(angles.prior)[:, None] - np.log(len(MOSAICS_DEG))
    top = logs.max()
    posterior = np.exp(logs - top)
    log_fibre = float(top + np.log(posterior.sum()))
    fibre = float(1 / (1 + np.exp(-np.clip(log_fibre, -500, 500))))
    if fibre < 0.5:
        return _powder(spots)
    posterior /= posterior.sum()
    plane = int(posterior.sum(axis=1).argmax())
    mosaic = int(posterior[plane].argmax())
    families = [family_angles(spots.cell, one)[plane] for one in hkl]
    angle = np.array(
        [a[np.argmin(abs(90 - a - phi))] for a, phi in zip(families, spots.phi, strict=True)]
    )
    own = angles.along_phi(np.array([angles.rows[one] for one in lines]), plane, mosaic)
    allowed = own[row, at] > ALLOWED * own.max(axis=1)[row]
    width, error = _mosaic(spots, narrow & allowed, angle)
    first = np.array([hkl.index(one) for one in lines])
    random = _random_fraction(spots, row, narrow, own, _visible(spots.q[first], visibility))
    h, k, el = (int(i) for i in angles.planes[plane])
    return PhaseOrientation(
        contact=(h, k, el),
        probability=float(posterior[plane].sum() * fibre),
        mosaic_deg=width,
        mosaic_error_deg=error,
        random_fraction=random,
        angle_deg=angle,
    )


def _powder(spots: Spots) -> PhaseOrientation:
    n = len(spots.q)
    return PhaseOrientation(
        None,
        np.nan,
        np.nan,
        np.nan,
        1.0 if n else np.nan,
        np.full(n, np.nan),
    )


def _visible(q: Float64, visibility: Visibility) -> Float64:
    """Return (n, 91): 1 where the line has data at each whole phi, else 0."""
    column = np.clip(visibility.column(q), 0, len(visibility.q) - 1)
    row = np.abs(visibility.phi[:, None] - ANGLES).argmin(axis=0)
    return visibility.seen[row[None, :], column[:, None]].astype(np.float64)


def _mosaic(spots: Spots, usable: Bool, angle: Float64) -> tuple[float, float]:
    """Return the FWHM of the tilt and its error from isolated spots off the axes, deg."""
    off_axis = (angle > OFF_AXIS_DEG) & (angle < 90 - OFF_AXIS_DEG)
    chosen = np.flatnonzero(usable & off_axis)
    width = np.sqrt(np.maximum(spots.fwhm_phi[chosen] ** 2 - spots.size_deg[chosen] ** 2, 0.0))
    # A tilt wider than the angle to an axis folds over it.
    inner = width < 1.5 * np.minimum(angle[chosen], 90 - angle[chosen])
    width, strength = width[inner], np.sqrt(spots.intensity[chosen][inner])
    if not len(width):
        return np.nan, np.nan
    median = _weighted_median(width, strength)
    if len(width) < 3:
        return median, np.nan
    spread = 1.4826 * _weighted_median(abs(width - median), strength)
    return median, float(1.25 * max(spread, 0.05 * median) / np.sqrt(len(width)))


def _weighted_median(values: Float64, weights: Float64) -> float:
    order = np.argsort(values)
    below = np.cumsum(weights[order]) - 0.5 * weights[order]
    return float(np.interp(0.5 * weights.sum(), below, values[order]))


def _random_fraction(
    spots: Spots, row: Int64, narrow: Bool, density: Float32, visible: Float64
) -> float:
    """Return the amount in rings over that in rings and spots, the median over lines of each.

    row: of each peak's line; density: of the fibre along phi; visible: (lines, 91)
    """
    n = len(visible)
    first = np.array([int(np.argmax(row == line)) for line in range(n)])
    ring = np.bincount(row, spots.intensity * ~narrow, n)
    spot = np.bincount(row, spots.intensity * narrow, n)
    of_ring = spots.strength[first] * visible.sum(axis=1)
    of_spot = spots.strength[first] * (density * visible).sum(axis=1)
    random = float(np.median(ring / np.maximum(of_ring, 1e-12)))
    fibre = float(np.median(spot / np.maximum(of_spot, 1e-12)))
    return random / (random + fibre) if random + fibre > 0 else np.nan
