"""The names of the files of a bundle, and their checksums."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from gixi_bluesky.errors import StoreError
from gixi_bluesky.provenance import file_sha256

__all__ = [
    "CHECKSUMS",
    "CONFIGURATION",
    "CRATE",
    "INPUTS",
    "PROVENANCE",
    "SOFTWARE",
    "checked_files",
    "require_empty",
    "write_checksums",
]

CRATE = "ro-crate-metadata.json"
CHECKSUMS = "checksums-sha256.txt"
CONFIGURATION = "configuration.yaml"
PROVENANCE = "provenance.json"
INPUTS = "inputs"
SOFTWARE = "requirements.txt"

_LINE = re.compile(r"([0-9a-f]{64})  ([^\0\r\n]{1,400})")
_MAX_CHECKSUMS_BYTES = 64 << 20


def require_empty(folder: Path) -> None:
    """Make a folder for a bundle. Raises StoreError when something is in it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        message = f"{folder} is not an empty folder; give a new one for the bundle"
        raise StoreError(message)
    folder.mkdir(parents=True, exist_ok=True)


def write_checksums(folder: Path) -> Path:
    """Write the sha256 of every file of a bundle, as `sha256sum --check` reads them."""
    lines = [
        f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != CHECKSUMS
    ]
    target = folder / CHECKSUMS
    target.write_text("".join(lines), encoding="utf-8")
    return target


def checked_files(folder: Path) -> Mapping[str, Path]:
    """Return the files of a bundle by their names in it, once all of them are what they were.

    Raises StoreError for what is no bundle, for a name or a link that leads out of it, for a file
    that is missing or has other content, and for one that has no checksum.
    """
    root = folder.resolve()
    named = dict(_checksums(folder / CHECKSUMS))
    files = {}
    for name, sha256 in named.items():
        path = _inside(root, name)
        try:
            found = file_sha256(path)
        except OSError as error:
            message = f"{folder}: {name} cannot be read: {error}; copy the bundle again"
            raise StoreError(message) from error
        if found != sha256:
            message = f"{folder}: {name} has changed since the bundle was made (sha256 {found})"
            raise StoreError(message)
        files[name] = path
    extra = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if not path.is_dir() or path.is_symlink()
    } - {CHECKSUMS, *files}
    if extra:
        message = f"{folder}: {min(extra)} is not among the files of the bundle; remove it"
        raise StoreError(message)
    return files


def _checksums(path: Path) -> Iterator[tuple[str, str]]:
    try:
        if path.stat().st_size > _MAX_CHECKSUMS_BYTES:
            message = f"{path} has more than {_MAX_CHECKSUMS_BYTES >> 20} MiB"
            raise StoreError(message)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path.parent} is no bundle: {CHECKSUMS} cannot be read: {error}"
        raise StoreError(message) from error
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            message = f"{path}: got {line!r:.80}; expected a sha256, two spaces and a name"
            raise StoreError(message)
        yield found[2], found[1]


def _inside(root: Path, name: str) -> Path:
    """Return the path of a name of a bundle. Raises StoreError when it leads out of it."""
    parts = PurePosixPath(name)
    path = root.joinpath(*parts.parts)
    if parts.is_absolute() or ".." in parts.parts or path.resolve() != path:
        message = f"{root}: {name!r:.80} leads out of the bundle"
        raise StoreError(message)
    return path
