"""Places in reciprocal space, where a track is expected in one frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Places", "coincide"]

Float64 = NDArray[np.float64]

_APART_FWHM = 0.8  # of the narrower one
_LEAST_SHARED = 0.3  # of the longer arc


@dataclass(frozen=True, slots=True)
class Places:
    """Places to measure: (n,) each; |q| and FWHM in 1/angstrom, phi and FWHM in deg."""

    q: Float64
    phi: Float64
    fwhm_q: Float64
    fwhm_phi: Float64

    def __len__(self) -> int:
        return len(self.q)

    @classmethod
    def none(cls) -> Places:
        """Return no places."""
        return cls(*(np.empty(0) for _ in range(4)))

    def chosen(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Places:
        """Return some of the places."""
        return Places(self.q[index], self.phi[index], self.fwhm_q[index], self.fwhm_phi[index])

    def joined(self, other: Places) -> Places:
        """Return the places of both."""
        pairs = (
            (self.q, other.q),
            (self.phi, other.phi),
            (self.fwhm_q, other.fwhm_q),
            (self.fwhm_phi, other.fwhm_phi),
        )
        return Places(*(np.concatenate(pair) for pair in pairs))

    def near(self, others: Places, widths: float = 6.0) -> NDArray[np.bool_]:
        """(n,) which places lie within so many widths in |q| of any of the others."""
        if not len(others):
            return np.zeros(len(self), bool)
        apart = np.abs(self.q[:, None] - others.q)
        reach = widths * np.maximum(self.fwhm_q[:, None], others.fwhm_q)
        return np.asarray((apart < reach).any(axis=1))


def coincide(places: Places, others: Places) -> NDArray[np.bool_]:
    """(n,) which places are those of others: close along q, and much the same arc."""
    if not len(others) or not len(places):
        return np.zeros(len(places), bool)
    narrow = np.minimum(places.fwhm_q[:, None], others.fwhm_q)
    near = np.abs(places.q[:, None] - others.q) < _APART_FWHM * narrow
    half, other_half = places.fwhm_phi[:, None] / 2, others.fwhm_phi / 2
    low = np.maximum(places.phi[:, None] - half, others.phi - other_half)
    high = np.minimum(places.phi[:, None] + half, others.phi + other_half)
    shared = (high - low) / (2 * np.maximum(half, other_half))
    return np.asarray((near & (shared > _LEAST_SHARED)).any(axis=1))
