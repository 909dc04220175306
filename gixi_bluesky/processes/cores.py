"""The number of processor cores that this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["usable_cores"]

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Return the number of cores by affinity (Slurm, taskset) and by the container's CPU quota."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text("ascii").split()
        return max(1, min(cores, math.floor(int(quota) / int(period))))
    except (OSError, ValueError):  # no control group, or no limit: "max 100000"
        return cores
