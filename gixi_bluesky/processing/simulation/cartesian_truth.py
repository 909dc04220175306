"""What there is to find in a simulated frame on (q_xy, q_z): compact peaks; rings are background.

A peak reaches q ± FWHM/2 and along phi to 13.5 % of its maximum, as on the polar grid; its box is
the upright one around that part of a ring. An arc of more than 10 deg that fills less than a
quarter of its box is neither hit nor miss; one that fills less than a tenth, and every ring, is
no peak here but background.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.grids import CartesianGrid
from gixi_bluesky.processing.simulation.merging import Peak, extent, merged
from gixi_bluesky.processing.simulation.panel import Panel
from gixi_bluesky.processing.simulation.render import Renderer
from gixi_bluesky.processing.simulation.scene import Component, Scene
from gixi_bluesky.processing.simulation.texture import phi_axis
from gixi_bluesky.processing.simulation.truth import (
    Truth,
    counted_pixels,
    expected_counts,
    kind_of,
    seen_cells,
    valid_pixels,
)

__all__ = ["CartesianObserver"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

_COMPACT_DEG = 10.0  # up to here a peak is one blob, whatever its box
_LEAST_FILL = 0.1  # of their boxes, by longer ones
_PHI_ROWS, _Q_COLUMNS = 512, 1024  # of the map that tells what else shines where a peak is


class _Outline(NamedTuple):
    """The part of a ring that a peak covers; 1/angstrom and rad."""

    inner: float
    outer: float
    low: float
    high: float

    @classmethod
    def of(cls, component: Component) -> _Outline:
        low, high = (np.pi / 2 * end for end in extent(component.angular))
        half = component.fwhm_q / 2
        return cls(max(component.q - half, 0.0), component.q + half, low, high)

    @property
    def box(self) -> Float64:
        """[q_xy, q_z, q_xy, q_z] of the upright box around it."""
        return np.array(
            [
                self.inner * np.cos(self.high),
                self.inner * np.sin(self.low),
                self.outer * np.cos(self.low),
                self.outer * np.sin(self.high),
            ]
        )

    @property
    def width_deg(self) -> float:
        """How far it reaches along phi."""
        return float(np.degrees(self.high - self.low))

    @property
    def fill(self) -> float:
        """How much of its box means the peak: its area over that of the box; 1 for short ones."""
        if self.width_deg <= _COMPACT_DEG:
            return 1.0
        left, bottom, right, top = self.box
        area = 0.5 * (self.outer**2 - self.inner**2) * (self.high - self.low)
        return float(area / max((right - left) * (top - bottom), 1e-12))

    def covers(self, q_xy: Float64, q_z: Float64, cell: tuple[float, float]) -> Bool:
        """Return which cells of size (q_xy, q_z) it touches, by their centres."""
        middle = 0.5 * (self.low + self.high)
        cos, sin = np.cos(middle), np.sin(middle)
        q, phi = np.hypot(q_xy, q_z), np.arctan2(q_z, q_xy)
        along_q = 0.5 * (cos * cell[0] + sin * cell[1])
        along_phi = 0.5 * (sin * cell[0] + cos * cell[1]) / np.maximum(q, 1e-9)
        radial = (q > self.inner - along_q) & (q < self.outer + along_q)
        return radial & (phi > self.low - along_phi) & (phi < self.high + along_phi)


class CartesianObserver:
    """Tells what there is to find in the scenes of one set-up, on one (q_xy, q_z) grid.

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
        found = [(peak, self._sight(peak.component, total)) for peak in peaks]
        rows = [(peak, sight) for peak, sight in found if sight is not None]
        boxes = np.array([sight.box for _, sight in rows], np.float32).reshape(-1, 4)
        centre = [self._grid.q_max * (boxes[:, i] + boxes[:, i + 2]) / 2 / (n - 1)
                  for i, n in enumerate(reversed(self._grid.shape))]  # fmt: skip
        return Truth(
            boxes=boxes,
            q=np.array([peak.component.q for peak, _ in rows]),
            phi=np.degrees(np.arctan2(centre[1], centre[0])).astype(np.float64),
            snr=np.array([sight.snr for _, sight in rows]),
            visible=np.array([sight.visible for _, sight in rows]),
            phase=tuple(peak.component.phase for peak, _ in rows),
            hkl=tuple(peak.hkl for peak, _ in rows),
            kind=tuple(sight.kind for _, sight in rows),
        )

    def _total(self, scene: Scene, peaks: list[Peak]) -> Float32:
        """Return the counts and the noise that are no counts, (rows, columns) of the grid."""
        polar = expected_counts(scene, peaks, self._q, self._phi)
        polar += (self._panel.readout_noise or 0.0) ** 2
        total: Float32 = cv2.remap(
            polar, self._along_q, self._along_phi, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return total

    def _sight(self, component: Component, total: Float32) -> _Sight | None:
        """Return how a peak looks here, None for what is no peak or not on the detector."""
        outline = _Outline.of(component)
        fill, kind = outline.fill, kind_of(outline.width_deg)
        if fill < _LEAST_FILL or kind == "ring":
            return None
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
        signal = float((weight * _counts(component, q_xy[inside], q_z[inside])).sum())
        everything = float((weight * total[window][inside]).sum())
        return _Sight(
            box=_cut(box, inside, seen, (left, bottom)),
            snr=signal / np.sqrt(everything + 1e-9),
            visible=fill * float(seen.sum() / inside.sum()),
            kind=kind,
        )


class _Sight(NamedTuple):
    box: Float64
    snr: float
    visible: float
    kind: str


def _counts(component: Component, q_xy: Float64, q_z: Float64) -> Float64:
    phi = np.degrees(np.arctan2(q_z, q_xy))
    angular = np.interp(phi, phi_axis(len(component.angular)), component.angular)
    return np.asarray(component.height * component.radial(np.hypot(q_xy, q_z)) * angular)


def _cut(box: Float64, inside: Bool, seen: Bool, first: tuple[int, int]) -> Float64:
    """Move the sides of a box in where the detector sees nothing of the peak beside them."""
    cut = box.copy()
    for axis in (0, 1):
        whole, left = (np.flatnonzero(cells.any(axis=axis)) for cells in (inside, seen))
        for side, end in ((axis, 0), (axis + 2, -1)):
            if left[end] != whole[end]:
                cut[side] = np.clip(left[end] + first[axis], box[axis], box[axis + 2])
    return cut
