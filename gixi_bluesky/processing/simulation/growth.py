"""The amount of a phase over time, in frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Growth"]

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Growth:
    """A phase that nucleates at `onset`, grows, and dissolves until `end`; times in frames.

    rise, fall: time scales of growth and dissolution
    order: exponent of the growth just after the onset; in Avrami's law 1 to 4
    law: avrami, 1 - exp(-(t/rise)^order), or ramp, min(1, (t/rise)^order)
    """

    onset: float = -math.inf
    rise: float = 10.0
    order: float = 2.0
    law: Literal["avrami", "ramp"] = "avrami"
    end: float = math.inf
    fall: float = 10.0

    def amount(self, time: Float64 | float) -> Float64:
        """Return the share of the final amount, 0 to 1; exactly 0 outside onset to end."""
        times = np.asarray(time, float)
        return self._risen(times - self.onset, self.rise) * self._risen(self.end - times, self.fall)

    @property
    def first_frame(self) -> int:
        """The first frame with material of the phase."""
        return 0 if self.onset < 0 else math.floor(self.onset) + 1

    @property
    def end_frame(self) -> float:
        """The last frame with material of the phase, inf = it lasts."""
        return math.ceil(self.end) - 1 if math.isfinite(self.end) else math.inf

    def _risen(self, since: Float64, scale: float) -> Float64:
        powers = (np.maximum(since, 0.0) / scale) ** self.order
        return -np.expm1(-powers) if self.law == "avrami" else np.minimum(powers, 1.0)
