"""The datasets of an HDF5 file that are its images, by the rules of NeXus and Dectris.

Masks, flat fields and what else belongs to the detector are never images, whatever their size and
whatever leads to them. Of the rest, the best place wins: the signal of the default plot; the signal
of an NXdata group, /entry/data/data and the data_000001, data_000002, … of an Eiger; the data of a
detector; any other place. Averages and thumbnails come after all of these. Two datasets in places
of one rank are refused, as the user has to choose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import h5py

from gixi_bluesky.callbacks.images.hdf5_candidates import (
    AbsentFilesError,
    ImageCandidate,
    ImageSearch,
    distinct,
    is_images,
    link_target,
)
from gixi_bluesky.errors import FrameError, RefusedPathError, UnavailableError
from gixi_bluesky.processing.hdf5_files import Admit, Hdf5File, open_hdf5

__all__ = ["AbsentFilesError", "Hdf5Images", "ImageDataset", "find_images"]

_SHOWN = 10
_PROGRAM = "/entry/process/program"  # in result files


@dataclass(frozen=True, slots=True)
class ImageDataset:
    """A dataset (*leading, rows, columns) of images, and the files that hold its values."""

    name: str
    leading: tuple[int, ...]
    rows_columns: tuple[int, int]
    files: frozenset[Path] = frozenset()

    @property
    def n_images(self) -> int:
        """Number of images."""
        return math.prod(self.leading)


@dataclass(frozen=True, slots=True)
class Hdf5Images:
    """The images of a file, in the order of their datasets.

    absent: datasets of the same series whose files are not there
    """

    datasets: tuple[ImageDataset, ...]
    absent: tuple[str, ...] = ()


def find_images(path: Path, admit: Admit, name: str = "") -> Hdf5Images:
    """Return the datasets that hold the images of a file.

    name: a dataset, or the group to look below; empty = the whole file
    Raises FrameError where there is none or the user has to choose, UnavailableError where files
    that hold the images are absent, RefusedPathError where they may not be read.
    """
    with open_hdf5(path, admit) as file:
        node = file.node(name or "/")
        if isinstance(node, h5py.Dataset):
            if not is_images(node):
                raise FrameError(_no_images(path, name, []))
            return Hdf5Images((_described(file, name, node),))
        if not name and _is_result(file):
            message = f"{path} is a result of this package; expected images of a detector"
            raise FrameError(message)
        chosen = _chosen(path, file, node, "/" + name.strip("/"))
        if chosen.identity is not None:
            (only,) = chosen.names
            return Hdf5Images((_described(file, only, file.dataset(only)),))
    return _series(path, admit, chosen.names)


def _is_result(file: Hdf5File) -> bool:
    try:
        program = file.dataset(_PROGRAM)
    except (FrameError, RefusedPathError):
        return False
    return program.shape == () and program[()] == b"gixi_bluesky"


def _chosen(path: Path, file: Hdf5File, top: h5py.Group, top_name: str) -> ImageCandidate:
    search = ImageSearch(file)
    best = distinct(search.candidates(top, top_name))
    if not best:
        raise FrameError(_no_images(path, "", search.left_out))
    for one in best:
        if one.problem is not None:
            raise one.problem
    if len(best) > 1:
        names = ", ".join(one.names[0] for one in best[:_SHOWN])
        more = f" and {len(best) - _SHOWN} more" if len(best) > _SHOWN else ""
        message = (
            f"{path} holds images in {len(best)} places ({names}{more}); name the one to take as "
            f"FILE::DATASET, such as {path.name}::{best[0].names[0]}"
        )
        raise FrameError(message)
    return best[0]


def _series(path: Path, admit: Admit, names: tuple[str, ...]) -> Hdf5Images:
    """Describe the data files of an Eiger, opened one at a time as there may be many."""
    found, absent, files = [], [], set()
    for name in names:
        with open_hdf5(path, admit) as file:
            try:
                node = file.dataset(name)
            except UnavailableError as error:
                absent.append(name)
                group, _, member = name.rpartition("/")
                files |= link_target(file.node(group or "/"), member)
                problem = error
                continue
            if not is_images(node):
                raise FrameError(_no_images(path, name, []))
            found.append(_described(file, name, node))
    if not found:
        message = f"none of the {len(names)} datasets of images of {path} can be read: {problem}"
        raise AbsentFilesError(message, frozenset(files))
    sizes = {one.rows_columns for one in found}
    if len(sizes) > 1:
        message = f"{path} holds images of several sizes {sorted(sizes)}; name one as FILE::DATASET"
        raise FrameError(message)
    return Hdf5Images(tuple(found), tuple(absent))


def _described(file: Hdf5File, name: str, node: h5py.Dataset) -> ImageDataset:
    here = Path(node.file.filename)
    if absent := file.absent_sources(node):
        message = f"{name} in {here}: its images are in {absent[0]}, which is not there"
        raise AbsentFilesError(message, frozenset((here.parent / one).resolve() for one in absent))
    files = {here}
    if node.is_virtual:
        files = {
            here if one.file_name == "." else here.parent / one.file_name
            for one in node.virtual_sources()
        }
    rows, columns = node.shape[-2:]
    return ImageDataset(
        name,
        tuple(int(n) for n in node.shape[:-2]),
        (int(rows), int(columns)),
        frozenset(one.resolve() for one in files),
    )


def _no_images(path: Path, name: str, left_out: list[str]) -> str:
    message = (
        f"{path} has no images at {name or 'any place'}; expected a dataset of shape (rows, "
        "columns) or (n, rows, columns); name it as FILE::/path/to/dataset"
    )
    if left_out:
        names = ", ".join(left_out[:_SHOWN])
        message += f" (calibrations are not taken for images: {names})"
    return message
