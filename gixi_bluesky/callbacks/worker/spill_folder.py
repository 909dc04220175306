"""Images of frames on disk, in a folder that this process or the next one removes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.log import get_logger

__all__ = ["SpillFolder", "sweep"]

_PREFIX = "gixi-spill-"
_LOCK = "lock"
_BEING_MADE_S = 60.0
_log = get_logger()


class SpillFolder:
    """Writes images into a folder that is locked as long as this process lives.

    parent: where the folder is made; None = the system's temporary folder
    Raises OSError when it cannot be made.
    """

    def __init__(self, parent: Path | None) -> None:
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        self._owner = os.getpid()
        self._lock = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._written = 0

    def write(self, image: NDArray[Any]) -> Path:
        """Store an image as a NumPy file and return its path. Raises OSError."""
        self._written += 1
        path = self.path / f"{self._written}.npy"
        np.save(path, image, allow_pickle=False)
        return path

    def remove(self) -> None:
        """Remove the folder and what is in it; a forked child of the owner removes nothing."""
        if self._owner == os.getpid():
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def sweep(parent: Path | None) -> int:
    """Remove folders of processes that were killed; return how many.

    A folder is left alone while its lock is held, or when another user owns it.
    """
    removed = 0
    for folder in Path(parent or tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            if folder.is_symlink() or status.st_uid != os.getuid() or not _is_left(folder):
                continue
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
            _log.warning("spill_folder_swept", folder=str(folder))
    return removed


def _is_left(folder: Path) -> bool:
    """Return whether no process holds the lock of a folder. Raises OSError."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return time.time() - folder.lstat().st_mtime > _BEING_MADE_S
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
