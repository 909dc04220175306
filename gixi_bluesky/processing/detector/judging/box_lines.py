"""Boxes on one |q|, and boxes that are meant as rings, on a polar image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SAME_Q", "TALL", "columns_of", "is_tall"]

SAME_Q = 0.75  # of the larger width: boxes nearer than this lie on one |q|
TALL = 0.33  # of the rows: such a box is meant as a ring
_LEAST_WIDTH = 1.5  # columns


def columns_of(boxes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the columns (n,) of the centres of boxes (n, 4), and the widths (n,) in columns."""
    left, right = boxes[:, 0], boxes[:, 2]
    return (left + right) / 2, np.maximum(right - left, _LEAST_WIDTH)


def is_tall(boxes: NDArray[np.floating[Any]], n_rows: int) -> NDArray[np.bool_]:
    """Return which boxes (n, 4) of an image of `n_rows` are tall enough to be rings, (n,)."""
    return np.asarray(boxes[:, 3] - boxes[:, 1] >= TALL * n_rows)
