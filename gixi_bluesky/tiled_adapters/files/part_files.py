"""The parts of a run: their paths, the room on the disk, and errors of the disk."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from gixi_bluesky.errors import StoreError

__all__ = ["disk_errors", "new_part_path", "require_room", "run_parts"]

# What HDF5 may write besides the data itself: metadata of a flush, and of other files meanwhile.
_RESERVE = 4 << 20


def run_parts(directory: Path, uid: str) -> list[Path]:
    """Return the parts of a run, the newest last."""
    folder = directory / uid
    if not folder.is_dir():
        return []
    found = [(_number(path), path) for path in folder.iterdir()]
    return [path for number, path in sorted(found) if number]


def new_part_path(directory: Path, uid: str) -> Path:
    """Return the path of the next part, in its folder, which is made."""
    folder = directory / uid
    folder.mkdir(parents=True, exist_ok=True)
    parts = run_parts(directory, uid)
    return folder / f"part-{_number(parts[-1]) + 1 if parts else 1:04d}.h5"


def require_room(folder: Path, nbytes: int) -> None:
    """Raise StoreError unless the disk has room for `nbytes` more and a reserve.

    HDF5 does not recover from a failed write, so the room is checked before.
    """
    free = shutil.disk_usage(folder).free
    if free < nbytes + _RESERVE:
        message = (
            f"{folder} has {free / 2**20:.1f} MiB free and {nbytes / 2**20:.1f} MiB are to be "
            "written; free some space, and writing continues"
        )
        raise StoreError(message)


@contextlib.contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Convert errors of HDF5 and the disk into StoreError, with the room that is left."""
    try:
        yield
    except StoreError:
        raise
    except (OSError, RuntimeError) as error:
        try:
            room = f"{shutil.disk_usage(place.parent).free / 2**20:.0f} MiB free"
        except OSError:
            room = "its folder cannot be read"
        message = f"cannot write {place}: {error} ({room}); repair it and resume the run"
        raise StoreError(message) from error


def _number(path: Path) -> int:
    found = re.fullmatch(r"part-(\d{4,})\.h5", path.name)
    return int(found[1]) if found else 0
