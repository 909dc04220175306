"""Access to files: paths from documents are mapped to this machine and kept below roots."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gixi_bluesky.callbacks.settings import InputSettings
from gixi_bluesky.errors import RefusedPathError

__all__ = ["FileAccess"]


@dataclass(frozen=True)
class FileAccess:
    """Turns a path or file URI of a document into a path that may be opened.

    roots: folders below which everything must lie, links resolved; empty = no limit
    root_map: prefix in the documents → prefix here; the longest that fits is used
    named: files that may be read wherever they lie, links resolved
    """

    roots: tuple[Path, ...]
    root_map: Mapping[str, str]
    named: frozenset[Path] = frozenset()

    @classmethod
    def from_settings(cls, settings: InputSettings) -> FileAccess:
        """Resolve the configured roots once; the target of a root that is a link is trusted."""
        return cls(tuple(root.resolve() for root in settings.roots), dict(settings.root_map))

    @classmethod
    def for_named(cls, settings: InputSettings, names: Iterable[str]) -> FileAccess:
        """Admit files that a user named, FILE or FILE::DATASET, besides what lies below the roots.

        What these files lead to must still lie below the roots.
        """
        access = cls.from_settings(settings)
        if not access.roots:
            return access
        files = (Path(name.split("::")[0]) for name in names)
        return replace(access, named=frozenset(file.resolve() for file in files))

    def locate(self, name: str) -> Path:
        """Return the path that `name` (a path or a file URI) means here, checked.

        Raises RefusedPathError when it is no file, or leads out of the roots.
        """
        return self.admit(Path(self._mapped(_local_path(name))))

    def admit(self, path: Path) -> Path:
        """Return `path` with all links resolved. Raises RefusedPathError outside the roots."""
        try:
            resolved = path.resolve()
        except (OSError, RuntimeError, ValueError) as error:
            message = f"the path {str(path)!r} cannot be resolved: {error}"
            raise RefusedPathError(message) from error
        below = any(resolved.is_relative_to(root) for root in self.roots)
        if self.roots and not below and resolved not in self.named:
            allowed = ", ".join(str(root) for root in self.roots)
            message = f"{resolved} is outside the roots; expected a path below {allowed}"
            raise RefusedPathError(message)
        _refuse_special(resolved)
        return resolved

    def _mapped(self, path: str) -> str:
        for prefix in sorted(self.root_map, key=len, reverse=True):
            here = self.root_map[prefix].rstrip("/")
            bare = prefix.rstrip("/")
            if path == bare or path.startswith(bare + "/"):
                return here + path[len(bare) :]
        return path


def _local_path(name: str) -> str:
    if "://" not in name and not name.startswith("file:"):
        return name
    parts = urlsplit(name)
    if parts.scheme != "file":
        message = f"got the address {name[:200]!r}; expected a path or a file:// URI"
        raise RefusedPathError(message)
    return unquote(parts.path)


def _refuse_special(path: Path) -> None:
    """Refuse pipes and devices, which would block or never end."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return  # not there yet: the reader waits for it
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        message = f"{path} is a pipe or a device; expected a regular file"
        raise RefusedPathError(message)
