"""Looking through an HDF5 file for datasets that may be its images, and ranking them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import h5py

from gixi_bluesky.errors import FrameError, RefusedPathError, UnavailableError
from gixi_bluesky.processing.hdf5_files import Hdf5File

__all__ = [
    "AbsentFilesError",
    "ImageCandidate",
    "ImageSearch",
    "distinct",
    "is_calibration",
    "is_images",
    "link_target",
]

_CALIBRATIONS = re.compile(
    r"bad_?pixels?|background|calibrations?|darks?|dark_?(current|field)|detectorspecific"
    r"|efficiency|errors?|flats?|flat_?field|gain|masks?|pedestal|pixelmask|trimbits?"
    r"|uncertaint(y|ies)|variance|weights"
)
_SUMMARIES = re.compile(
    r"averaged?|integrated|maximum|mean|median|minimum|preview|projection|std|sum|summed|thumb"
    r"|thumbnails?|total"
)
_SERIES = re.compile(r"data_\d{6,}")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_SIGNAL, _PLOTTED, _DETECTOR, _ELSEWHERE, _SUMMARY = range(5)
_PLOTTED_PLACES = ("/entry/data/data",)
_MAX_DEFAULTS = 8  # groups that name the next one as their default
_MAX_OBJECTS = 20_000
_SLIMMEST = 32  # rows to columns or back, from which on a dataset holds spectra
_FEWEST_ROWS = 5  # below it are channels of a spectrometer, or colours


class AbsentFilesError(UnavailableError):
    """The images of a file are in other files, of which some or all are not there (yet)."""

    def __init__(self, message: str, files: frozenset[Path]) -> None:
        super().__init__(message)
        self.files = files


@dataclass(frozen=True, slots=True)
class ImageCandidate:
    """A place that may hold the images; `names` are several for the files of an Eiger.

    identity: equal for two names of one dataset
    sources: (file, dataset) of the values of a virtual dataset
    problem: why the dataset cannot be looked at
    """

    names: tuple[str, ...]
    rank: int
    identity: tuple[int, int] | None = None
    place: tuple[Path, str] | None = None
    sources: frozenset[tuple[Path, str]] = frozenset()
    problem: FrameError | RefusedPathError | None = None

    @property
    def is_own_name(self) -> bool:
        """True if the first name is that of the dataset in its file, and not one of a link."""
        return self.place is not None and self.names[0] == self.place[1]


@dataclass
class ImageSearch:
    """Looks through a file, links followed; `left_out` are images that are calibrations."""

    file: Hdf5File
    left_out: list[str] = field(default_factory=list)
    _seen: set[tuple[int, int]] = field(default_factory=set)
    _objects: int = 0

    def candidates(self, top: h5py.Group, top_name: str) -> list[ImageCandidate]:
        """Return what may be the images below a group, for `distinct`."""
        default = self._default_signal(top, top_name)
        found: list[ImageCandidate] = []
        waiting = [(top_name, top)]
        while waiting:
            name, group = waiting.pop(0)
            if (identity := _identity(group)) in self._seen:
                continue
            self._seen.add(identity)
            found += self._in_group(name, group, default, waiting)
        return found

    def _in_group(
        self, name: str, group: h5py.Group, default: str, groups: list[tuple[str, h5py.Group]]
    ) -> Iterator[ImageCandidate]:
        series, whole = [], False
        for member in group:
            self._objects += 1
            if self._objects > _MAX_OBJECTS:
                message = f"{group.file.filename} holds more than {_MAX_OBJECTS} groups, datasets"
                raise FrameError(f"{message} and links; name the images as FILE::DATASET")
            full = f"{name.rstrip('/')}/{member}"
            if _in_series(group, member):
                series.append(full)
                continue
            rank = self._rank(full, group, default)
            try:
                node = self.file.child(group, member)
            except (RefusedPathError, UnavailableError) as error:
                # What cannot be looked at may be the images; links within a file often dangle.
                files = link_target(group, member)
                if not (files or rank < _DETECTOR) or is_calibration(full):
                    continue
                absent = AbsentFilesError(str(error), frozenset(files)) if files else error
                refused = isinstance(error, RefusedPathError)
                yield ImageCandidate((full,), rank, problem=error if refused else absent)
                continue
            if isinstance(node, h5py.Group):
                groups.append((full, node))
            elif is_images(node):
                if is_calibration(full) or is_calibration(str(node.name)):
                    self.left_out.append(full)
                    continue
                whole |= member == "data"
                if self.file.attribute(node, "signal") == "1":  # before NeXus had `default`
                    rank = min(rank, _PLOTTED)
                yield self._candidate(full, rank, node)
        if series and not whole and not is_calibration(name):
            names = tuple(sorted(series, key=lambda one: int(one.rpartition("_")[2])))
            rank = _SIGNAL if default in names else _PLOTTED
            yield ImageCandidate(names, _SUMMARY if _has_word(name, _SUMMARIES) else rank)

    def _candidate(self, name: str, rank: int, node: h5py.Dataset) -> ImageCandidate:
        here = Path(node.file.filename).resolve()
        sources = node.virtual_sources() if node.is_virtual else ()
        return ImageCandidate(
            (name,),
            rank,
            _identity(node),
            (here, str(node.name)),
            frozenset(
                (
                    here if one.file_name == "." else (here.parent / one.file_name).resolve(),
                    "/" + one.dset_name.strip("/"),
                )
                for one in sources
            ),
        )

    def _rank(self, name: str, group: h5py.Group, default: str) -> int:
        if _has_word(name, _SUMMARIES):
            return _SUMMARY
        if name == default:
            return _SIGNAL
        member = name.rpartition("/")[2]
        kind = self.file.attribute(group, "NX_class")
        signal = self.file.attribute(group, "signal")
        if name in _PLOTTED_PLACES or (kind == "NXdata" and member == (signal or "data")):
            return _PLOTTED
        if member == "data" and (kind == "NXdetector" or "detector" in name):
            return _DETECTOR
        return _ELSEWHERE

    def _default_signal(self, group: h5py.Group, name: str) -> str:
        """Return the path of the signal that a group names as its default plot, empty if none."""
        for _ in range(_MAX_DEFAULTS):
            default = self.file.attribute(group, "default")
            if not default:
                signal = self.file.attribute(group, "signal")
                return f"{name.rstrip('/')}/{signal}" if signal else ""
            try:
                node = self.file.child(group, default)
            except (RefusedPathError, UnavailableError):
                return ""
            name = default if default.startswith("/") else f"{name.rstrip('/')}/{default}"
            if not isinstance(node, h5py.Group):
                return name
            group = node
        return ""


def distinct(candidates: list[ImageCandidate]) -> list[ImageCandidate]:
    """Return those of the best rank, each dataset once and without parts of others."""
    best = min((one.rank for one in candidates), default=0)
    ranked = [one for one in candidates if one.rank == best]
    parts = {source for one in ranked for source in one.sources}
    by_identity: dict[object, ImageCandidate] = {}
    # A name that is no link goes first.
    for one in sorted(ranked, key=lambda one: one.place is not None and not one.is_own_name):
        if one.place not in parts:
            by_identity.setdefault(one.identity or one.names, one)
    return list(by_identity.values())


def is_calibration(name: str) -> bool:
    """Return whether a path within a file names what belongs to a detector, such as its mask."""
    return _has_word(name, _CALIBRATIONS)


def link_target(group: h5py.Group, member: str) -> set[Path]:
    """Return the file that an external link leads to, none for another link."""
    link = group.get(member, getlink=True)
    if not isinstance(link, h5py.ExternalLink):
        return set()
    return {(Path(group.file.filename).parent / link.filename).resolve()}


def is_images(dataset: Any) -> bool:
    """Return whether a dataset has the shape and the type of images."""
    if not isinstance(dataset, h5py.Dataset) or dataset.ndim < 2:
        return False
    short, long = sorted(dataset.shape[-2:])
    return bool(dataset.dtype.kind in "buif" and short >= _FEWEST_ROWS and long < _SLIMMEST * short)


def _in_series(group: h5py.Group, member: str) -> bool:
    if not _SERIES.fullmatch(member):
        return False
    link = group.get(member, getlink=True)
    if isinstance(link, h5py.HardLink):
        return group.get(member, getclass=True) is h5py.Dataset and is_images(group[member])
    return isinstance(link, h5py.ExternalLink)


def _has_word(name: str, words: re.Pattern[str]) -> bool:
    parts = PurePosixPath(name).parts
    found = {re.sub(r"[^a-z]", "", part.lower()) for part in parts}
    found |= {word.lower() for part in parts for word in _WORD.findall(part)}
    return any(words.fullmatch(word) for word in found)


def _identity(node: Any) -> tuple[int, int]:
    info = h5py.h5o.get_info(node.id)
    return int(info.fileno), int(info.addr)
