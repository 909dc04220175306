"""The memory that this process and its children may use together."""

from __future__ import annotations

from pathlib import Path

__all__ = ["usable_memory_gib"]

_MACHINE = Path("/proc/meminfo")
_GROUPS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_GIB = 1 << 30


def usable_memory_gib() -> float | None:
    """Return the memory of the machine or, if that is less, of the container; None = not known."""
    found = [limit for limit in (_of_machine(), *map(_of_group, _GROUPS)) if limit is not None]
    return min(found) / _GIB if found else None


def _of_machine() -> int | None:
    try:
        (line,) = (row for row in _MACHINE.read_text("ascii").splitlines() if "MemTotal" in row)
        return int(line.split()[1]) << 10
    except (OSError, ValueError):  # no Linux
        return None


def _of_group(limit: Path) -> int | None:
    try:
        return int(limit.read_text("ascii"))
    except (OSError, ValueError):  # no control group, or no limit: "max"
        return None
