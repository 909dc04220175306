"""Opening a dataset in a foreign HDF5 file without following a link out of the roots."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the compression filters that detectors use

from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
from gixi_bluesky.errors import FrameError, RefusedPathError, UnavailableError

__all__ = ["DatasetOpener"]

_MAX_LINKS = 16
_MAX_DEPTH = 8
_MAX_REMEMBERED = 100_000


class DatasetOpener:
    """Opens datasets of HDF5 files that may still be written.

    Every soft and external link, virtual source and external storage file on the way is admitted
    by `access` before anything is read through it; files checked once are remembered until they
    change.
    """

    def __init__(self, access: FileAccess) -> None:
        self._access = access
        self._checked: set[tuple[str, int, str]] = set()

    @contextmanager
    def open(self, path: Path, name: str) -> Iterator[Any]:
        """Open the dataset `name` of the file `path`.

        Raises UnavailableError when it is not there (yet), RefusedPathError when something leads
        out of the roots, FrameError when `name` is no dataset.
        """
        with ExitStack() as files:
            dataset = self._find(files.enter_context(_open(path)), name, files)
            if not isinstance(dataset, h5py.Dataset):
                message = f"{name} in {path} is a group; expected a dataset"
                raise FrameError(message)
            if self._access.roots:
                self._check_storage(dataset, depth=0)
            yield dataset

    def _find(self, file: Any, name: str, files: ExitStack) -> Any:
        """Follow `name` link by link, so that HDF5 itself never follows one unchecked."""
        node: Any = file["/"]
        parts, links = _parts(name), 0
        while parts:
            part = parts.pop(0)
            link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
            if link is None:
                message = f"{node.file.filename} has no dataset {name} (yet)"
                raise UnavailableError(message)
            if isinstance(link, h5py.HardLink):
                node = node[part]
                continue
            links += 1
            if links > _MAX_LINKS:
                message = f"{name} in {file.filename}: more than {_MAX_LINKS} links, or a circle"
                raise RefusedPathError(message)
            if isinstance(link, h5py.ExternalLink):
                target = self._access.admit(_beside(node.file.filename, link.filename))
                node = files.enter_context(_open(target))["/"]
            elif link.path.startswith("/"):
                node = node.file["/"]
            parts = _parts(link.path) + parts
        return node

    def _check_storage(self, dataset: Any, depth: int) -> None:
        """Admit every other file that holds values of `dataset`."""
        here = dataset.file.filename
        if depth > _MAX_DEPTH:
            message = f"{dataset.name} in {here}: virtual datasets nested deeper than {_MAX_DEPTH}"
            raise RefusedPathError(message)
        key = (here, Path(here).stat().st_mtime_ns, dataset.name)
        if key in self._checked:
            return
        for name, *_ in dataset.external or ():
            self._access.admit(_beside(here, name))
        if dataset.is_virtual:
            for file_name, name in {(s.file_name, s.dset_name) for s in dataset.virtual_sources()}:
                self._check_source(dataset, file_name, name, depth)
        if len(self._checked) >= _MAX_REMEMBERED:
            self._checked.clear()
        self._checked.add(key)

    def _check_source(self, dataset: Any, file_name: str, name: str, depth: int) -> None:
        here = dataset.file.filename
        if "%" in file_name.replace("%%", ""):
            message = f"{here} names its virtual sources by the pattern {file_name!r}"
            raise RefusedPathError(f"{message}; only plain names can be checked against the roots")
        with ExitStack() as files:
            try:
                source = dataset.file
                if file_name != ".":
                    admitted = self._access.admit(_beside(here, file_name))
                    source = files.enter_context(_open(admitted))
                target = self._find(source, name, files)
            except UnavailableError:
                return  # HDF5 fills what is not there
            if isinstance(target, h5py.Dataset):
                self._check_storage(target, depth + 1)


def _open(path: Path) -> Any:
    """Open for reading; the detector's writer may hold the file, in SWMR mode or not."""
    problem: OSError | None = None
    swmr = {"swmr": True, "libver": "latest"}
    # Without locks the detector is never kept out; a writer in this very process insists on them.
    for mode in ({"locking": False, **swmr}, swmr, {"locking": False}):
        try:
            return h5py.File(path, "r", **mode)
        except OSError as error:
            problem = error
    message = f"{path} is not there, or no readable HDF5 file (yet): {problem}"
    raise UnavailableError(message) from problem


def _parts(name: str) -> list[str]:
    return [part for part in PurePosixPath(name).parts if part not in {"/", "."}]


def _beside(here: str, name: str | bytes) -> Path:
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    return Path(here).parent / text
