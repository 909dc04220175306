"""Data between the stages: images, cuts, detections and the result of one frame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.tables import (
    Matches,
    MatchPeaks,
    Peaks,
    TextureTable,
    numbered,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "KINDS",
    "CartesianImage",
    "Cut",
    "Detections",
    "FrameResult",
    "PolarImage",
    "RemappedImage",
]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

KINDS = ("ring", "segment", "spot")


@dataclass(frozen=True, slots=True)
class RemappedImage:
    """A frame on a regular reciprocal grid; no data is NaN in `intensity` and 0 in `pixels`.

    intensity: (rows, columns) float32, mean counts per detector pixel
    variance: (rows, columns) float32, variance of that mean, counts²
    pixels: (rows, columns) float32, detector pixels averaged into the bin
    """

    intensity: Float32
    variance: Float32
    pixels: Float32

    def over(self, monitor: float) -> Self:
        """Return the image divided by the beam's intensity, which is taken as exact."""
        return replace(
            self,
            intensity=self.intensity / np.float32(monitor),
            variance=self.variance / np.float32(monitor) ** 2,
        )


@dataclass(frozen=True, slots=True)
class CartesianImage(RemappedImage):
    """A frame on (q_z, q_xy); row 0 is the lowest q_z.

    q_xy: (columns,) float64, 1/angstrom; signed in pictures, from 0 on where peaks are searched
    q_z: (rows,) float64, 1/angstrom
    """

    q_xy: Float64
    q_z: Float64


@dataclass(frozen=True, slots=True)
class PolarImage(RemappedImage):
    """A frame in polar reciprocal coordinates; row 0 is phi = 0 (along q_xy).

    q: (columns,) float64, |q| of the column centres, 1/angstrom
    phi: (rows,) float64, polar angle of the row centres, deg
    gain, readout_noise: of the noise model that was used, counts; a pixel's variance is
        gain · counts + readout_noise²; NaN = unknown
    """

    q: Float64
    phi: Float64
    gain: float = math.nan
    readout_noise: float = math.nan


@dataclass(frozen=True, slots=True)
class Cut:
    """Mean counts per pixel along one coordinate; NaN where the detector sees nothing.

    along: q, phi, q_xy or q_z
    unit: of the axis, 1/angstrom or deg
    axis: (n,) centres of the bins
    intensity, error: (n,) mean counts per pixel and standard error, counts
    n_pixels: (n,) int64, detector pixels in each bin
    coverage: (n,) share of the area of each bin that valid pixels cover, 0 to 1
    """

    name: str
    along: str
    unit: str
    axis: Float64
    intensity: Float64
    error: Float64
    n_pixels: Int64
    coverage: Float64

    def over(self, monitor: float) -> Cut:
        """Return the cut divided by the beam's intensity, which is taken as exact."""
        return replace(self, intensity=self.intensity / monitor, error=self.error / monitor)


@dataclass(frozen=True, slots=True)
class Detections:
    """Boxes found in one image, polar or as `grid.space` says.

    boxes: (m, 4) float32 [q0, phi0, q1, phi1] in pixels, pixel centres at integers
    scores: (m,) float32 in 0…1
    kinds: (m,) int64 index into KINDS, as the network sees them; None = the detector gives none
    """

    boxes: Float32
    scores: Float32
    kinds: Int64 | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, threshold: float, limit: int) -> Detections:
        """Return the at most `limit` best detections with a score of at least `threshold`."""
        best = np.argsort(-self.scores, kind="stable")[:limit]
        return self.chosen(best[self.scores[best] >= threshold])

    def chosen(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Detections:
        """Return some of the detections, by their numbers or a mask."""
        kinds = None if self.kinds is None else self.kinds[index]
        return Detections(self.boxes[index], self.scores[index], kinds)


@dataclass(frozen=True, slots=True)
class FrameResult:
    """The result of the pipeline for one frame.

    polar: the remapped image with variance and pixel counts
    cartesian: the image that was searched where `grid.space` is cartesian, else None
    seconds: wall time of each stage; `maps` only where they had to be built
    cpu_seconds: of each stage, all threads of the process together
    warnings: what a scientist should know, one sentence each
    cuts: the configured cuts by name
    step_rows: by step and column, the rows of the steps without a state
    tracks: (m,) of the peaks, -1 = none; None where the frame was analysed by itself
    replaced_pixels: of the frame, far above all their neighbours
    q_image: the frame on (q_z, q_xy) as it is stored, where it was asked for
    """

    polar: PolarImage
    peak_table: Peaks
    match_table: Matches
    match_peak_table: MatchPeaks
    incidence_angle_deg: float
    seconds: dict[str, float]
    warnings: tuple[str, ...] = ()
    index: int = 0
    cartesian: CartesianImage | None = None
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    cuts: Mapping[str, Cut] = field(default_factory=dict)
    texture_table: TextureTable = field(default_factory=TextureTable.empty)
    step_rows: Mapping[str, Mapping[str, list[Any]]] = field(default_factory=dict)
    tracks: Int64 | None = None
    replaced_pixels: int = 0
    q_image: CartesianImage | None = None

    @property
    def polar_image(self) -> Float32:
        """(n_phi, n_q) float32, mean counts per pixel; NaN = no data; row 0 = phi 0."""
        return self.polar.intensity

    @property
    def q(self) -> Float64:
        """(n_q,) |q| of the columns, 1/angstrom."""
        return self.polar.q

    @property
    def phi(self) -> Float64:
        """(n_phi,) polar angle of the rows, deg."""
        return self.polar.phi

    @property
    def peaks(self) -> pd.DataFrame:
        """The peaks with the columns of the stored `peaks` table."""
        rows = numbered(self.peak_table, self.index, track=True)
        return rows if self.tracks is None else rows.assign(track=self.tracks)

    @property
    def matches(self) -> pd.DataFrame:
        """The candidate phases with the columns of the stored `matches` table."""
        return numbered(self.match_table, self.index)

    @property
    def match_peaks(self) -> pd.DataFrame:
        """The hkl of each explained peak with the columns of `match_peaks`."""
        return numbered(self.match_peak_table, self.index)

    @property
    def textures(self) -> pd.DataFrame:
        """The orientation of the configured rings with the columns of `textures`."""
        return numbered(self.texture_table, self.index)

    @property
    def steps(self) -> dict[str, pd.DataFrame]:
        """The rows of each step without a state, by its name."""
        import pandas as pd

        return {name: pd.DataFrame(dict(rows)) for name, rows in self.step_rows.items()}
