"""Orientation of crystallites, and the resulting intensity along a ring."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.structures.directions import (
    Cell,
    Hkl,
    reciprocal_basis,
    tilted_density,
)

__all__ = [
    "Cell",
    "Hkl",
    "Texture",
    "angular_profiles",
    "phi_axis",
    "reciprocal_basis",
    "tilted_density",
]

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Texture:
    """Orientation of the crystallites, isotropic about the substrate normal.

    contact: hkl of the plane that lies on the substrate; None = all orientations alike (powder)
    mosaic_deg: sigma of its tilt
    powder_fraction: share of the crystallites without preferred orientation
    unevenness: relative scatter of the intensity along rings (few crystallites), about 0…0.6
    grains: bright single crystallites per ring, each a spot
    spot_deg: their width along phi, FWHM; also that of each of the crystallites
    crystallites: mean number that diffract into a ring of 90 deg of a line of average
        multiplicity, 0 = so many that rings are smooth
    size_scatter: sigma of the logarithm of their volumes
    fine_fraction: share of the material that is too fine to be counted
    wander: FWHM of the scatter of the crystallites in |q| over that of the line, below 1
    seed: fixes unevenness, grains and crystallites
    """

    contact: Hkl | None = None
    mosaic_deg: float = 10.0
    powder_fraction: float = 0.0
    unevenness: float = 0.0
    grains: int = 0
    spot_deg: float = 1.0
    crystallites: float = 0.0
    size_scatter: float = 1.0
    fine_fraction: float = 0.0
    wander: float = 0.0
    seed: int = 0


def phi_axis(rows: int) -> Float64:
    """Return the phi axis of profiles, 0 to 90 deg, (rows,)."""
    return np.linspace(0.0, 90.0, rows)


@lru_cache(maxsize=4096)
def angular_profiles(texture: Texture, cell: Cell, hkl: Hkl, rows: int) -> tuple[Float64, ...]:
    """Return one profile, (rows,) on `phi_axis`, per angle between the family and the contact.

    A powder ring is 1 everywhere; a fibre's arcs add up to a mean of 1 over all directions,
    so that without mosaic they rise as 1/cos(phi) = q/q_xy towards the normal.
    Kept, because in a growing film only the counts change from frame to frame.
    """
    phi = phi_axis(rows)
    rng = np.random.default_rng([texture.seed, *(abs(index) for index in hkl)])
    if texture.contact is None:
        profiles = [np.ones(rows)]
    else:
        profiles = _fibre(texture, cell, hkl, texture.contact, phi)
    if texture.unevenness > 0:
        profiles = [p * _modulation(phi, texture.unevenness, rng) for p in profiles]
    profiles += _spots(texture, np.sum(profiles, axis=0), phi, rng)
    for profile in profiles:
        profile.setflags(write=False)
    return tuple(profiles)


def _fibre(texture: Texture, cell: Cell, hkl: Hkl, contact: Hkl, phi: Float64) -> list[Float64]:
    share = 1.0 - texture.powder_fraction
    angles, weights = _contact_angles(cell, hkl, contact)
    arcs = [
        share * weight * tilted_density(angle, texture.mosaic_deg, phi)
        for angle, weight in zip(angles, weights, strict=True)
    ]
    if texture.powder_fraction > 0:
        arcs.append(np.full_like(phi, texture.powder_fraction))
    return arcs


def _contact_angles(cell: Cell, hkl: Hkl, contact: Hkl) -> tuple[Float64, Float64]:
    """Return the distinct angles (0…90 deg) of the family to the contact plane and their shares.

    The family is every hkl with the same |q|: what a ring holds, whatever the Laue class.
    """
    basis = reciprocal_basis(cell)
    length = float(np.linalg.norm(np.asarray(hkl) @ basis))
    reach = np.ceil(length / (2 * np.pi) * np.asarray(cell[:3], dtype=float)).astype(int) + 1
    indices = np.array(list(product(*(range(-n, n + 1) for n in reach))))
    vectors = indices @ basis
    lengths = np.linalg.norm(vectors, axis=1)
    family = vectors[np.abs(lengths - length) < 1e-4 * length]
    normal = np.asarray(contact) @ basis
    normal /= np.linalg.norm(normal)
    cosine = np.abs(family @ normal) / length
    angle = np.degrees(np.arccos(np.clip(cosine, 0.0, 1.0)))
    distinct, counts = np.unique(np.round(angle, 1), return_counts=True)
    return distinct, counts / counts.sum()


def _modulation(phi: Float64, unevenness: float, rng: np.random.Generator) -> Float64:
    """Return a smooth positive factor of mean about 1 along phi."""
    waves = np.zeros_like(phi)
    for order in range(1, 9):
        waves += (
            rng.normal()
            / np.sqrt(order)
            * np.cos(np.radians(phi) * 4 * order + rng.uniform(0, 2 * np.pi))
        )
    waves /= max(float(waves.std()), 1e-9)
    factor = np.exp(unevenness * waves)
    return np.asarray(factor / factor.mean())


def _spots(
    texture: Texture, density: Float64, phi: Float64, rng: np.random.Generator
) -> list[Float64]:
    """Return one narrow profile per bright crystallite, where the texture allows it."""
    if texture.grains == 0:
        return []
    chance = density * np.cos(np.radians(phi)) + 1e-12
    centres = rng.choice(phi, size=texture.grains, p=chance / chance.sum())
    brightness = rng.lognormal(np.log(3.0), 0.7, size=texture.grains)
    sigma = texture.spot_deg / 2.3548
    return [
        b * np.exp(-0.5 * ((phi - centre) / sigma) ** 2)
        for b, centre in zip(brightness, centres, strict=True)
    ]
