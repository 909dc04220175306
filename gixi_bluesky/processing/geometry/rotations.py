"""The tilts of a detector as pyFAI counts them, and their rotation matrix."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["rotation_angles", "rotation_matrix"]

Float64 = NDArray[np.float64]


def rotation_matrix(rot1: float, rot2: float, rot3: float) -> Float64:
    """Return R3 R2 R1, (3, 3), of pyFAI's angles, rad."""
    (s1, c1), (s2, c2), (s3, c3) = ((math.sin(r), math.cos(r)) for r in (rot1, rot2, rot3))
    first = np.array([[1, 0, 0], [0, c1, s1], [0, -s1, c1]])
    second = np.array([[c2, 0, -s2], [0, 1, 0], [s2, 0, c2]])
    third = np.array([[c3, -s3, 0], [s3, c3, 0], [0, 0, 1]])
    return third @ second @ first


def rotation_angles(rotation: Float64) -> tuple[float, float, float]:
    """Return rot1, rot2, rot3, rad, of a rotation matrix R3 R2 R1."""
    return (
        math.atan2(-rotation[2, 1], rotation[2, 2]),
        math.asin(np.clip(rotation[2, 0], -1, 1)),
        math.atan2(rotation[1, 0], rotation[0, 0]),
    )
