"""The part of a run that earlier sessions stored, for the folds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gixi_bluesky.callbacks.derived.folds import OrderedFrame
from gixi_bluesky.processing.tables import Matches, MatchPeaks, Peaks, columns_of

__all__ = ["StoredRun"]

_TABLES: dict[str, type[Any]] = {"peaks": Peaks, "matches": Matches, "match_peaks": MatchPeaks}


class StoredRun:
    """The stored frames of a run in order, with their rows and images.

    read: returns the rows of a stored stream
    streams: those that are there
    image: returns the stored polar image of a frame, None where there is none
    """

    def __init__(
        self,
        read: Callable[[str], pd.DataFrame],
        streams: Collection[str],
        image: Callable[[int], NDArray[np.float32] | None],
    ) -> None:
        self._read = read
        self._streams = streams
        self._image = image
        self._tables: dict[str, pd.DataFrame] = {}

    def table(self, stream: str) -> pd.DataFrame:
        """Return the stored rows of a stream, without any if it is not there."""
        if stream not in self._tables:
            rows = self._read(stream) if stream in self._streams else pd.DataFrame({"frame": []})
            self._tables[stream] = rows
        return self._tables[stream]

    def image(self, frame: int) -> NDArray[np.float32] | None:
        """Return the stored polar image of a frame, None where there is none."""
        return self._image(frame)

    @property
    def image_reader(self) -> Callable[[int], NDArray[np.float32] | None]:
        """A function that returns the image of a frame, without the tables of this object."""
        return self._image

    def __iter__(self) -> Iterator[OrderedFrame]:
        """Iterate over the frames that the folds took, in the order of their numbers."""
        groups = {
            stream: dict(list(self.table(stream).groupby("frame", sort=False)))
            for stream in self._streams
        }
        frames = self.table("frames")
        if not len(frames):
            return
        if "seq_num" in frames:
            frames = frames.sort_values("seq_num")
        beyond = -1
        for number in frames["frame"].tolist():
            if number <= beyond:
                continue  # it came after frames with higher numbers: the folds skipped it
            beyond = number
            stored = {stream: found[number] for stream, found in groups.items() if number in found}
            yield _ordered(number, stored)


def _ordered(number: int, stored: dict[str, pd.DataFrame]) -> OrderedFrame:
    row = stored["frames"].iloc[0]
    tables = {
        stream: kind.from_columns(
            **{
                column.name: stored[stream][column.name].to_numpy()
                for column in columns_of(kind)
                if stream in stored and column.name in stored[stream]
            }
        )
        for stream, kind in _TABLES.items()
    }
    return OrderedFrame(
        number=number,
        time=float(row["raw_time"]),
        status=str(row["status"]),
        stored=stored,
        **tables,
    )
