"""Series of frames of a changing film on a small polar grid, with the true reflections.

The films are those of `scene`; a frame is painted onto the polar grid itself, each bin the mean of
as many Poisson counts as it would hold detector pixels, so that a series takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.simulation.growth import Growth
from gixi_bluesky.processing.simulation.merging import MergedPeak, extent, merged
from gixi_bluesky.processing.simulation.scene import Component, Halo, Phase, Scene
from gixi_bluesky.processing.simulation.texture import Texture, phi_axis
from gixi_bluesky.processing.simulation.truth import Truth, kind_of
from gixi_bluesky.processing.structures.cif_files import Structure
from gixi_bluesky.processing.types import PolarImage

__all__ = ["ChangingPhase", "Series", "SeriesGrid", "SeriesTruth"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_ROWS = 361  # of profiles along phi
_MOSAIC_STEP = 1.05  # profiles are kept, so mosaics are rounded to powers of it
_LOWEST_SNR = 0.5  # of a peak that is listed at all


@dataclass(frozen=True, slots=True)
class SeriesGrid:
    """A polar grid and the detector pixels of its bins.

    density: detector pixels per bin and 1/angstrom of |q|; least: of a bin at |q| = 0
    wedge: height of the missing wedge at q_max, deg; it grows with |q|
    gaps: (q0, phi0, q1, phi1) where there is no data, 1/angstrom and deg
    """

    q_max: float
    shape: tuple[int, int] = (128, 512)
    density: float = 4.0
    least: float = 0.2
    wedge: float = 8.0
    gaps: tuple[tuple[float, float, float, float], ...] = ()

    @property
    def q(self) -> Float64:
        """(n_q,) 1/angstrom."""
        return np.linspace(0.0, self.q_max, self.shape[1])

    @property
    def phi(self) -> Float64:
        """(n_phi,) deg."""
        return phi_axis(self.shape[0])

    @property
    def pixels(self) -> Float32:
        """(n_phi, n_q) detector pixels of each bin, 0 = no data."""
        q, phi = self.q[None, :], self.phi[:, None]
        seen = phi < 90.0 - self.wedge * q / self.q_max
        for q0, phi0, q1, phi1 in self.gaps:
            seen &= ~((q >= q0) & (q <= q1) & (phi >= phi0) & (phi <= phi1))
        return np.where(seen, self.density * q + self.least, 0.0).astype(np.float32)


@dataclass(frozen=True, slots=True)
class ChangingPhase:
    """A phase over time.

    counts: on top of its strongest line at the full amount, were it a powder
    expansion: relative change of the lattice a frame
    mosaic_deg, size_angstrom: in the first and the last frame
    """

    structure: Structure
    counts: float
    growth: Growth
    texture: Texture = field(default_factory=Texture)
    expansion: float = 0.0
    mosaic_deg: tuple[float, float] = (10.0, 10.0)
    size_angstrom: tuple[float, float] = (500.0, 500.0)
    footprint: float = 0.006

    def phase(self, frame: int, n_frames: int) -> Phase:
        """Return the phase as it is in a frame."""
        along = frame / max(n_frames - 1, 1)
        mosaic = self.mosaic_deg[0] * (self.mosaic_deg[1] / self.mosaic_deg[0]) ** along
        rounded = _MOSAIC_STEP ** round(np.log(mosaic) / np.log(_MOSAIC_STEP))
        return Phase(
            structure=self.structure,
            counts=self.counts * float(self.growth.amount(frame)),
            texture=replace(self.texture, mosaic_deg=float(rounded)),
            size_angstrom=self.size_angstrom[0]
            * (self.size_angstrom[1] / self.size_angstrom[0]) ** along,
            footprint=self.footprint,
            lattice_scale=1.0 + self.expansion * frame,
        )

    def components(self, frame: int, n_frames: int) -> Iterator[Component]:
        """Yield its arcs; the phase's name ends in the number of the arc on its ring."""
        seen: dict[tuple[int, int, int], int] = {}
        for component in self.phase(frame, n_frames).components(_ROWS):
            arc = seen.get(component.hkl, 0)
            seen[component.hkl] = arc + 1
            yield replace(component, phase=f"{component.phase}#{arc}")


@dataclass(frozen=True, slots=True)
class SeriesTruth:
    """The true peaks of one frame, and the reflection of each.

    peaks: as in a single frame, boxes in bins of the grid; `phase` without the arc
    reflection: (m,) numbers that stay from frame to frame
    fwhm_q, fwhm_phi: (m,) 1/angstrom and deg
    intensity: (m,) integral over |q| and phi, counts deg/angstrom; background: (m,) counts
    """

    peaks: Truth
    reflection: NDArray[np.int64]
    fwhm_q: Float64
    fwhm_phi: Float64
    intensity: Float64
    background: Float64


@dataclass(frozen=True)
class Series:
    """A film over time.

    monitor_noise: relative fluctuation of the beam from frame to frame, not recorded
    hot: (row, column) bins that count without light, in every frame
    """

    n_frames: int
    phases: tuple[ChangingPhase, ...]
    grid: SeriesGrid
    halo: Halo
    flat: float
    seed: int
    monitor_noise: float = 0.0
    hot: tuple[tuple[int, int], ...] = ()

    def polar(self, frame: int) -> PolarImage:
        """Return one exposure; the same at every call."""
        rng = np.random.default_rng([self.seed, 1, frame])
        mean = self._mean(frame) * np.float32(self._monitor[frame])
        pixels = self._pixels
        valid = pixels > 0
        held = np.where(valid, pixels, 1.0)
        counts = rng.poisson(np.where(valid, mean * held, 0.0)).astype(np.float32)
        for row, column in self.hot:
            counts[row, column] += rng.poisson(300.0)
        intensity = np.where(valid, counts / held, np.float32(np.nan)).astype(np.float32)
        variance = np.where(valid, np.maximum(intensity, 0.02) / held, np.float32(np.nan))
        return PolarImage(
            intensity, variance.astype(np.float32), pixels, self.grid.q, self.grid.phi
        )

    def truth(self, frame: int) -> SeriesTruth:
        """Return the reflections in a frame, strongest first."""
        rows = [row for peak in self._merged(frame) if (row := self._row(peak)) is not None]
        names = [(row.phase, row.hkl) for row in rows]
        boxes = np.array([row.box for row in rows], np.float32).reshape(-1, 4)
        widths = np.array([row.width_deg for row in rows])
        truth = Truth(
            boxes=boxes,
            q=np.array([row.q for row in rows]),
            phi=np.array([row.phi for row in rows]),
            snr=np.array([row.snr for row in rows]),
            visible=np.array([row.visible for row in rows]),
            phase=tuple(phase.split("#")[0] for phase, _ in names),
            hkl=tuple((hkl,) for _, hkl in names),
            kind=tuple(kind_of(width) for width in widths),
        )
        return SeriesTruth(
            peaks=truth,
            reflection=np.array([self._numbers[name] for name in names], np.int64),
            fwhm_q=np.array([row.fwhm_q for row in rows]),
            fwhm_phi=widths * 0.59,  # 4 sigma are 1.70 FWHM
            intensity=np.array([row.intensity for row in rows]),
            background=np.array([row.background for row in rows]),
        )

    @cached_property
    def _pixels(self) -> Float32:
        return self.grid.pixels

    @cached_property
    def _monitor(self) -> Float64:
        rng = np.random.default_rng([self.seed, 2])
        return np.exp(rng.normal(0.0, self.monitor_noise, self.n_frames))

    @cached_property
    def _numbers(self) -> dict[tuple[str, tuple[int, int, int]], int]:
        components = (c for phase in self.phases for c in phase.components(0, self.n_frames))
        return {
            name: i for i, name in enumerate(dict.fromkeys((c.phase, c.hkl) for c in components))
        }

    def _components(self, frame: int) -> list[Component]:
        return [
            component
            for phase in self.phases
            if phase.growth.amount(frame) > 0
            for component in phase.components(frame, self.n_frames)
            if 0 < component.q < self.grid.q_max and component.height > 0
        ]

    def _merged(self, frame: int) -> list[MergedPeak]:
        return merged(self._components(frame))

    def _smooth(self, q: Float64) -> Float64:
        return Scene(halos=(self.halo,), air=0.0, flat=self.flat).smooth(q, np.zeros(1))

    def _mean(self, frame: int) -> Float32:
        q, phi = self.grid.q, self.grid.phi
        mean = np.broadcast_to(self._smooth(q), self.grid.shape).astype(np.float32)
        for component in self._components(frame):
            reach = component.reach_q
            first, last = np.searchsorted(q, [component.q - reach, component.q + reach])
            radial = (component.height * component.radial(q[first:last])).astype(np.float32)
            angular = np.interp(phi, phi_axis(_ROWS), component.angular).astype(np.float32)
            mean[:, first:last] += np.multiply.outer(angular, radial)
        return mean

    def _row(self, peak: MergedPeak) -> _Row | None:
        component, grid = peak.component, self.grid
        low, high = (90.0 * end for end in extent(component.angular))
        step_q, step_phi = grid.q[1], grid.phi[1]
        x = np.array([-0.5, 0.5]) * component.fwhm_q / step_q + component.q / step_q
        y = np.array([low, high]) / step_phi
        rows = slice(int(np.rint(y[0])), int(np.rint(y[1])) + 1)
        columns = slice(max(int(np.rint(x[0])), 0), int(np.rint(x[1])) + 1)
        seen = self._pixels[rows, columns]
        if not seen.any():
            return None
        q, phi = grid.q[columns], grid.phi[rows]
        angular = np.interp(phi, phi_axis(_ROWS), component.angular)
        signal = float((seen * np.outer(angular, component.height * component.radial(q))).sum())
        background = float(self._smooth(np.array([component.q]))[0])
        # 76 % of a Gaussian lie within its half maximum; all of it counts.
        snr = signal / 0.76 / np.sqrt(signal / 0.76 + 1.6 * background * float(seen.sum()))
        if snr < _LOWEST_SNR:
            return None
        lit = np.flatnonzero(seen.any(axis=1)) + rows.start
        across = 1.0645 * component.fwhm_q * component.height
        return _Row(
            phase=component.phase,
            hkl=component.hkl,
            q=component.q,
            phi=float(grid.phi[lit[0]] + grid.phi[lit[-1]]) / 2,
            box=(x[0], float(lit[0]), x[1], float(lit[-1])),
            fwhm_q=component.fwhm_q,
            width_deg=float(lit[-1] - lit[0] + 1) * step_phi,
            snr=float(snr),
            visible=float((seen > 0).mean()),
            intensity=across * float(angular.sum()) * step_phi,
            background=background,
        )


@dataclass(frozen=True, slots=True)
class _Row:
    phase: str
    hkl: tuple[int, int, int]
    q: float
    phi: float
    box: tuple[float, float, float, float]
    fwhm_q: float
    width_deg: float
    snr: float
    visible: float
    intensity: float
    background: float
