"""The working directory of child processes: an empty folder, never written to."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

__all__ = ["empty_folder"]


def empty_folder() -> Path:
    """Return an empty folder of this user, made at first use.

    A relative path from a foreign file therefore resolves to nothing.
    """
    folder = Path(tempfile.gettempdir()) / f"gixi-empty-{os.getuid()}"
    folder.mkdir(mode=0o500, exist_ok=True)
    status = folder.lstat()
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not any(folder.iterdir()):
        return folder
    return Path(tempfile.mkdtemp(prefix="gixi-empty-"))  # the name is taken by someone else
