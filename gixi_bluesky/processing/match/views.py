"""The visible share of a tilted direction relative to that of a random one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.match.contact_planes import ANGLES
from gixi_bluesky.processing.match.lines import Visibility
from gixi_bluesky.processing.match.tilts import tilt_table

__all__ = ["View"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_COLUMNS = 64  # of the image, at which the view is known


@dataclass(frozen=True, slots=True)
class View:
    """The visible directions at (c) columns.

    q: (c,) 1/angstrom; brought: (c, 91 angles, mosaics) intensity in view of a direction at each
    angle to the plane, 1 = as much as of a powder
    """

    q: Float64
    brought: Float32

    @classmethod
    def of(cls, visibility: Visibility) -> View:
        """Return the view of a frame; kept for the frames of one geometry."""
        step = max(len(visibility.q) // _COLUMNS, 1)
        row = abs(visibility.phi[:, None] - ANGLES).argmin(axis=0)
        seen = visibility.seen[row, ::step].T
        return cls(visibility.q[::step], _brought(np.packbits(seen).tobytes(), seen.shape))

    def column(self, q: Float64) -> Int64:
        """Return the nearest columns."""
        step = (self.q[-1] - self.q[0]) / (len(self.q) - 1)
        nearest = np.rint((q - self.q[0]) / step).astype(np.int64)
        return np.clip(nearest, 0, len(self.q) - 1)


@lru_cache(maxsize=4)
def _brought(packed: bytes, shape: tuple[int, int]) -> Float32:
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=shape[0] * shape[1])
    seen = bits.reshape(shape).astype(np.float32)
    table = tilt_table()
    whole = (seen @ table.reshape(len(ANGLES), -1)).reshape(len(seen), *table.shape[1:])
    brought = whole / np.maximum(seen.sum(axis=1), 1)[:, None, None]
    brought.setflags(write=False)
    return np.asarray(brought, np.float32)
