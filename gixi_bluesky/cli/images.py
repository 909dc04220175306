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
    """Return the images that a name refers to; prints the dataset chosen in an HDF5 file.

    Raises FrameError, UnavailableError or RefusedPathError for a file that cannot or may not be
    read.
    """
    from gixi_bluesky.callbacks.images.detector_files import open_named

    found = open_named(name, access)
    for note in found.notes:
        say(f"{name}: {note}")
    return found


def first_image(config: Config, name: str) -> tuple[str, NDArray[Any]]:
    """Return the name of the first image of a file, and the image as stored.

    name: as of `process`, FILE, FILE::DATASET or FILE::NUMBER
    Raises UnavailableError or RefusedPathError for what cannot or may not be read.
    """
    from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
    from gixi_bluesky.callbacks.images.locations import FrameReader

    access = FileAccess.for_named(config.input, [name])
    label, reference = next(announced(name, access).references())
    return label, FrameReader(access).read(reference)


def named_images(config: Config, names: Sequence[str]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the name, as in `process`, and the array of every image of some files.

    Raises UnavailableError or RefusedPathError for what cannot or may not be read.
    """
    from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
    from gixi_bluesky.callbacks.images.locations import FrameReader

    access = FileAccess.for_named(config.input, names)
    reader = FrameReader(access)
    for name in names:
        for label, reference in announced(name, access).references():
            yield label, reader.read(reference)
