"""Shared memory that one process writes and a child process maps."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SharedArray", "SharedBlock", "mapped"]


@dataclass(frozen=True, slots=True)
class SharedArray:
    """An array that lies in a shared block; `descriptor` is inherited by the child."""

    descriptor: int
    shape: tuple[int, ...]
    dtype: str


class SharedBlock:
    """A block of memory without a name, empty at first; it ends with its last descriptor.

    descriptor: to be inherited by the child process (`ChildProcess(keep=…)`)
    """

    def __init__(self) -> None:
        self.descriptor = _anonymous_file()

    def share(self, array: NDArray[Any]) -> SharedArray:
        """Copy an array into the block. Raises OSError when there is no memory for it."""
        # Written, not mapped: without memory a write fails, and a mapping kills the process.
        array = np.asarray(array, order="C")
        view = memoryview(array.data).cast("B") if array.size else memoryview(b"")
        done = 0
        while done < len(view):
            done += os.pwrite(self.descriptor, view[done:], done)
        return SharedArray(self.descriptor, array.shape, array.dtype.str)

    def close(self) -> None:
        """Release the memory; it is freed once the child has released it too."""
        if self.descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self.descriptor)
            self.descriptor = -1


def mapped(shared: SharedArray) -> NDArray[Any]:
    """Return the shared array, read-only and without a copy; the next one may overwrite it."""
    dtype = np.dtype(shared.dtype)
    nbytes = int(np.prod(shared.shape)) * dtype.itemsize
    if not nbytes:
        return np.empty(shared.shape, dtype)
    block = mmap.mmap(shared.descriptor, nbytes, access=mmap.ACCESS_READ)
    return np.frombuffer(block, dtype).reshape(shared.shape)


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("gixi-block")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
