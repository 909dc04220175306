"""Components of a scene that form one visible peak, and its extent along the ring."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.simulation.scene import Component
from gixi_bluesky.processing.simulation.texture import Hkl
from gixi_bluesky.processing.tables import FWHM_PER_SIGMA

__all__ = ["MergedPeak", "extent", "merged"]

Float64 = NDArray[np.float64]

# A box ends where the profile along phi falls to 2 sigma of a Gaussian.
_EDGE = np.exp(-2.0)
# Components nearer than this, in units of their FWHM, are one peak with several hkl.
_ONE_PEAK_Q, _ONE_PEAK_PHI = 0.6, 0.85


@dataclass(frozen=True, slots=True)
class MergedPeak:
    """Components that form one peak: the label of the strongest, and the hkl of all."""

    component: Component
    hkl: tuple[Hkl, ...]


def merged(components: Iterable[Component]) -> list[MergedPeak]:
    """Join components that form one visible peak, strongest first."""
    peaks: list[MergedPeak] = []
    for component in sorted(components, key=lambda c: -c.height * float(c.angular.max())):
        partner = next((i for i, p in enumerate(peaks) if _one(p.component, component)), None)
        if partner is None:
            peaks.append(MergedPeak(component, (component.hkl,)))
            continue
        held = peaks[partner]
        share = component.height * component.angular / max(held.component.height, 1e-12)
        joined = replace(held.component, angular=held.component.angular + share)
        if held.component.course is not None or component.course is not None:
            length = component.height * component.extent / max(held.component.height, 1e-12)
            joined = replace(joined, course=held.component.extent + length)
        # The indices of another phase would mean nothing beside the name of this one.
        known = component.phase != held.component.phase or component.hkl in held.hkl
        peaks[partner] = MergedPeak(joined, held.hkl if known else (*held.hkl, component.hkl))
    return peaks


def _one(a: Component, b: Component) -> bool:
    if abs(a.q - b.q) > _ONE_PEAK_Q * max(a.fwhm_q, b.fwhm_q):
        return False
    (low_a, high_a), (low_b, high_b) = extent(a.extent), extent(b.extent)
    # Between the 13.5 % points lie 4 sigma = 1.70 FWHM.
    fwhm = max(high_a - low_a, high_b - low_b) / (4.0 / FWHM_PER_SIGMA)
    narrow = min(high_a - low_a, high_b - low_b) / (4.0 / FWHM_PER_SIGMA)
    apart = abs(high_a + low_a - high_b - low_b) / 2.0
    # A spot on a ring of its own q stays a second peak.
    return apart < _ONE_PEAK_PHI * fwhm and narrow > 0.3 * fwhm


def extent(angular: Float64) -> tuple[float, float]:
    """Return first and last fraction (0…1 of 90 deg) above 13.5 % of the maximum."""
    above = np.flatnonzero(angular > _EDGE * angular.max())
    return above[0] / (len(angular) - 1), above[-1] / (len(angular) - 1)
