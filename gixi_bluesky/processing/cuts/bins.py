"""Assignment of detector pixels to the bins of one cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gixi_bluesky.errors import GeometryError
from gixi_bluesky.processing.cuts.coordinates import PixelCoordinates, bin_areas
from gixi_bluesky.processing.cuts.settings import CutSettings

__all__ = ["Bins", "Strip", "edges_of"]

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_PHI_STEP_DEG = 0.5
# Rows of the detector whose pixels are added up together, so that they stay in the cache.
_BAND = 32


@dataclass(frozen=True, slots=True)
class Bins:
    """The bins along a cut and the coordinate range across it.

    edges: (n + 1,) in the unit of the axis
    across: (low, high) of the other coordinate
    """

    edges: Float64
    across: tuple[float, float]

    @property
    def centers(self) -> Float64:
        """(n,) centres of the bins."""
        return (self.edges[1:] + self.edges[:-1]) / 2


@dataclass(frozen=True, slots=True)
class Strip:
    """The valid pixels of one range across a cut, sorted into its bins.

    matrix: sparse (bands · bins, flat pixels of a frame after `orient`), one entry a pixel
    n_pixels: (bins,) pixels; norm: (bins,) sum of their correction factors
    area: (bins,) sum of their areas, and of those a bin would have, 1/angstrom²
    """

    matrix: sparse.csr_array
    n_pixels: Int64
    norm: Float64
    area: Float64
    full_area: Float64

    @classmethod
    def of(
        cls,
        settings: CutSettings,
        bins: Bins,
        side: str,
        pixels: PixelCoordinates,
        valid: Bool,
        factor: Float32,
        horizon_q_z: float,
    ) -> Strip:
        """Sort the `valid` pixels (rows, columns); `factor` is what their counts are divided by."""
        signed = side == "both"
        along = pixels.along(settings.along, signed=signed)
        across = pixels.along(settings.across, signed=False)
        low, high = bins.across
        inside = valid & pixels.above & (across >= low) & (across < high)
        if side in ("left", "right"):
            inside &= (pixels.q_xy < 0) if side == "left" else (pixels.q_xy >= 0)
        inside &= (along >= bins.edges[0]) & (along < bins.edges[-1])
        flat = np.flatnonzero(inside)
        if not flat.size:
            message = (
                f"no valid pixel has {settings.along} in {bins.edges[0]:g} to {bins.edges[-1]:g} "
                f"and {settings.across} in {low:g} to {high:g}"
            )
            raise GeometryError(message)
        n = len(bins.edges) - 1
        bin_number = np.searchsorted(bins.edges, along.ravel()[flat], side="right") - 1
        band = flat // valid.shape[1] // _BAND
        n_bands = -(-valid.shape[0] // _BAND)
        row = band * n + bin_number
        entries = (np.ones(len(flat), np.float32), (row, flat.astype(np.int32)))
        matrix = sparse.coo_array(entries, shape=(n_bands * n, valid.size)).tocsr()

        def summed(values: NDArray[np.floating]) -> Float64:
            weights = values.ravel()[flat].astype(np.float64)
            return np.bincount(bin_number, weights=weights, minlength=n).astype(np.float64)

        sides = 2 if side == "fold" else 1
        edges = np.abs(bins.edges) if signed and settings.along == "phi" else bins.edges
        return cls(
            matrix=matrix,
            n_pixels=np.bincount(bin_number, minlength=n),
            norm=summed(factor),
            area=summed(pixels.area),
            full_area=np.abs(bin_areas(settings.along, edges, bins.across, sides, horizon_q_z)),
        )

    def total(self, values: Float32) -> Float64:
        """Return the sum over each bin's pixels, (bins,), of a frame (rows · columns,)."""
        n = len(self.n_pixels)
        sums: Float64 = (self.matrix @ values).reshape(-1, n).sum(axis=0, dtype=np.float64)
        return sums


def edges_of(
    settings: CutSettings,
    side: str,
    pixels: PixelCoordinates,
    q_max: float,
    n_q: int,
    *,
    changing: bool = False,
) -> Float64:
    """Return the edges of the bins, (n + 1,).

    q_max, n_q: of the polar grid; they set the reach and the width of bins that are not configured
    changing: the geometry differs from frame to frame, the edges must not
    """
    signed = side == "both"
    reach = _grid_reach if changing and settings.along in ("q_xy", "q_z") else _reach
    low, high = settings.axis_range or reach(settings, pixels, q_max, signed=signed)
    if settings.spacing == "log":
        return np.geomspace(low, high, (settings.bins or n_q) + 1)
    step = _PHI_STEP_DEG if settings.along == "phi" else q_max / n_q
    return np.linspace(low, high, (settings.bins or max(round((high - low) / step), 2)) + 1)


def _grid_reach(
    settings: CutSettings, pixels: PixelCoordinates, q_max: float, *, signed: bool
) -> tuple[float, float]:
    """Return the reach of the polar grid, whatever the detector sees of it."""
    negative = signed if settings.along == "q_xy" else bool((pixels.q_z[pixels.above] < 0).any())
    return (-q_max if negative else 0.0), q_max


def _reach(
    settings: CutSettings, pixels: PixelCoordinates, q_max: float, *, signed: bool
) -> tuple[float, float]:
    if settings.along == "phi":
        return (-90.0, 90.0) if signed else (0.0, 90.0)
    if settings.along == "q":
        return 0.0, q_max
    seen = pixels.along(settings.along, signed=signed)[pixels.above]
    lowest = float(seen.min(initial=np.inf)) if signed or settings.along == "q_z" else 0.0
    return max(lowest, -q_max), min(float(seen.max(initial=-np.inf)), q_max)
