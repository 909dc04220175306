"""The true peaks of a simulated frame: boxes, |q|, hkl, phase, visibility."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.geometry.grids import Side
from gixi_bluesky.processing.simulation.merging import MergedPeak, extent, merged
from gixi_bluesky.processing.simulation.panel import Panel
from gixi_bluesky.processing.simulation.render import Renderer
from gixi_bluesky.processing.simulation.scene import Component, Scene
from gixi_bluesky.processing.simulation.texture import Hkl

__all__ = [
    "Observer",
    "Truth",
    "counted_pixels",
    "expected_counts",
    "kind_of",
    "seen_cells",
    "truth",
    "valid_pixels",
]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

# A ring goes all around, a spot is narrow; deg between the 13.5 % points.
_RING_DEG, _SPOT_DEG = 60.0, 6.0


@dataclass(frozen=True, slots=True)
class Truth:
    """The peaks of one frame, a row each.

    boxes: (m, 4) float32 [q0, phi0, q1, phi1] in polar pixels, or [q_xy, q_z, …] in cartesian
        ones, cut at what the detector sees
    q, phi: (m,) 1/angstrom and deg, centres
    snr: (m,) signal / sqrt(signal + background + readout noise²) in the box
    visible: (m,) share of the uncut box that is on valid pixels; in cartesian ones of the peak
        itself, and for an arc too long for its width times how much of the box it fills
    """

    boxes: Float32
    q: Float64
    phi: Float64
    snr: Float64
    visible: Float64
    phase: tuple[str, ...]
    hkl: tuple[tuple[Hkl, ...], ...]
    kind: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.q)


class Observer:
    """Determines the peaks of scenes of one set-up that are visible on one polar grid.

    q, phi: axes of the grid, 1/angstrom and deg
    mask: (rows, columns) of the detector, True = masked; None = what the panel itself lacks
    side: which side of the beam the grid shows, as in the settings of the grid
    """

    def __init__(
        self,
        renderer: Renderer,
        panel: Panel,
        q: Float64,
        phi: Float64,
        mask: Bool | None = None,
        side: Side = "fold",
    ) -> None:
        self._renderer, self._panel = renderer, panel
        self._q, self._phi = q, phi
        valid = valid_pixels(renderer, panel, mask, side)
        angle = np.radians(phi)[:, None]
        self._seen = seen_cells(renderer, valid, q * np.cos(angle), q * np.sin(angle))
        q_xy, q_z = renderer.q_xy[valid], renderer.q_z[valid]
        row = (np.degrees(np.arctan2(q_z, np.abs(q_xy))) - phi[0]) / (phi[1] - phi[0])
        column = (np.hypot(q_xy, q_z) - q[0]) / (q[1] - q[0])
        self._weight = counted_pixels(renderer, panel, valid, row, column, self._seen.shape)

    def truth(self, scene: Scene) -> Truth:
        """Return the peaks of a scene at their positions in an image without refraction."""
        q, phi = self._q, self._phi
        peaks = merged(c for c in self._renderer.apparent(scene) if c.q > 0 and c.height > 0)
        surfaces = [_surface(peak.component, q, phi) for peak in peaks]
        total = _total(scene, surfaces, q, phi)
        total += (self._panel.readout_noise or 0.0) ** 2
        rows = []
        for peak, (columns, surface) in zip(peaks, surfaces, strict=True):
            box = _box(peak.component, q, phi)
            window = (slice(box[1], box[3] + 1), slice(box[0], box[2] + 1))
            seen, weight = self._seen[window], self._weight[window]
            if seen.size == 0 or not seen.any():
                continue
            inside = surface[window[0], box[0] - columns.start : box[2] + 1 - columns.start]
            signal = float((weight * inside).sum())
            everything = float((weight * total[window]).sum())
            cut = _cut(peak.component, box, self._seen, q)
            rows.append((peak, cut, signal / np.sqrt(everything + 1e-9), float(seen.mean())))
        return _table(rows, phi)


def truth(renderer: Renderer, scene: Scene, panel: Panel, q: Float64, phi: Float64) -> Truth:
    """Return the visible peaks on the polar grid of axes `q` (1/angstrom) and `phi` (deg)."""
    return Observer(renderer, panel, q, phi).truth(scene)


def valid_pixels(renderer: Renderer, panel: Panel, mask: Bool | None, side: Side) -> Bool:
    """Return which pixels (rows, columns) may give data to a grid of one side or both."""
    valid = renderer.above_horizon & ~panel.absent(renderer.shape)
    if mask is not None:
        valid &= ~mask
    if side != "fold":
        valid &= (renderer.q_xy >= 0) == (side == "right")
    return valid


def expected_counts(scene: Scene, peaks: Sequence[MergedPeak], q: Float64, phi: Float64) -> Float32:
    """Return the mean counts per pixel of a scene at (n_phi, n_q), film and background."""
    return _total(scene, [_surface(peak.component, q, phi) for peak in peaks], q, phi)


def _total(
    scene: Scene, surfaces: Sequence[tuple[slice, Float32]], q: Float64, phi: Float64
) -> Float32:
    smooth = scene.smooth(q, np.radians(phi)[:, None])
    total = np.broadcast_to(smooth, (len(phi), len(q))).astype(np.float32)
    for columns, surface in surfaces:
        total[:, columns] += surface
    return total


def _table(rows: Sequence[tuple[MergedPeak, Float64, float, float]], phi: Float64) -> Truth:
    boxes = np.array([box for _, box, _, _ in rows], dtype=np.float32).reshape(-1, 4)
    step = phi[1] - phi[0]
    return Truth(
        boxes=boxes,
        q=np.array([peak.component.q for peak, *_ in rows]),
        phi=phi[0] + step * 0.5 * (boxes[:, 1] + boxes[:, 3]).astype(np.float64),
        snr=np.array([snr for *_, snr, _ in rows]),
        visible=np.array([visible for *_, visible in rows]),
        phase=tuple(peak.component.phase for peak, *_ in rows),
        hkl=tuple(peak.hkl for peak, *_ in rows),
        kind=tuple(kind_of(float(box[3] - box[1]) * step) for box in boxes),
    )


def kind_of(width_deg: float) -> str:
    """Return `ring`, `segment` or `spot` for a width along phi, deg between the 13.5 % points."""
    if width_deg > _RING_DEG:
        return "ring"
    return "spot" if width_deg < _SPOT_DEG else "segment"


def _box(component: Component, q: Float64, phi: Float64) -> tuple[int, int, int, int]:
    low, high = (90.0 * end for end in extent(component.extent))
    half = component.fwhm_q / 2.0
    x = np.round((np.array([component.q - half, component.q + half]) - q[0]) / (q[1] - q[0]))
    y = np.round((np.array([low, high]) - phi[0]) / (phi[1] - phi[0]))
    x, y = np.clip(x, 0, len(q)), np.clip(y, 0, len(phi) - 1)
    return int(x[0]), int(y[0]), int(x[1]), int(y[1])


def _cut(component: Component, box: tuple[int, int, int, int], seen: Bool, q: Float64) -> Float64:
    rows = np.flatnonzero(seen[box[1] : box[3] + 1, box[0] : box[2] + 1].any(axis=1)) + box[1]
    half, step = component.fwhm_q / 2.0, q[1] - q[0]
    x0, x1 = (component.q - half - q[0]) / step, (component.q + half - q[0]) / step
    return np.array([x0, rows[0], min(x1, len(q) - 1.0), rows[-1]])


def _surface(component: Component, q: Float64, phi: Float64) -> tuple[slice, Float32]:
    """Return the columns that a peak reaches and its mean counts there, (n_phi, columns)."""
    reach = component.reach_q + (q[1] - q[0])
    first, last = np.searchsorted(q, [component.q - reach, component.q + reach])
    return slice(int(first), int(last)), component.surface(q[first:last], phi)


def seen_cells(renderer: Renderer, valid: Bool, q_xy: Float64, q_z: Float64) -> Bool:
    """Return the cells, by their centres, that lie on a valid pixel left or right of the beam."""
    seen = np.zeros(q_z.shape, dtype=bool)
    for side in (1.0, -1.0):
        rows, columns = renderer.unrefracted.pixel_at(side * q_xy, q_z)
        on = np.isfinite(rows) & np.isfinite(columns)
        row = np.round(np.where(on, rows, -1)).astype(int)
        column = np.round(np.where(on, columns, -1)).astype(int)
        on &= (row >= 0) & (row < valid.shape[0]) & (column >= 0) & (column < valid.shape[1])
        seen |= on & valid[np.where(on, row, 0), np.where(on, column, 0)]
    return seen


def counted_pixels(
    renderer: Renderer,
    panel: Panel,
    valid: Bool,
    row: NDArray[np.floating],
    column: NDArray[np.floating],
    shape: tuple[int, ...],
) -> Float64:
    """Return how many valid pixels, each by its efficiency, fall into every cell of `shape`.

    row, column: (valid pixels,) of the grid, cell centres at integers, NaN = off it
    """
    weight = (renderer.efficiency * panel.transmission(renderer.shape))[valid]
    row, column = np.round(row), np.round(column)
    inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    flat = row[inside].astype(int) * shape[1] + column[inside].astype(int)
    counted = np.bincount(flat, weights=weight[inside], minlength=shape[0] * shape[1])
    return np.asarray(counted.reshape(shape))
