"""HDF5 files that appear only when they are complete, also on a disk that becomes full."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import h5py

from gixi_bluesky.errors import StoreError

__all__ = ["WholeFile", "whole_file"]

# Metadata that HDF5 writes besides the data. It does not recover from a failed write, so the room
# is checked before.
_RESERVE = 4 << 20


class WholeFile:
    """An HDF5 file that is written under a hidden name and replaces `path` at `complete`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with self.errors():
            self.hdf5 = h5py.File(self._temporary, "w", libver=("earliest", "v110"))

    @contextlib.contextmanager
    def errors(self, nbytes: int = 0) -> Iterator[None]:
        """Convert errors of the disk into StoreError, raised before if `nbytes` have no room."""
        free = shutil.disk_usage(self._path.parent).free
        if free < nbytes + _RESERVE:
            reason = f"{free >> 20} MiB are free and {(nbytes + _RESERVE) >> 20} MiB are needed"
            raise StoreError(self._message(reason))
        try:
            yield
        except StoreError:
            raise
        except (OSError, RuntimeError) as error:  # h5py raises both when a disk is full
            raise StoreError(self._message(str(error))) from error

    def complete(self) -> None:
        """Close the file and give it its name."""
        with self.errors():
            self.hdf5.close()
            self._temporary.replace(self._path)

    def discard(self) -> None:
        """Remove what is there of a file that was not completed."""
        with contextlib.suppress(OSError, RuntimeError):
            self.hdf5.close()
        self._temporary.unlink(missing_ok=True)

    def _message(self, reason: str) -> str:
        return (
            f"cannot write {self._path}: {reason}; the incomplete file is removed. Free some space "
            "or choose another place, and repeat the command"
        )


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[h5py.File]:
    """Write an HDF5 file that replaces `path` when the block ends without an error.

    Raises StoreError when the disk refuses.
    """
    file = WholeFile(path)
    try:
        with file.errors():
            yield file.hdf5
        file.complete()
    finally:
        file.discard()
