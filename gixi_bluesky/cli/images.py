"""Images named on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gixi_bluesky.cli.console import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
    from gixi_bluesky.callbacks.images.detector_files import NamedImages
    from gixi_bluesky.config import Config

__all__ = ["announced", "first_image", "named_images"]


def announced(name: str, access: FileAccess) -> NamedImages:
    """Look up what a name means, and say on stderr which dataset of an HDF5 file was taken.

    Raises FrameError, UnavailableError or RefusedPathError for what cannot or may not be read.
    """
    from gixi_bluesky.callbacks.images.detector_files import open_named

    found = open_named(name, access)
    for note in found.notes:
        say(f"{name}: {note}")
    return found


def first_image(config: Config, name: str) -> tuple[str, NDArray[Any]]:
    """Return what the first image of a file is called, and the image as it is read.

    name: as of `process`, FILE, FILE::DATASET or FILE::NUMBER
    Raises UnavailableError or RefusedPathError for what cannot or may not be read.
    """
    from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
    from gixi_bluesky.callbacks.images.locations import FrameReader

    access = FileAccess.for_named(config.input, [name])
    label, reference = next(announced(name, access).references())
    return label, FrameReader(access).read(reference)


def named_images(config: Config, names: Sequence[str]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield every image of some files, called as in `process`, as it is read.

    Raises UnavailableError or RefusedPathError for what cannot or may not be read.
    """
    from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
    from gixi_bluesky.callbacks.images.locations import FrameReader

    access = FileAccess.for_named(config.input, names)
    reader = FrameReader(access)
    for name in names:
        for label, reference in announced(name, access).references():
            yield label, reader.read(reference)
