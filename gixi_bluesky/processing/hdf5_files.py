"""Foreign HDF5 files, opened so that HDF5 itself never reads a file that was not admitted.

HDF5 follows external links, virtual sources and external storage by itself. It looks for a virtual
source at its place, beside the file and in the working directory of the process, and for external
storage in the working directory. Links are therefore followed here, one by one, external storage is
refused, and every place where HDF5 would look for a virtual source is checked at each opening.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the compression filters that detectors use

from gixi_bluesky.errors import FrameError, RefusedPathError, UnavailableError
from gixi_bluesky.provenance import require_regular

__all__ = ["Admit", "Hdf5File", "any_file", "below", "open_hdf5", "require_own"]

Admit = Callable[[Path], Path]
"""Returns a path with its links resolved; raises RefusedPathError for one that may not be read."""

_MAX_LINKS = 16
_MAX_DEPTH = 8
_MAX_SOURCES = 10_000  # virtual sources of one dataset, those of its sources counted in
_MAX_OBJECTS = 100_000  # of a file that is searched
_MAX_ATTRIBUTE_BYTES = 1 << 16
_PREFIXES = "HDF5_VDS_PREFIX"  # folders where HDF5 looks first


def any_file(path: Path) -> Path:
    """Admit every regular file that this process may read."""
    return path.resolve()


def below(folder: Path) -> Admit:
    """Return a function that admits files below a folder, links resolved."""
    home = folder.resolve()

    def admit(path: Path) -> Path:
        resolved = path.resolve()
        if resolved.is_relative_to(home):
            return resolved
        message = f"{resolved} is outside {home}"
        raise RefusedPathError(message)

    return admit


@contextmanager
def open_hdf5(path: Path, admit: Admit = any_file) -> Iterator[Hdf5File]:
    """Open a file for reading that its writer may still hold.

    admit: asked for every other file that a dataset needs
    Raises UnavailableError for what is not there (yet) or no HDF5 file, RefusedPathError for a
    pipe or a device.
    """
    with ExitStack() as files:
        yield Hdf5File(files.enter_context(_open(path)), admit, files)


def require_own(file: h5py.File, folder: Path) -> None:
    """Raise RefusedPathError unless an open file holds all that it shows.

    Links other than hard ones and external storage are refused; virtual sources must lie below
    `folder`.
    """
    file_of = Hdf5File(file, below(folder), ExitStack())
    for node in file_of.own_nodes():
        if isinstance(node, h5py.Dataset):
            file_of.check(node)
            continue
        for name in node if isinstance(node, h5py.Group) else ():
            if not isinstance(node.get(name, getlink=True), h5py.HardLink):
                message = f"{node.name.rstrip('/')}/{name} in {file.filename} is a link, which is "
                raise RefusedPathError(f"{message}not followed")


class Hdf5File:
    """An open file; what it gives may be read without opening a file that is not admitted."""

    def __init__(self, file: h5py.File, admit: Admit, files: ExitStack) -> None:
        self._file = file
        self._admit = admit
        self._files = files
        self._sources_left = _MAX_SOURCES

    def dataset(self, name: str) -> h5py.Dataset:
        """Return a dataset, after checking every file that its values are in.

        Raises UnavailableError when it is not there (yet), RefusedPathError when something leads
        to a file that is not admitted, FrameError when `name` is no dataset.
        """
        node = self.node(name)
        if not isinstance(node, h5py.Dataset):
            message = f"{name} in {self._file.filename} is a group; expected a dataset"
            raise FrameError(message)
        return node

    def node(self, name: str) -> Any:
        """Return a group or a dataset. Raises as `dataset` does."""
        node = self._find(self._file, name, external=True)
        if isinstance(node, h5py.Dataset):
            self.check(node)
        return node

    def check(self, dataset: h5py.Dataset) -> None:
        """Raise RefusedPathError if values of a dataset are in a file that is not admitted."""
        self._sources_left = _MAX_SOURCES
        self._check_storage(dataset, depth=0)

    def own_datasets(self) -> Iterator[h5py.Dataset]:
        """Yield the datasets in the file itself, without those that lead to refused files.

        Raises FrameError for a file of more objects than are searched.
        """
        for node in self.own_nodes():
            if isinstance(node, h5py.Dataset):
                try:
                    self.check(node)
                except RefusedPathError:
                    continue
                yield node

    def own_nodes(self) -> Iterator[Any]:
        """Yield the root, and each object of the file once; links are not followed.

        Raises FrameError for a file of more objects than are searched.
        """
        names: list[str] = []

        def visit(name: str) -> bool | None:
            names.append(name)
            return True if len(names) > _MAX_OBJECTS else None

        if self._file.visit(visit):
            message = f"{self._file.filename} holds more than {_MAX_OBJECTS} groups and datasets"
            raise FrameError(message)
        yield self._file["/"]
        for name in names:
            yield self._file[name]

    def child(self, group: h5py.Group, name: str) -> Any:
        """Return a member of a group, links followed. Raises as `dataset` does."""
        node = self._find(group, name, external=True)
        if isinstance(node, h5py.Dataset):
            self.check(node)
        return node

    def absent_sources(self, dataset: h5py.Dataset) -> list[str]:
        """Return the files of a virtual dataset that are not there; HDF5 fills their images."""
        if not dataset.is_virtual:
            return []
        here = Path(dataset.file.filename)
        names = {source.file_name.replace("%%", "%") for source in dataset.virtual_sources()}
        return sorted(
            name
            for name in names - {"."}
            if not any(os.path.lexists(place) for place in _places(here, name))
        )

    def attribute(self, node: Any, name: str) -> str:
        """Return a text attribute, empty if there is none or it is too long for a name."""
        if name not in node.attrs:
            return ""
        if node.attrs.get_id(name).get_storage_size() > _MAX_ATTRIBUTE_BYTES:
            return ""
        value = node.attrs[name]
        text = value if isinstance(value, bytes) else str(value).encode(errors="replace")
        return text.decode(errors="replace")

    def _find(self, start: Any, name: str, *, external: bool) -> Any:
        """Follow `name` from a group, link by link; external links only if `external`."""
        node: Any = start.file["/"] if name.startswith("/") else start
        here = start.file.filename
        parts, links = _parts(name), 0
        while parts:
            link = _link(node, parts.pop(0), name)
            if isinstance(link, _Hard):
                node = link.node
                continue
            links += 1
            if links > _MAX_LINKS:
                message = f"{name} in {here}: more than {_MAX_LINKS} links, or a circle"
                raise RefusedPathError(message)
            if isinstance(link, h5py.ExternalLink):
                if not external:
                    message = f"{name} in {here}: a virtual source behind an external link"
                    raise RefusedPathError(message)
                target = self._admit(_beside(node.file.filename, link.filename))
                node = self._files.enter_context(_open(target))["/"]
            elif link.path.startswith("/"):
                node = node.file["/"]
            parts = _parts(link.path) + parts
        return node

    def _check_storage(self, dataset: h5py.Dataset, depth: int) -> None:
        """Admit every other file that holds values of `dataset`."""
        here = dataset.file.filename
        if dataset.external:
            message = (
                f"{dataset.name} in {here} has its values in other files (external storage), which "
                "are not read"
            )
            raise RefusedPathError(message)
        if not dataset.is_virtual:
            return
        self._sources_left -= dataset.id.get_create_plist().get_virtual_count()
        if depth > _MAX_DEPTH or self._sources_left < 0:
            message = (
                f"{dataset.name} in {here}: virtual datasets nested deeper than {_MAX_DEPTH}, or "
                f"of more than {_MAX_SOURCES} sources"
            )
            raise RefusedPathError(message)
        for file_name, name in {(s.file_name, s.dset_name) for s in dataset.virtual_sources()}:
            self._check_source(dataset, file_name, name, depth)

    def _check_source(self, dataset: h5py.Dataset, file_name: str, name: str, depth: int) -> None:
        here = dataset.file.filename
        if "%" in (file_name + name).replace("%%", ""):
            message = f"{here} names its virtual sources by the pattern {file_name!r} {name!r}"
            raise RefusedPathError(f"{message}; only plain names can be checked")
        file_name, name = file_name.replace("%%", "%"), name.replace("%%", "%")
        if file_name == ".":
            self._check_target(dataset.file, name, depth)
            return
        # Which of them HDF5 opens depends on the state of each, so all that are there must do.
        for place in filter(os.path.lexists, _places(Path(here), file_name)):
            try:
                admitted = self._admit(place)
            except RefusedPathError as error:
                message = f"{dataset.name} in {here} leads out: {error}"
                raise RefusedPathError(message) from error
            with suppress(UnavailableError), _open(admitted) as source:
                self._check_target(source, name, depth)

    def _check_target(self, source: h5py.File, name: str, depth: int) -> None:
        try:
            target = self._find(source, name, external=False)
        except UnavailableError:
            return  # HDF5 fills what is not there
        if isinstance(target, h5py.Dataset):
            self._check_storage(target, depth + 1)


class _Hard:
    def __init__(self, node: Any) -> None:
        self.node = node


def _link(node: Any, part: str, name: str) -> Any:
    """Return the kind of link of `part` in a group: _Hard, SoftLink or ExternalLink."""
    try:
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if isinstance(link, h5py.HardLink):
            return _Hard(node[part])
    except (TypeError, KeyError, ValueError, RuntimeError) as error:
        message = f"{name!r} in {node.file.filename} cannot be followed: {error}"
        raise RefusedPathError(message) from error
    if link is None:
        message = f"{node.file.filename} has no dataset {name} (yet)"
        raise UnavailableError(message)
    return link


def _open(path: Path) -> Any:
    """Open for reading; the detector's writer may hold the file, in SWMR mode or not."""
    problem: OSError | None = None
    try:
        require_regular(path)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EISDIR):  # not a file at all
            message = f"{path} {error.strerror}"
            raise RefusedPathError(message) from error
        problem = error
    swmr = {"swmr": True, "libver": "latest"}
    # Without locks the detector is never kept out; a writer in this very process insists on them.
    for mode in ({"locking": False, **swmr}, swmr, {"locking": False}) if problem is None else ():
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


def _places(here: Path, name: str) -> list[Path]:
    """Return where HDF5 looks for a virtual source, in its order."""
    tail = Path(name).name if Path(name).is_absolute() else name
    prefixes = os.environ.get(_PREFIXES, "").replace("${ORIGIN}", str(here.parent)).split(":")
    return [
        *((Path(name),) if Path(name).is_absolute() else ()),
        *(Path(prefix) / tail for prefix in prefixes if prefix),
        here.parent / tail,
        Path.cwd() / tail,
    ]
