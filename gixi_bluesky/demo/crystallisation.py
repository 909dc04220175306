"""The film of the demo: wet at first, then MAPbBr3 crystallises from about 32 s on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gixi_bluesky.processing.simulation import Halo, Phase, Scene, Streak, Texture
from gixi_bluesky.processing.structures.cif_files import Structure

__all__ = ["Crystallisation"]


@dataclass(frozen=True, slots=True)
class Crystallisation:
    """An in-situ experiment on a drying film; times are simulated seconds.

    structure: what crystallises
    onset_s: first nuclei; time_constant_s: of the growth (Avrami, exponent 2)
    """

    structure: Structure
    duration_s: float = 120.0
    onset_s: float = 32.0
    time_constant_s: float = 16.0
    seed: int = 7

    def crystalline(self, time_s: float) -> float:
        """Return the crystallised fraction 0…1: 1 - exp(-(t / tau)²) from the onset on."""
        grown = max(time_s - self.onset_s, 0.0) / self.time_constant_s
        return 1.0 - math.exp(-(grown**2))

    def wet(self, time_s: float) -> float:
        """Return the solvent that is left, 0…1; the film dries while the crystals grow."""
        return 1.0 / (1.0 + math.exp((time_s - self.onset_s - 4.0) / 5.0))

    def scene(self, time_s: float) -> Scene:
        """Return what scatters at `time_s`."""
        grown, wet = self.crystalline(time_s), self.wet(time_s)
        return Scene(
            phases=self._crystals(grown),
            halos=(
                Halo(q=0.72, fwhm_q=0.45, counts=9.0 * wet),
                Halo(q=1.75, fwhm_q=0.9, counts=14.0 * wet),
                Halo(q=1.6, fwhm_q=1.3, counts=4.0),
            ),
            streaks=(Streak("specular", 12.0), Streak("yoneda", 5.0)),
            air=8.0,
            flat=0.6,
        )

    def _crystals(self, grown: float) -> tuple[Phase, ...]:
        if grown == 0.0:
            return ()
        powder = Texture(unevenness=0.18, seed=self.seed)
        oriented = Texture(contact=(1, 0, 0), mosaic_deg=7.0, seed=self.seed)
        # Crystallites grow as well: lines sharpen while they gain intensity.
        size = 300.0 + 300.0 * grown
        return (
            Phase(self.structure, counts=80.0 * grown, texture=powder, size_angstrom=size),
            Phase(self.structure, counts=12.0 * grown, texture=oriented, size_angstrom=size),
        )
