"""Queries that a server with this package's plugin answers from the summary of each run."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from tiled.queries import QueryValueError, register

from gixi_bluesky.tiled_adapters.schema import Q_BIN, q_bin

__all__ = ["MAX_BINS", "PeakNear", "PhaseReached", "bins_between", "has_fast_queries"]

MAX_BINS = 100  # of a range that is searched bin by bin; a wider range returns all runs with peaks
_PEAK, _PHASE = "gixi_peak_near", "gixi_phase_reached"
_LARGEST_Q = 1e4  # 1/angstrom
_SLUG = re.compile(r"[A-Za-z0-9_-]{1,100}")


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
    def decode(cls, *, lowest: str = "", highest: str = "") -> PeakNear:
        """Read the query from parameters of a URL. Raises QueryValueError, an answer 400."""
        query = cls(_number("lowest", lowest), _number("highest", highest))
        if not -_LARGEST_Q <= query.lowest <= query.highest <= _LARGEST_Q:
            message = f"got |q| from {query.lowest:g} to {query.highest:g}; expected rising numbers"
            raise QueryValueError(f"{message} up to {_LARGEST_Q:g} 1/angstrom")
        return query


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
    def decode(cls, *, slug: str = "", probability: str = "") -> PhaseReached:
        """Read the query from parameters of a URL. Raises QueryValueError, an answer 400."""
        if not _SLUG.fullmatch(slug):
            message = f"got the phase {slug!r:.80}; expected letters, digits, - and _"
            raise QueryValueError(message)
        return cls(slug, _number("probability", probability))


def _number(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        return number
    message = f"{name}: got {value!r:.80}; expected a finite number"
    raise QueryValueError(message)


def bins_between(lowest: float, highest: float) -> list[str]:
    """Return the keys of the summary's `q_bins` that a |q| in this range can be counted under.

    Empty for a range of more than MAX_BINS of them.
    """
    first, last = (max(math.floor(edge / Q_BIN), 0) for edge in (lowest, highest))
    if last - first > MAX_BINS:
        return []
    return [q_bin((number + 0.5) * Q_BIN) for number in range(first, last + 2)]


def has_fast_queries(client: Any) -> bool:
    """Return whether the server has the plugin; a server without it ignores these queries."""
    return {_PEAK, _PHASE} <= set(client.context.server_info.queries)
