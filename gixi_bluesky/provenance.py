"""Provenance of a result: one object for the derived run, the HDF5 file and Tiled."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

__all__ = [
    "Provenance",
    "derived_uid",
    "file_sha256",
    "library_versions",
    "open_regular",
    "require_regular",
    "result_hash",
]

# Raised whenever the same input and settings would give another result.
ALGORITHM_VERSION = 2

_NAMESPACE = UUID("9d0d3a2e-6a0f-5b0e-9d0c-6b7a5a1f7c11")
_LIBRARIES = (
    "numpy",
    "scipy",
    "opencv-python-headless",
    "torch",
    "openvino",
    "gemmi",
    "h5py",
    "tiled",
)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Everything needed to repeat a result, or to explain a different one.

    `result_hash` covers what decides the numbers; it leaves out device, engine, paths and servers.
    """

    version: str
    result_hash: str
    config: dict[str, Any]
    geometry: dict[str, Any]
    weights_name: str
    weights_sha256: str
    cif_sha256: dict[str, str]
    mask_sha256: str | None = None
    poni_sha256: str | None = None
    nexus_sha256: str | None = None
    correction_sha256: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"
    engine: str = "torch"
    algorithm_version: int = ALGORITHM_VERSION
    libraries: dict[str, str] = field(default_factory=lambda: library_versions())

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types for documents and files."""
        return asdict(self)


def result_hash(deciding: Mapping[str, Any]) -> str:
    """Return the sha256 (hex) of what decides a result, independent of key order.

    `deciding` holds JSON types only: settings without paths, and the sha256 of file contents.
    """
    canonical = json.dumps(
        {"algorithm_version": ALGORITHM_VERSION, **deciding},
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def derived_uid(
    raw_uid: str, stream: str, data_key: str, result_hash: str, attempt: int = 1
) -> str:
    """Return the uid of the derived run: the same input and settings give the same run.

    attempt: counts analyses that were repeated on purpose, from 1
    """
    parts = (raw_uid, stream, data_key, result_hash, *([f"attempt {attempt}"] * (attempt > 1)))
    return str(uuid5(_NAMESPACE, "\n".join(parts)))


def file_sha256(path: Path) -> str:
    """Return the sha256 (hex) of a file's content. Raises OSError as `open_regular` does."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_regular(path: str | Path) -> io.BufferedReader:
    """Open a regular file for reading, without waiting for a writer of a named pipe.

    Raises OSError for what is not there, cannot be read, or is a pipe, a device or a folder.
    """
    # Without O_NONBLOCK, opening a named pipe waits for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _require_regular_mode(os.fstat(descriptor).st_mode, path)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def require_regular(path: str | Path) -> None:
    """Raise OSError unless `path` leads to a regular file, which a library may then open."""
    _require_regular_mode(Path(path).stat().st_mode, path)


def _require_regular_mode(mode: int, path: str | Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder; expected a file", str(path))
    if not stat.S_ISREG(mode):
        message = "is a pipe, a socket or a device; expected a regular file"
        raise OSError(errno.EINVAL, message, str(path))


def library_versions() -> dict[str, str]:
    """Return the installed versions of the libraries that compute or store results."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
