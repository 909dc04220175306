"""The true peaks of a simulated frame on (q_xy, q_z): compact peaks; rings are background.

A peak reaches q ± FWHM/2 and along phi to 13.5 % of its maximum, as on the polar grid. Its box is
what the fit takes a box for, in columns and rows: q_xy ± FWHM/2, and q_z to 13.5 % of the maximum
(2 sigma), of its profiles summed over the other axis. An arc of more than 15 deg that fills less
than a quarter of the upright rectangle around it is neither hit nor miss; one that fills less than
a tenth, and every ring, is no peak here but background.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.geometry.grids import CartesianGrid
from gixi_bluesky.processing.simulation.merging import MergedPeak, extent, merged
from gixi_bluesky.processing.simulation.panel import Panel
from gixi_bluesky.processing.simulation.render import Renderer
from gixi_bluesky.processing.simulation.scene import Component, Rod, Scene
from gixi_bluesky.processing.simulation.texture import Hkl, phi_axis
from gixi_bluesky.processing.simulation.truth import (
    Truth,
    counted_pixels,
    expected_counts,
    kind_of,
    seen_cells,
    valid_pixels,
)
from gixi_bluesky.processing.tables import FWHM_PER_SIGMA

__all__ = ["CartesianObserver"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

_COMPACT_DEG = 15.0  # up to here a peak is one blob, whatever its box
_LEAST_FILL = 0.1  # of the rectangle around them, by longer ones
_PHI_ROWS, _Q_COLUMNS = 512, 1024  # of the map of all other scatter at the place of a peak


class _Outline(Protocol):
    """The extent of a peak, its compactness, and its counts."""

    @property
    def box(self) -> Float64:
        """[q_xy, q_z, q_xy, q_z] of its box, 1/angstrom."""

    @property
    def fill(self) -> float:
        """Compactness, 0…1."""

    def covers(self, q_xy: Float64, q_z: Float64, cell: tuple[float, float]) -> Bool:
        """Return which cells of size (q_xy, q_z) it touches, by their centres."""

    def counts(self, q_xy: Float64, q_z: Float64) -> Float64:
        """Return its mean counts per pixel."""


class _Arc:
    """A part of a ring."""

    def __init__(self, component: Component) -> None:
        self._component = component
        self._low, self._high = (np.pi / 2 * end for end in extent(component.extent))
        half = component.fwhm_q / 2
        self._inner, self._outer = max(component.q - half, 0.0), component.q + half
        self._middle = 0.5 * (self._low + self._high)
        self.width_deg = float(np.degrees(self._high - self._low))

    @property
    def box(self) -> Float64:
        q, cos, sin = self._component.q, np.cos(self._middle), np.sin(self._middle)
        along_q = self._component.fwhm_q / FWHM_PER_SIGMA
        along_phi = q * (self._high - self._low) / 4.0
        sigma_xy = np.hypot(cos * along_q, sin * along_phi)
        sigma_z = np.hypot(sin * along_q, cos * along_phi)
        return _box(q * cos, q * sin, FWHM_PER_SIGMA * sigma_xy, sigma_z)

    @property
    def fill(self) -> float:
        """Its area over that of the upright rectangle around it; 1 for short ones."""
        if self.width_deg <= _COMPACT_DEG:
            return 1.0
        wide = self._outer * np.cos(self._low) - self._inner * np.cos(self._high)
        tall = self._outer * np.sin(self._high) - self._inner * np.sin(self._low)
        area = 0.5 * (self._outer**2 - self._inner**2) * (self._high - self._low)
        return float(area / (wide * tall))

    def covers(self, q_xy: Float64, q_z: Float64, cell: tuple[float, float]) -> Bool:
        cos, sin = np.cos(self._middle), np.sin(self._middle)
        q, phi = np.hypot(q_xy, q_z), np.arctan2(q_z, q_xy)
        along_q = 0.5 * (cos * cell[0] + sin * cell[1])
        along_phi = 0.5 * (sin * cell[0] + cos * cell[1]) / np.maximum(q, 1e-9)
        radial = (q > self._inner - along_q) & (q < self._outer + along_q)
        return radial & (phi > self._low - along_phi) & (phi < self._high + along_phi)

    def counts(self, q_xy: Float64, q_z: Float64) -> Float64:
        component = self._component
        phi = np.degrees(np.arctan2(q_z, q_xy))
        angular = np.interp(phi, phi_axis(len(component.angular)), component.angular)
        return np.asarray(component.height * component.radial(np.hypot(q_xy, q_z)) * angular)


class _UprightRod:
    """A rod, all of which lies within its box."""

    fill = 1.0

    def __init__(self, rod: Rod) -> None:
        self._rod = rod

    @property
    def box(self) -> Float64:
        rod = self._rod
        return _box(rod.q_xy, rod.q_z, rod.fwhm_xy, rod.fwhm_z / FWHM_PER_SIGMA)

    def covers(self, q_xy: Float64, q_z: Float64, cell: tuple[float, float]) -> Bool:
        left, bottom, right, top = self.box
        wide, tall = cell[0] / 2, cell[1] / 2
        across = (q_xy > left - wide) & (q_xy < right + wide)
        return across & (q_z > bottom - tall) & (q_z < top + tall)

    def counts(self, q_xy: Float64, q_z: Float64) -> Float64:
        return self._rod.profile(q_xy, q_z)


class _Name(NamedTuple):
    q: float
    phase: str
    hkl: tuple[Hkl, ...]
    kind: str


class _Sight(NamedTuple):
    box: Float64
    snr: float
    visible: float


class CartesianObserver:
    """Determines the peaks of scenes of one set-up that are visible on one (q_xy, q_z) grid.

    mask: (rows, columns) of the detector, True = masked; None = what the panel itself lacks
    """

    def __init__(
        self, renderer: Renderer, panel: Panel, grid: CartesianGrid, mask: Bool | None = None
    ) -> None:
        self._renderer, self._panel, self._grid = renderer, panel, grid
        valid = valid_pixels(renderer, panel, mask, grid.side)
        q_z, q_xy = np.meshgrid(grid.q_z, grid.q, indexing="ij")
        radius = np.hypot(q_xy, q_z)
        self._seen = seen_cells(renderer, valid, q_xy, q_z) & (radius <= grid.q_max)
        row, column = grid.cells(
            renderer.q_xy[valid].astype(np.float64), renderer.q_z[valid].astype(np.float64)
        )
        self._weight = counted_pixels(renderer, panel, valid, row, column, grid.shape)
        self._q = np.linspace(0, grid.q_max, _Q_COLUMNS)
        self._phi = phi_axis(_PHI_ROWS)
        self._along_q = (radius * ((_Q_COLUMNS - 1) / grid.q_max)).astype(np.float32)
        angle = np.arctan2(q_z, q_xy) * ((_PHI_ROWS - 1) / (np.pi / 2))
        self._along_phi = angle.astype(np.float32)

    def truth(self, scene: Scene) -> Truth:
        """Return the compact peaks where an image that knows no refraction shows them."""
        peaks = merged(c for c in self._renderer.apparent(scene) if c.q > 0 and c.height > 0)
        total = self._total(scene, peaks)
        rows = []
        for peak in peaks:
            arc = _Arc(peak.component)
            kind = kind_of(arc.width_deg)
            if kind == "ring" or arc.fill < _LEAST_FILL:
                continue
            name = _Name(peak.component.q, peak.component.phase, peak.hkl, kind)
            rows.append((name, self._sight(arc, total)))
        for rod in scene.rods:
            name = _Name(float(np.hypot(rod.q_xy, rod.q_z)), "rod", (), "segment")
            rows.append((name, self._sight(_UprightRod(rod), total)))
        return self._table([(name, sight) for name, sight in rows if sight is not None])

    def _table(self, rows: Sequence[tuple[_Name, _Sight]]) -> Truth:
        boxes = np.array([sight.box for _, sight in rows], np.float32).reshape(-1, 4)
        centre = [self._grid.q_max * (boxes[:, i] + boxes[:, i + 2]) / 2 / (n - 1)
                  for i, n in enumerate(reversed(self._grid.shape))]  # fmt: skip
        return Truth(
            boxes=boxes,
            q=np.array([name.q for name, _ in rows]),
            phi=np.degrees(np.arctan2(centre[1], centre[0])).astype(np.float64),
            snr=np.array([sight.snr for _, sight in rows]),
            visible=np.array([sight.visible for _, sight in rows]),
            phase=tuple(name.phase for name, _ in rows),
            hkl=tuple(name.hkl for name, _ in rows),
            kind=tuple(name.kind for name, _ in rows),
        )

    def _total(self, scene: Scene, peaks: list[MergedPeak]) -> Float32:
        """Return the counts and the noise that are no counts, (rows, columns) of the grid."""
        polar = expected_counts(scene, peaks, self._q, self._phi)
        total: Float32 = cv2.remap(
            polar, self._along_q, self._along_phi, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        for rod in scene.rods:
            total += rod.profile(self._grid.q, self._grid.q_z[:, None]).astype(np.float32)
        return total + np.float32(self._panel.readout_noise or 0.0) ** 2

    def _sight(self, outline: _Outline, total: Float32) -> _Sight | None:
        """Return the visible part of a peak, None where the detector records none of it."""
        rows, columns = self._grid.shape
        step = self._grid.q_max / (columns - 1), self._grid.q_max / (rows - 1)
        box = outline.box / np.tile(step, 2)
        left, bottom = np.maximum(np.round(box[:2]).astype(int), 0)
        right, top = np.minimum(np.round(box[2:]).astype(int), (columns - 1, rows - 1))
        window = (slice(bottom, top + 1), slice(left, right + 1))
        q_z, q_xy = np.meshgrid(self._grid.q_z[window[0]], self._grid.q[window[1]], indexing="ij")
        inside = outline.covers(q_xy, q_z, step)
        seen = inside & self._seen[window]
        if not seen.any():
            return None
        weight = self._weight[window][inside]
        signal = float((weight * outline.counts(q_xy[inside], q_z[inside])).sum())
        everything = float((weight * total[window][inside]).sum())
        return _Sight(
            box=_cut(box, inside, seen, (left, bottom)),
            snr=signal / np.sqrt(everything + 1e-9),
            visible=outline.fill * float(seen.sum() / inside.sum()),
        )


def _box(q_xy: float, q_z: float, fwhm_xy: float, sigma_z: float) -> Float64:
    left, bottom = max(q_xy - fwhm_xy / 2, 0.0), max(q_z - 2.0 * sigma_z, 0.0)
    return np.array([left, bottom, q_xy + fwhm_xy / 2, q_z + 2.0 * sigma_z])


def _cut(box: Float64, inside: Bool, seen: Bool, first: tuple[int, int]) -> Float64:
    """Move the sides of a box in where the detector sees nothing of the peak beside them."""
    cut = box.copy()
    for axis in (0, 1):
        whole, left = (np.flatnonzero(cells.any(axis=axis)) for cells in (inside, seen))
        for side, end in ((axis, 0), (axis + 2, -1)):
            if left[end] != whole[end]:
                cut[side] = np.clip(left[end] + first[axis], box[axis], box[axis + 2])
    return cut
