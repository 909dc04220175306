"""The sample in the beam: phases with texture, halos and smooth scatter, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from gixi_bluesky.processing.simulation.grains import grains_of
from gixi_bluesky.processing.simulation.texture import Hkl, Texture, angular_profiles, phi_axis
from gixi_bluesky.processing.structures.cif_files import Structure
from gixi_bluesky.processing.tables import FWHM_PER_SIGMA

__all__ = ["Component", "Halo", "Phase", "Rod", "Scene", "Streak"]

Float64 = NDArray[np.float64]

SCHERRER_CONSTANT = 0.9
_REACH_GAUSSIAN, _REACH_LORENTZIAN = 2.0, 7.0  # FWHM


@dataclass(frozen=True, slots=True)
class Component:
    """One arc, ring or spot: a pseudo-Voigt in |q| times a profile in phi.

    q, fwhm_q: 1/angstrom
    lorentzian: its share of the pseudo-Voigt, 0 = Gaussian
    height: mean counts per pixel where both profiles are 1
    angular: (n_phi,) float64 on `phi_axis`, 1 = as bright as a powder ring
    course: (n_phi,) what few crystallites sample, None = angular; the peak is as long as this
    shift: (n_phi,) 1/angstrom, how far off q the crystallites there lie, None = nowhere
    sharpness: width of the profile at one phi over fwhm_q, below 1 where shift makes up the rest
    """

    phase: str
    hkl: Hkl
    q: float
    fwhm_q: float
    height: float
    angular: Float64
    lorentzian: float = 0.0
    course: Float64 | None = None
    shift: Float64 | None = None
    sharpness: float = 1.0

    @property
    def extent(self) -> Float64:
        """(n_phi,) the profile that says how long the peak is."""
        return self.angular if self.course is None else self.course

    def surface(self, q: Float64, phi: Float64) -> NDArray[np.float32]:
        """Return the mean counts per pixel (phi, q) at |q|, 1/angstrom, and phi, deg."""
        axis = phi_axis(len(self.angular))
        along = np.interp(phi, axis, self.angular).astype(np.float32)
        if self.shift is None:
            radial = (self.height * self.radial(q)).astype(np.float32)
            return np.multiply.outer(along, radial)
        lit = along > 0
        counts = np.zeros((len(phi), len(q)), np.float32)
        shift = np.interp(phi[lit], axis, self.shift)[:, None]
        grain = replace(self, fwhm_q=self.fwhm_q * self.sharpness)
        counts[lit] = self.height / self.sharpness * grain.radial(q - shift)
        counts *= along[:, None]
        return counts

    @property
    def reach_q(self) -> float:
        """Largest distance from `q` that is rendered, 1/angstrom."""
        return self.fwhm_q * (_REACH_LORENTZIAN if self.lorentzian > 0 else _REACH_GAUSSIAN)

    def radial(self, q: Float64) -> Float64:
        """Return the profile at |q|, 1 on top."""
        off = (q - self.q) / self.fwhm_q
        gaussian = np.exp(-4.0 * np.log(2.0) * off**2)
        if not self.lorentzian:
            return np.asarray(gaussian)
        return np.asarray(
            self.lorentzian / (1.0 + 4.0 * off**2) + (1.0 - self.lorentzian) * gaussian
        )


@dataclass(frozen=True, slots=True)
class Phase:
    """A crystalline phase in the film.

    counts: mean counts per pixel on top of its strongest line, were it a powder
    size_angstrom: crystallite size, broadens by Scherrer's 2 pi K / size
    footprint: dq/q (FWHM) by the length of the illuminated sample
    lattice_scale: lattice over the structure's own
    lorentzian: share of the lines' pseudo-Voigt
    round_spots: whether the size also broadens along the rings, as it does in all directions
    """

    structure: Structure
    counts: float
    texture: Texture = field(default_factory=Texture)
    size_angstrom: float = 700.0
    footprint: float = 0.002
    lattice_scale: float = 1.0
    lorentzian: float = 0.0
    round_spots: bool = False

    def fwhm_q(self, q: Float64) -> Float64:
        """Width of a line at `q`, 1/angstrom: size and footprint, added in squares."""
        return np.hypot(self._fwhm_by_size, self.footprint * q)

    @property
    def _fwhm_by_size(self) -> float:
        return 2.0 * np.pi * SCHERRER_CONSTANT / self.size_angstrom

    def components(self, rows: int) -> Iterator[Component]:
        """Yield the arcs, rings and spots of every line, their profiles on phi_axis(rows)."""
        lines = self.structure.reflections
        q = np.asarray(lines.q) / self.lattice_scale
        fwhm = self.fwhm_q(q)
        # The integral over a line goes with its intensity, so a broad line is lower.
        height = np.asarray(lines.intensity) / fwhm
        height = self.counts * height / height.max()
        for i, hkl in enumerate(np.asarray(lines.hkl)):
            index = (int(hkl[0]), int(hkl[1]), int(hkl[2]))
            number = float(lines.multiplicity[i]) / float(np.mean(lines.multiplicity))
            for profile in angular_profiles(self.texture, self.structure.cell, index, rows):
                line = Component(
                    phase=self.structure.slug,
                    hkl=index,
                    q=float(q[i]),
                    fwhm_q=float(fwhm[i]),
                    height=float(height[i]),
                    angular=self._widened(profile, float(q[i])),
                    lorentzian=self.lorentzian,
                )
                yield from self._counted(line, number) if self.texture.crystallites else (line,)

    def _counted(self, line: Component, number: float) -> Iterator[Component]:
        """Yield the line as the crystallites in the beam show it: one peak, or some spots."""
        grains = grains_of(self.texture, line.angular, line.hkl, number)
        if not grains.ring:
            yield from (replace(line, angular=spot) for spot in grains.spots)
            return
        yield replace(
            line,
            angular=grains.angular,
            course=line.angular,
            shift=grains.shift * line.fwhm_q,
            sharpness=grains.sharpness,
        )

    def _widened(self, angular: Float64, q: float) -> Float64:
        if not self.round_spots or np.ptp(angular) == 0:
            return angular
        sigma = np.degrees(self._fwhm_by_size / q) / FWHM_PER_SIGMA
        # Both ends of phi mirror the other side.
        widened = gaussian_filter1d(angular, sigma * (len(angular) - 1) / 90.0, mode="reflect")
        return np.asarray(widened)


@dataclass(frozen=True, slots=True)
class Halo:
    """A broad ring: wet film, amorphous substrate, diffuse scatter.

    counts: mean per pixel on its top
    anisotropy: -1…1, how much brighter it is along q_xy than along q_z
    """

    q: float
    fwhm_q: float
    counts: float
    anisotropy: float = 0.0


@dataclass(frozen=True, slots=True)
class Streak:
    """A smooth line on the detector.

    kind: `specular` along q_z in the plane of incidence, or `yoneda` along q_xy
    counts: mean per pixel on its top
    q_z: 1/angstrom, where a Yoneda line lies above the horizon
    """

    kind: Literal["specular", "yoneda"]
    counts: float
    fwhm_q: float = 0.02
    q_z: float = 0.02


@dataclass(frozen=True, slots=True)
class Rod:
    """An upright Gaussian on both sides of the beam: crystals of few layers, truncation rods.

    q_xy, q_z: its middle as an image without refraction shows it; fwhm_xy, fwhm_z: 1/angstrom
    counts: mean per pixel in the middle
    """

    q_xy: float
    q_z: float
    fwhm_xy: float
    fwhm_z: float
    counts: float

    def profile(self, q_xy: NDArray[Any], q_z: NDArray[Any]) -> NDArray[Any]:
        """Return the counts per pixel at q_xy (either sign) and q_z, which broadcast."""
        off = ((np.abs(q_xy) - self.q_xy) / self.fwhm_xy) ** 2
        off = off + ((q_z - self.q_z) / self.fwhm_z) ** 2
        return np.asarray(self.counts * np.exp(-4.0 * np.log(2.0) * off))


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that scatters; all counts are means per detector pixel.

    air: counts of air and small-angle scatter at |q| = 0.1 1/angstrom, falls as 1/q^1.5
    flat: counts that do not depend on q (fluorescence, leakage)
    reflected: brightness of what the reflected beam scatters, over that of the direct beam
    rods: peaks on (q_xy, q_z); the polar grid's truth leaves them out
    """

    phases: tuple[Phase, ...] = ()
    halos: tuple[Halo, ...] = ()
    streaks: tuple[Streak, ...] = ()
    air: float = 20.0
    flat: float = 1.0
    reflected: float = 0.0
    rods: tuple[Rod, ...] = ()

    def smooth(self, q: NDArray[Any], phi: NDArray[Any]) -> NDArray[Any]:
        """Return the scatter of air and halos, counts per pixel; `q` and `phi` (rad) broadcast."""
        total = self.flat + self.air * (np.maximum(q, 0.03) / 0.1) ** -1.5
        for halo in self.halos:
            sigma = halo.fwhm_q / FWHM_PER_SIGMA
            radial = halo.counts * np.exp(-0.5 * ((q - halo.q) / sigma) ** 2)
            total = total + radial * (1.0 + halo.anisotropy * np.cos(2.0 * phi))
        return np.asarray(total)
