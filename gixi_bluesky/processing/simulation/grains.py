"""Rings of a countable number of crystallites: the intensity along phi that their number gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.simulation.texture import Hkl, Texture, phi_axis
from gixi_bluesky.processing.tables import FWHM_PER_SIGMA

__all__ = ["Grains", "grains_of"]

Float64 = NDArray[np.float64]

_FEWEST = 3.5  # crystallites of equal size that make a ring; fewer are spots
_REACH = 4.0  # standard deviations along phi


@dataclass(frozen=True, slots=True)
class Grains:
    """One ring or arc of crystallites that can be counted.

    angular: (n_phi,) as `Component.angular`, its mean over many samples is the texture's
    shift: (n_phi,) how far off the line's |q| the crystallites there lie, in units of its FWHM
    sharpness: FWHM along |q| of one crystallite over that of the line
    ring: enough of them to be one peak; otherwise each of `spots` is a peak
    spots: (m, n_phi) the crystallites one by one where they are no ring, otherwise (0, n_phi)
    """

    angular: Float64
    shift: Float64
    sharpness: float
    ring: bool
    spots: Float64


def grains_of(texture: Texture, density: Float64, hkl: Hkl, relative_number: float) -> Grains:
    """Draw the crystallites of one line; the same texture and line give the same ones.

    Their number follows Poisson's law, their sizes a log-normal one. Each lies where its texture
    allows, and where it happens to sit along the beam, which moves it in |q|.

    density: (n_phi,) intensity of infinitely many crystallites, 1 = a powder's
    relative_number: multiplicity of the line over the mean of its phase
    """
    phi = phi_axis(len(density))
    rng = np.random.default_rng([texture.seed, 3, *(abs(index) for index in hkl)])
    expected = texture.crystallites * relative_number
    share = float(density.mean())
    number = int(rng.poisson(expected * share))
    coarse = 1.0 - texture.fine_fraction
    sharpness = float(np.sqrt(1.0 - texture.wander**2))
    centres = rng.choice(phi, size=number, p=density / density.sum()) if number else np.empty(0)
    sizes = rng.lognormal(-(texture.size_scatter**2) / 2, texture.size_scatter, number)
    offsets = rng.normal(0.0, texture.wander / FWHM_PER_SIGMA, number)
    sigma = texture.spot_deg / FWHM_PER_SIGMA
    # One crystallite's share of the ring's integral, over the area of its profile.
    height = coarse * 90.0 / max(expected, 1e-9) / (sigma * np.sqrt(2.0 * np.pi))
    angular, strongest, shift = np.zeros((3, len(phi)))
    for centre, size, offset in zip(centres, sizes, offsets, strict=True):
        first, last = np.searchsorted(phi, [centre - _REACH * sigma, centre + _REACH * sigma])
        bell = size * np.exp(-0.5 * ((phi[first:last] - centre) / sigma) ** 2)
        angular[first:last] += height * bell
        # Where several overlap the strongest says where the line lies: a mean would narrow it.
        wins = bell > strongest[first:last]
        shift[first:last][wins] = offset
        np.maximum(strongest[first:last], bell, out=strongest[first:last])
    effective = float(sizes.sum() ** 2 / (sizes**2).sum()) if number else 0.0
    ring = effective >= _FEWEST or texture.fine_fraction > 0
    spots = np.empty((0, len(phi)))
    if not ring:
        spots = np.exp(-0.5 * ((phi - centres[:, None]) / sigma) ** 2) * (height * sizes)[:, None]
    return Grains(
        angular=angular + texture.fine_fraction * density,
        shift=shift,
        sharpness=sharpness,
        ring=ring,
        spots=spots,
    )
