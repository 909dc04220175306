"""The pixels of a job in the analysis process: read, summed, with the dark that belongs to them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.callbacks.images.locations import FrameReader, FrameRef, SummedImages
from gixi_bluesky.callbacks.runs.actions import DarkImages
from gixi_bluesky.errors import FrameError, RefusedPathError, UnavailableError
from gixi_bluesky.processing.pixels.counts import Dark
from gixi_bluesky.processing.pixels.exposures import FrameSum
from gixi_bluesky.processing.settings import CorrectionSettings

__all__ = ["ImageSource"]


class ImageSource:
    """Reads frames, adds those that belong together, and keeps the last dark of a run."""

    def __init__(self, reader: FrameReader, corrections: CorrectionSettings) -> None:
        self._reader = reader
        self._corrections = corrections
        self._darks: dict[str, Dark] = {}

    def read(self, ref: FrameRef, deadline: float) -> tuple[NDArray[Any], int]:
        """Return counts (rows, columns) and how many exposures they sum.

        Raises what FrameReader.read raises.
        """
        if not isinstance(ref, SummedImages):
            return self._reader.read(ref, deadline), 1
        total = FrameSum(self._corrections)
        for part in ref.parts:
            total.add(self._reader.read(part, deadline))
        return total.result(), total.exposures

    def dark(self, images: DarkImages, deadline: float) -> Dark:
        """Return the mean of a run's dark images.

        Raises UnavailableError or FrameError saying that it is the dark that is lacking.
        """
        if images.key not in self._darks:
            try:
                stack = np.stack([self._reader.read(ref, deadline) for ref in images.images])
            except (UnavailableError, RefusedPathError) as error:
                message = f"the dark of the run: {error}"
                raise UnavailableError(message) from error
            except (FrameError, ValueError) as error:
                message = f"the dark of the run: {error}"
                raise FrameError(message) from error
            self._darks = {images.key: Dark.of(stack, self._corrections)}
        return self._darks[images.key]
