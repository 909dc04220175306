"""The folder in which an embedded server keeps its state: held by one server, and movable.

Tiled's catalogue holds absolute paths. If the folder was moved or copied, those that lay below it
are rewritten before the catalogue is opened.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from gixi_bluesky.errors import StoreError
from gixi_bluesky.log import get_logger

__all__ = ["STATE", "catalogue_of", "held_state", "is_new"]

STATE = ".tiled"
_CATALOGUE, _TABLES, _LOCK = "catalog.db", "tables.duckdb", "server"
_log = get_logger()


def catalogue_of(home: Path) -> Path:
    """Return the file of Tiled's catalogue below a folder that is served."""
    return home / STATE / _CATALOGUE


def is_new(home: Path) -> bool:
    """Return whether no server has used a folder yet."""
    return not catalogue_of(home).exists()


@contextlib.contextmanager
def held_state(home: Path) -> Iterator[Callable[[str], None]]:
    """Hold the state below `home`, and yield what notes the address of its server.

    Raises StoreError when another process holds it, or the folder cannot be written.
    """
    lock = home / STATE / _LOCK
    try:
        (home / STATE / "data").mkdir(parents=True, exist_ok=True)
        file = lock.open("a+", encoding="utf-8")
    except OSError as error:
        message = f"{home} cannot hold the state of a server: {error.strerror}"
        raise StoreError(message) from error
    with file:
        try:
            # Not flock: a lock of that kind would pass on to the child processes.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            holder = file.read(200).strip() or "another process"
            message = f"{home} is served already, by {holder}; use that server, or end it first"
            raise StoreError(message) from error
        except OSError as error:  # a file system without locks
            _log.warning("server_folder_not_locked", directory=str(home), error=error.strerror)
        _rewrite_if_moved(home)

        def note(address: str) -> None:
            file.truncate(0)
            file.write(f"process {os.getpid()} at {address}\n")
            file.flush()

        note("an address that is not known yet")
        yield note


def _rewrite_if_moved(home: Path) -> None:
    """Point the catalogue to the files below `home` if they lay elsewhere when it was written."""
    if is_new(home):
        return
    try:
        with contextlib.closing(sqlite3.connect(catalogue_of(home))) as catalogue:
            before = _home_of(catalogue)
            if before is None or before == home:
                return
            n = _rewrite(catalogue, before, home)
            catalogue.commit()
    except sqlite3.Error as error:
        message = f"{catalogue_of(home)} cannot be read as Tiled's catalogue: {error}"
        raise StoreError(message) from error
    _log.warning("server_folder_moved", before=str(before), now=str(home), files=n)


def _home_of(catalogue: sqlite3.Connection) -> Path | None:
    """Return the folder in which the catalogue was last written, None if it is unknown."""
    if not catalogue.execute("SELECT 1 FROM sqlite_master WHERE name = 'assets'").fetchone():
        return None
    ending = f"/{STATE}/{_TABLES}"
    row = catalogue.execute(
        "SELECT data_uri FROM assets WHERE data_uri LIKE ? ORDER BY id DESC", (f"duckdb:%{ending}",)
    ).fetchone()
    if row is None:
        return None
    return Path("/" + unquote(urlsplit(row[0]).path).lstrip("/")).parent.parent


def _rewrite(catalogue: sqlite3.Connection, before: Path, now: Path) -> int:
    n = 0
    # Tiled writes files as URIs with escapes and databases without.
    for prefix, spelt in (("file://localhost", quote), ("duckdb://localhost/", str)):
        old, new = (f"{prefix}{spelt(str(folder))}/" for folder in (before, now))
        cursor = catalogue.execute(
            "UPDATE assets SET data_uri = :new || substr(data_uri, :n + 1) "
            "WHERE substr(data_uri, 1, :n) = :old",
            {"new": new, "old": old, "n": len(old)},
        )
        n += cursor.rowcount
    return n
