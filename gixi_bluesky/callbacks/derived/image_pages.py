"""The arrays of a derived run inside event pages, for a server that cannot see our files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gixi_bluesky.processes.clock import Clock
from gixi_bluesky.tiled_adapters.frame_arrays import FrameArray
from gixi_bluesky.tiled_adapters.schema import IMAGE_KEY, IMAGES
from gixi_bluesky.tiled_adapters.store.composer import Document, RunComposer

__all__ = ["ImagePages"]

_IMAGES_PER_PAGE = 8
_CURVES_PER_PAGE = 200


class ImagePages:
    """Composes the documents that carry images and cuts themselves, some rows to a page.

    polar: whether polar images are stored
    """

    def __init__(self, composer: RunComposer, clock: Clock, *, polar: bool = True) -> None:
        self._clock = clock
        self._composer = composer
        self._polar = polar
        self._described: set[str] = set()

    def documents(
        self,
        images: Mapping[int, Any],
        arrays: Sequence[FrameArray] = (),
        rows: Mapping[str, Mapping[int, Any]] | None = None,
    ) -> list[Document]:
        """Return the documents of polar images, by row, and of other arrays, by dataset and row.

        Rows are given in ascending order.
        """
        documents: list[Document] = []
        shape = next((image.shape for image in images.values()), None)
        for stream in dict.fromkeys([IMAGES, *(array.stream for array in arrays)]):
            same = [array for array in arrays if array.stream == stream]
            polar = shape if stream == IMAGES and self._polar else None
            waits = stream == IMAGES and self._polar and shape is None
            if stream in self._described or waits or not (same or polar):
                continue
            self._described.add(stream)
            documents.append(("descriptor", self._descriptor(same, polar)))
        documents += self._pages(IMAGES, IMAGE_KEY, images, _IMAGES_PER_PAGE)
        for array in arrays:
            if array.stream in self._described:
                at_most = _IMAGES_PER_PAGE if array.is_image else _CURVES_PER_PAGE
                some = (rows or {}).get(array.dataset, {})
                documents += self._pages(array.stream, array.key, some, at_most)
        return documents

    def _descriptor(
        self, arrays: Sequence[FrameArray], polar: tuple[int, int] | None
    ) -> dict[str, Any]:
        if not arrays and polar is not None:
            return self._composer.image_descriptor(*polar, external=False)
        return self._composer.array_descriptor(arrays, polar, external=False)

    def _pages(
        self, stream: str, key: str, rows: Mapping[int, Any], at_most: int
    ) -> list[Document]:
        pages: list[dict[int, Any]] = []
        for row, values in rows.items():
            if not pages or row - 1 not in pages[-1] or len(pages[-1]) == at_most:
                pages.append({})
            pages[-1][row] = values
        now = self._clock.wall()
        return [
            (
                "event_page",
                self._composer.array_page(stream, min(page), {key: list(page.values())}, now),
            )
            for page in pages
        ]
