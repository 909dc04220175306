"""The times of the stages of one frame: wall time and CPU time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["StageTimes"]


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Seconds by stage: `wall` on the clock, `cpu` of all threads of this process."""

    wall: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Measure the time of the context."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall[stage] = time.perf_counter() - wall
        self.cpu[stage] = time.process_time() - cpu

    def without(self, stage: str) -> StageTimes:
        """Return the times of the other stages."""
        wall, cpu = ({k: v for k, v in d.items() if k != stage} for d in (self.wall, self.cpu))
        return StageTimes(wall, cpu)

    def shared(self, frames: int) -> StageTimes:
        """Return the share of one of `frames` that were analysed together."""
        wall, cpu = ({k: v / frames for k, v in d.items()} for d in (self.wall, self.cpu))
        return StageTimes(wall, cpu)

    def __or__(self, other: StageTimes) -> StageTimes:
        return StageTimes(self.wall | other.wall, self.cpu | other.cpu)
