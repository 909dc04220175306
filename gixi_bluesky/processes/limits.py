"""The limits that a child process sets for itself before it does anything else."""

from __future__ import annotations

import contextlib
import os
import resource
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Limits"]

_GIB = 1 << 30
_FIRST_TO_BE_KILLED = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """Resource limits of a child process; None = as in the parent.

    memory_gib: private writable memory (RLIMIT_DATA); an allocation beyond it is a MemoryError.
        Address space that is only reserved, as CUDA does, and mapped files do not count.
    address_space_gib: everything that is mapped (RLIMIT_AS)
    file_gib: size of a file that is written (RLIMIT_FSIZE)
    open_files: number of open descriptors (RLIMIT_NOFILE)
    niceness: added to that of the parent
    """

    memory_gib: float | None = None
    address_space_gib: float | None = None
    file_gib: float | None = None
    open_files: int | None = None
    niceness: int = 10

    def apply(self) -> None:
        """Set the limits for this process, and make it the first that the OOM killer takes.

        A limit above that of the parent leaves the parent's limit as it is.
        """
        _lower(resource.RLIMIT_CORE, 0)
        _lower(resource.RLIMIT_DATA, _bytes(self.memory_gib))
        _lower(resource.RLIMIT_AS, _bytes(self.address_space_gib))
        _lower(resource.RLIMIT_FSIZE, _bytes(self.file_gib))
        _lower(resource.RLIMIT_NOFILE, self.open_files)
        with contextlib.suppress(OSError):  # not Linux, or forbidden in this container
            Path("/proc/self/oom_score_adj").write_text(f"{_FIRST_TO_BE_KILLED}\n", "ascii")
        if self.niceness:
            os.nice(self.niceness)


def _bytes(gib: float | None) -> int | None:
    return None if gib is None else int(gib * _GIB)


def _lower(kind: int, value: int | None) -> None:
    if value is None:
        return
    _, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY or value < hard:
        resource.setrlimit(kind, (value, value))
