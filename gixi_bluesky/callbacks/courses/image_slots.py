"""Polar images of the frames of a run, kept on disk until its stop."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_IMAGE_BYTES", "ImageSlots"]

MOST_IMAGE_BYTES = 4 << 30
_RING = 32  # slots used in turn when the file is full


class ImageSlots:
    """Places for images of one shape in a file; when it is full, the latest ones stay.

    descriptor: of the file, which is left open
    most_bytes: that images may take for good; a few more are used in turn
    """

    def __init__(
        self, descriptor: int, shape: tuple[int, int], most_bytes: int = MOST_IMAGE_BYTES
    ) -> None:
        self._descriptor = descriptor
        self._shape = shape
        self._size = 8 + shape[0] * shape[1] * 4
        self._kept = most_bytes // self._size
        self._used = 0

    def put(self, frame: int, image: NDArray[np.float32]) -> int:
        """Keep an image and return its slot, -1 for one of another shape. Raises OSError."""
        if image.shape != self._shape:
            return -1
        slot = self._used
        if slot >= self._kept:
            slot = self._kept + (slot - self._kept) % _RING
        data = np.ascontiguousarray(image, np.float32)
        # The number is written last: an image that is being replaced has none.
        self._write(_number(-1), slot, 0)
        self._write(memoryview(data.data).cast("B"), slot, 8)
        self._write(_number(frame), slot, 0)
        self._used += 1
        return slot

    def get(self, frame: int, slot: int) -> NDArray[np.float32] | None:
        """Return the image of a frame, None where its slot has another one by now."""
        if slot < 0:
            return None
        offset = slot * self._size
        data = os.pread(self._descriptor, self._size, offset)
        still = os.pread(self._descriptor, 8, offset)
        if len(data) < self._size or data[:8] != _number(frame) or still != _number(frame):
            return None
        return np.frombuffer(data, np.float32, offset=8).reshape(self._shape)

    def _write(self, data: bytes | memoryview, slot: int, at: int) -> None:
        view, done = memoryview(data), 0
        while done < len(view):
            done += os.pwrite(self._descriptor, view[done:], slot * self._size + at + done)


def _number(frame: int) -> bytes:
    return frame.to_bytes(8, "little", signed=True)
