"""The private folder of spools below a results directory, and where damaged ones are kept."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from gixi_bluesky.log import get_logger

__all__ = ["SPOOL_FOLDER", "open_private", "set_aside", "spool_files"]

SPOOL_FOLDER = ".spool"
_DAMAGED = "damaged"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_log = get_logger()


def spool_files(directory: Path) -> list[Path]:
    """Return the spools that an earlier process left below a results directory."""
    found = sorted((directory / SPOOL_FOLDER).glob("*.spool"))
    return [path for path in found if _is_ours(path)]


def open_private(path: Path) -> int:
    """Open a file for reading and writing that only its owner may read; make it if need be.

    Its folder is private, too. What stands in its place and is no regular file of one name (a
    link, a FIFO, a folder) is set aside. Raises OSError.
    """
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _restrict_folder(folder)
    if not _is_ours(path):
        set_aside(path, "it is a link or no regular file")
    file = os.open(path, _FLAGS, 0o600)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            message = f"{path} was replaced by a link or a special file while it was opened"
            raise OSError(message)
        _restrict(file, status, 0o600)
    except BaseException:
        os.close(file)
        raise
    return file


def set_aside(path: Path, reason: str) -> Path:
    """Move a file, or a link as it is, to the folder of damaged spools; return where it lies."""
    folder = path.parent / _DAMAGED
    folder.mkdir(exist_ok=True, mode=0o700)
    number = 1
    while os.path.lexists(target := folder / f"{path.name}.{number}"):
        number += 1
    path.rename(target)
    _log.error("spool_set_aside", path=str(path), kept_in=str(target), reason=reason)
    return target


def _is_ours(path: Path) -> bool:
    """Return True for a regular file of one name, and for nothing at all."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return True
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _restrict_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _restrict(file, os.fstat(file), 0o700)
    finally:
        os.close(file)


def _restrict(file: int, status: os.stat_result, mode: int) -> None:
    if stat.S_IMODE(status.st_mode) != mode:
        # Some file systems know no modes; on those the folder of results protects its content.
        with contextlib.suppress(PermissionError):
            os.fchmod(file, mode)
