"""Queries that a server with our plugin answers in one look at each run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tiled.queries import register

from gixi_bluesky.tiled_adapters.schema import Q_BIN, q_bin

__all__ = ["PeakNear", "PhaseReached", "bins_between", "knows"]

_PEAK, _PHASE = "gixi_peak_near", "gixi_phase_reached"


@register(name=_PEAK)
@dataclass
class PeakNear:
    """Runs with a peak in one of the bins from `lowest` to `highest` |q|, 1/angstrom."""

    lowest: float
    highest: float

    def encode(self) -> dict[str, Any]:
        """Return the query as parameters of a URL."""
        return {"lowest": repr(float(self.lowest)), "highest": repr(float(self.highest))}

    @classmethod
    def decode(cls, *, lowest: str, highest: str) -> PeakNear:
        """Read the query from parameters of a URL."""
        return cls(float(lowest), float(highest))


@register(name=_PHASE)
@dataclass
class PhaseReached:
    """Runs in which the phase `slug` reached `probability`."""

    slug: str
    probability: float

    def encode(self) -> dict[str, Any]:
        """Return the query as parameters of a URL."""
        return {"slug": self.slug, "probability": repr(float(self.probability))}

    @classmethod
    def decode(cls, *, slug: str, probability: str) -> PhaseReached:
        """Read the query from parameters of a URL."""
        return cls(slug, float(probability))


def bins_between(lowest: float, highest: float) -> list[str]:
    """Return the keys of the summary's `q_bins` that a |q| in this range can be counted under."""
    first, last = (max(math.floor(edge / Q_BIN), 0) for edge in (lowest, highest))
    return [q_bin((number + 0.5) * Q_BIN) for number in range(first, last + 2)]


def knows(client: Any) -> bool:
    """Tell whether the server has the plugin: one without it would leave these queries out."""
    return {_PEAK, _PHASE} <= set(client.context.server_info.queries)
