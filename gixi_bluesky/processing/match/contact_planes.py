"""Planes that may lie on the substrate, and the angles of reflections to them."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.structures.directions import Cell, Hkl, reciprocal_basis

__all__ = ["ANGLES", "contact_planes", "family_angles", "index_box"]

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

ANGLES = np.arange(91.0)  # deg
LARGEST_INDEX = 2
_SAME_LENGTH = 1e-4  # relative
_SHELLS = 8  # of reflections by which planes are distinguished


@lru_cache(maxsize=512)
def contact_planes(cell: Cell) -> Int64:
    """Return (n, 3) planes of indices up to 2, one of each that the lattice makes equivalent."""
    indices = range(-LARGEST_INDEX, LARGEST_INDEX + 1)
    planes: list[Hkl] = [
        (h, k, el)
        for h, k, el in product(indices, repeat=3)
        if math.gcd(h, k, el) == 1 and (h, k, el) > (0, 0, 0)
    ]
    planes.sort(key=lambda p: (sum(map(abs, p)), -sum(i >= 0 for i in p), [-i for i in p]))
    basis = reciprocal_basis(cell)
    normals = np.array([np.array(plane) @ basis for plane in planes])
    lengths = np.linalg.norm(normals, axis=1)
    shells = np.argsort(lengths, kind="stable")[:_SHELLS]
    cosines = []  # of each plane to the members of each shell, sorted
    for shell in shells.tolist():
        cosine = abs(normals @ _family(cell, planes[shell]).T) / lengths[:, None]
        cosines.append(np.sort(cosine, axis=1))
    keys = np.concatenate([np.round(lengths, 4)[:, None], np.round(np.hstack(cosines), 3)], axis=1)
    seen: dict[tuple[float, ...], Hkl] = {}
    for plane, key in zip(planes, keys.tolist(), strict=True):
        seen.setdefault(tuple(key), plane)
    return np.array(list(seen.values()), np.int64)


@lru_cache(maxsize=8192)
def family_angles(cell: Cell, hkl: Hkl) -> Float64:
    """Return (n_planes, members) in deg, 0 to 90; the family is every hkl of the same |q|."""
    normals = contact_planes(cell) @ reciprocal_basis(cell)
    normals = normals / np.linalg.norm(normals, axis=1)[:, None]
    cosine = abs(normals @ _family(cell, hkl).T)
    angles = np.degrees(np.arccos(np.clip(cosine, 0, 1)))
    angles.setflags(write=False)
    return np.asarray(angles)


@lru_cache(maxsize=8192)
def _family(cell: Cell, hkl: Hkl) -> Float64:
    """Return the unit vectors of all planes with the |q| of hkl, (members, 3)."""
    basis = reciprocal_basis(cell)
    length = float(np.linalg.norm(np.asarray(hkl) @ basis))
    reach = np.floor(length / (2 * np.pi) * np.asarray(cell[:3]) * (1 + _SAME_LENGTH)).astype(int)
    vectors = index_box(reach) @ basis
    lengths = np.linalg.norm(vectors, axis=1)
    return np.asarray(vectors[abs(lengths - length) < _SAME_LENGTH * length] / length)


def index_box(reach: Int64) -> Int64:
    """Return all indices hkl up to `reach` (3,) in size, (n, 3)."""
    sizes = (2 * reach + 1).tolist()
    return np.asarray(np.indices(sizes).reshape(3, -1).T - reach, np.int64)
