"""Polar images of the frames of a run, kept on disk until its stop."""

from __future__ import annotations

import tempfile
import weakref

import numpy as np
from numpy.typing import NDArray

__all__ = ["WorkingImages"]

_MOST_BYTES = 4 << 30


class WorkingImages:
    """An unnamed temporary file of images by frame; it disappears with the process.

    most_bytes: beyond it, `put` keeps nothing
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
        self._close = weakref.finalize(self, self._file.close)
        self._places: dict[int, tuple[int, tuple[int, ...]]] = {}
        self._end = 0

    def put(self, frame: int, image: NDArray[np.float32]) -> bool:
        """Keep an image; return False where there is no room for it. Raises OSError."""
        data = np.ascontiguousarray(image, np.float32)
        if self._end + data.nbytes > self._most_bytes:
            return False
        self._file.seek(self._end)
        self._file.write(data.tobytes())
        self._places[frame] = (self._end, data.shape)
        self._end += data.nbytes
        return True

    def get(self, frame: int) -> NDArray[np.float32] | None:
        """Return the image of a frame, None where it was not kept. Raises OSError."""
        place = self._places.get(frame)
        if place is None:
            return None
        offset, shape = place
        self._file.seek(offset)
        size = int(np.prod(shape)) * 4
        return np.frombuffer(self._file.read(size), np.float32).reshape(shape)

    def close(self) -> None:
        """Free the disk."""
        self._close()
