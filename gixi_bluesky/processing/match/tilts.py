"""Densities along phi of directions in crystallites that are tilted about a contact plane."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.match.contact_planes import ANGLES
from gixi_bluesky.processing.structures.directions import tilted_density

__all__ = ["MOSAICS_DEG", "tilt_table"]

Float32 = NDArray[np.float32]

MOSAICS_DEG = (1.0, 2.0, 4.0, 8.0, 16.0)  # sigma


@lru_cache(maxsize=1)
def tilt_table() -> Float32:
    """Return the density of a direction at each angle to the plane, (91 phi, 91 angles, mosaics).

    1 = isotropic.
    """
    by_angle = [[tilted_density(a, m, ANGLES) for m in MOSAICS_DEG] for a in ANGLES.tolist()]
    table = np.ascontiguousarray(np.array(by_angle, np.float32).transpose(2, 0, 1))
    table.setflags(write=False)
    return table
