"""A disk on which files cannot grow beyond some bytes, for this process."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def files_below(nbytes: int) -> Iterator[None]:
    """Let the kernel refuse every write that makes a file longer (EFBIG, as ENOSPC elsewhere)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
