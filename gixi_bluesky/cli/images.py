"""Images named on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from gixi_bluesky.config import Config

__all__ = ["first_image", "named_images"]


def first_image(config: Config, name: str) -> tuple[str, NDArray[Any]]:
    """Return what the first image of a file is called, and the image as it is read.

    name: as of `process`, FILE, FILE::DATASET or FILE::NUMBER
    Raises UnavailableError or RefusedPathError for what cannot or may not be read.
    """
    from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
    from gixi_bluesky.callbacks.images.detector_files import image_references
    from gixi_bluesky.callbacks.images.locations import FrameReader

    access = FileAccess.for_named(config.input, [name])
    label, reference = next(image_references(name, access))
    return label, FrameReader(access).read(reference)


def named_images(config: Config, names: Sequence[str]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield every image of some files, called as in `process`, as it is read.

    Raises UnavailableError or RefusedPathError for what cannot or may not be read.
    """
    from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
    from gixi_bluesky.callbacks.images.detector_files import image_references
    from gixi_bluesky.callbacks.images.locations import FrameReader

    access = FileAccess.for_named(config.input, names)
    reader = FrameReader(access)
    for name in names:
        for label, reference in image_references(name, access):
            yield label, reader.read(reference)
