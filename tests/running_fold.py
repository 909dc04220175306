"""A fold that writes every kind of stream: a step, textures, courses and a column of peaks."""

from __future__ import annotations

from typing import Any

from gixi_bluesky.callbacks.derived.folds import Folded, OrderedFrame, StoredFrames
from gixi_bluesky.processing.tables import Column
from gixi_bluesky.tiled_adapters.schema import TABLES, StreamTable, step_table

__all__ = ["Running"]

SEEN = step_table("seen", [Column("total", "<f8", "counts", "sum of q of all frames so far")])


class Running:
    """Numbers the peaks of the run, sums their q, and writes courses one frame behind."""

    name = "running"
    tables: tuple[StreamTable, ...] = (SEEN, TABLES["courses"], TABLES["textures"])
    needs_images = True
    finished = True

    def __init__(self) -> None:
        self.frames: list[int] = []
        self.images: list[float] = []
        self.n_peaks = 0
        self.total = 0.0

    def restore(self, stored: StoredFrames) -> None:
        for one in stored:
            self._take(one)
            image = stored.image(one.number)
            if image is not None:
                self.images.append(float(image[0, 0]))
        if self.frames:
            assert stored.table("step_seen")["total"].iloc[-1] == self.total

    def add(self, frame: OrderedFrame) -> Folded:
        first = self.n_peaks
        if frame.image is not None:
            self.images.append(float(frame.image[0, 0]))
        self._take(frame)
        tracks = list(range(first, self.n_peaks))
        rows: dict[str, Any] = {
            "step_seen": {"frame": [frame.number], "row": [0], "total": [self.total]},
            "textures": {
                column.name: [frame.number]
                if column.name == "frame"
                else ["x"]
                if column.dtype.startswith("<U")
                else [0.5]
                for column in TABLES["textures"].columns
            },
        }
        if len(self.frames) > 1:
            rows["courses"] = self._courses(self.frames[-2])
        return Folded({"peaks": {"track": tracks}}, rows)

    def collect(self) -> Folded:
        return Folded()

    def finish(self) -> Folded:
        return Folded(rows={"courses": self._courses(self.frames[-1])})

    def summary(self) -> dict[str, Any]:
        return {"total": self.total, "phases": {"fake": {"onset_frame_low": 1}}}

    def close(self) -> None:
        pass

    def _take(self, frame: OrderedFrame) -> None:
        self.frames.append(frame.number)
        self.n_peaks += len(frame.peaks)
        self.total += float(frame.peaks.q.sum())

    def _courses(self, number: int) -> dict[str, list[Any]]:
        return {
            column.name: [number]
            if column.name in {"frame", "track"}
            else [""]
            if column.dtype.startswith("<U")
            else [1]
            for column in TABLES["courses"].columns
        }
