"""The stream documents of the arrays in the files of a derived run."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gixi_bluesky.processes.clock import Clock
from gixi_bluesky.tiled_adapters.files.requests import Appended, Finished
from gixi_bluesky.tiled_adapters.frame_arrays import FrameArray, StoredRows
from gixi_bluesky.tiled_adapters.schema import IMAGE_DATASET, IMAGES
from gixi_bluesky.tiled_adapters.store.composer import Document, RunComposer

__all__ = ["Announcements"]

# Each array costs Tiled a request, and a run has two for each cut.
_CURVES_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class _Files:
    """The file of a run, and the one that holds its images."""

    path: Path
    images: Path

    @property
    def of_images(self) -> tuple[str, bool]:
        """URI of the images, and whether it is read while it grows."""
        return f"file://localhost{self.images}", self.images.suffix == ".h5"

    @property
    def of_curves(self) -> tuple[str, bool]:
        """URI of the cuts, and whether it is read while it grows."""
        return f"file://localhost{self.path}", self.path.suffix == ".h5"


class Announcements:
    """Composes stream_resource and stream_datum documents, each row announced once for a file.

    Images are announced with every flush, cuts at most every two seconds.

    polar: whether polar images are stored
    """

    def __init__(self, composer: RunComposer, clock: Clock, *, polar: bool) -> None:
        self._composer = composer
        self._clock = clock
        self._polar = polar
        self._path: Path | None = None
        self._rows: dict[str, int] = {}
        self._curves_at = 0.0

    def part(self, part: Appended, *, everything: bool = False) -> list[Document]:
        """Return the documents of the rows of a part that were not announced before.

        everything: cuts, too, however little time has passed
        """
        due = everything or self._clock.monotonic() >= self._curves_at
        if due:
            self._curves_at = self._clock.monotonic() + _CURVES_EVERY_S
        files = _Files(part.part, part.part)
        return self._documents(files, part.rows, part.shape, part.arrays, curves=due)

    def finished(self, finished: Finished) -> list[Document]:
        """Return the documents of all rows of a finished, self-contained file."""
        files = _Files(finished.path, finished.path)
        return self._documents(files, finished.rows, finished.shape, finished.arrays, curves=True)

    def stored(
        self,
        path: Path,
        images: Path,
        rows: int,
        shape: tuple[int, int],
        arrays: Sequence[StoredRows],
    ) -> list[Document]:
        """Return the documents of all rows of a run that ended earlier.

        path: of the finished file or the newest part; images: of the file that holds the images
        rows, shape: of the polar images; arrays: the others
        """
        files = _Files(path, images)
        return self._documents(files, rows, shape, arrays, curves=True)

    def _documents(
        self,
        files: _Files,
        rows: int,
        shape: tuple[int, int],
        arrays: Sequence[StoredRows],
        *,
        curves: bool,
    ) -> list[Document]:
        documents: list[Document] = []
        if files.path != self._path:
            self._path, self._rows = files.path, {}
            documents += self._descriptors(shape, rows, arrays)
        if self._polar and rows > self._rows.get(IMAGE_DATASET, 0):
            uri, swmr = files.of_images
            chunk = (1, *shape)
            resource = self._composer.image_resource(uri, IMAGE_DATASET, chunk, swmr=swmr)
            documents += self._extended(IMAGES, IMAGE_DATASET, resource, rows)
        for one in arrays:
            array = one.array
            if one.rows > self._rows.get(array.dataset, 0) and (array.is_image or curves):
                uri, swmr = files.of_images if array.is_image else files.of_curves
                resource = self._composer.array_resource(uri, array, swmr=swmr)
                documents += self._extended(array.stream, array.dataset, resource, one.rows)
        return documents

    def _descriptors(
        self, shape: tuple[int, int], rows: int, arrays: Sequence[StoredRows]
    ) -> list[Document]:
        by_stream: dict[str, list[FrameArray]] = {
            stream: list(group)
            for stream, group in itertools.groupby(
                (one.array for one in arrays), lambda array: array.stream
            )
        }
        documents: list[Document] = []
        polar = shape if self._polar else None
        if polar and IMAGES not in by_stream and rows:
            documents.append(("descriptor", self._composer.image_descriptor(*polar)))
        for stream, group in by_stream.items():
            beside = polar if stream == IMAGES else None
            documents.append(("descriptor", self._composer.array_descriptor(group, beside)))
        return documents

    def _extended(
        self, stream: str, dataset: str, resource: dict[str, object], rows: int
    ) -> list[Document]:
        documents: list[Document] = []
        before = self._rows.get(dataset, 0)
        if not before:
            documents.append(("stream_resource", resource))
        uid = str(resource["uid"])
        datum = self._composer.array_datum(stream, uid, before, rows)
        self._rows[dataset] = rows
        return [*documents, ("stream_datum", datum)]
