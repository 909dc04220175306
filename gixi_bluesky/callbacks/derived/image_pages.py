"""The polar images of a derived run inside event pages, for a server that cannot see our files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gixi_bluesky.processes.clock import Clock
from gixi_bluesky.tiled_adapters.store.composer import Document, RunComposer

__all__ = ["ImagePages"]

_IMAGES_PER_PAGE = 8


class ImagePages:
    """Composes the documents that carry the images themselves, a few to a page."""

    def __init__(self, composer: RunComposer, clock: Clock) -> None:
        self._clock = clock
        self._composer = composer
        self._described = False

    def documents(self, images: Mapping[int, Any]) -> list[Document]:
        """Return the documents of these images, by row in ascending order."""
        documents: list[Document] = []
        pages: list[dict[int, Any]] = []
        for row, image in images.items():
            if not pages or row - 1 not in pages[-1] or len(pages[-1]) == _IMAGES_PER_PAGE:
                pages.append({})
            pages[-1][row] = image
        if images and not self._described:
            shape = next(iter(images.values())).shape
            descriptor = self._composer.image_descriptor(*shape, external=False)
            documents.append(("descriptor", descriptor))
            self._described = True
        for page in pages:
            doc = self._composer.image_page(min(page), list(page.values()), self._clock.wall())
            documents.append(("event_page", doc))
        return documents
