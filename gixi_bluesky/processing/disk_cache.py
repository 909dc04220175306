"""A cache on disk for results that are slow to compute and depend on their key only."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import platformdirs

from gixi_bluesky.log import get_logger

__all__ = ["DiskCache"]

_SUFFIX, _DIGEST = ".cached", 32
_log = get_logger()


class DiskCache:
    """Files of one kind in the user's cache directory, the least recently used removed first.

    limit: bytes that the files may take together
    Several processes may share it: a file is written aside and renamed, and its digest is
    verified when it is read. Where the directory cannot be used, nothing is found and nothing kept.
    """

    def __init__(self, kind: str, limit: int) -> None:
        self._folder = platformdirs.user_cache_path("gixi_bluesky") / kind
        self._limit = limit

    def get(self, key: str) -> bytes | None:
        """Return the payload of a key, None if there is none or it is damaged."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        payload = memoryview(content)[_DIGEST:]
        if hashlib.sha256(payload).digest() != content[:_DIGEST]:
            _log.warning("cache_damaged", path=str(path))
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)
        return bytes(payload)

    def put(self, key: str, payload: bytes) -> None:
        """Store the payload under the key; a failure is logged and changes nothing."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
                try:
                    file.write(hashlib.sha256(payload).digest())
                    file.write(payload)
                    file.close()
                    Path(file.name).replace(self._path(key))
                except BaseException:
                    Path(file.name).unlink()
                    raise
            self._prune()
        except OSError as error:
            _log.info("cache_unusable", folder=str(self._folder), error=str(error))

    def _path(self, key: str) -> Path:
        return self._folder / (hashlib.sha256(key.encode()).hexdigest() + _SUFFIX)

    def _prune(self) -> None:
        used = []
        # Also what a killed process left half written.
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another process prunes too
                state = path.stat()
                used.append((state.st_mtime_ns, state.st_size, path))
        total = sum(size for _, size, _ in used)
        for _, size, path in sorted(used):
            if total <= self._limit:
                return
            path.unlink(missing_ok=True)
            total -= size
