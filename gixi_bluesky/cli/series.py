"""`process --series`: image files as one film, with the courses of its phases."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gixi_bluesky.cli.console import output, print_json

if TYPE_CHECKING:
    import pandas as pd

    from gixi_bluesky.cli.records import FrameRecord
    from gixi_bluesky.config import Config
    from gixi_bluesky.processing.tracks.series import SeriesResult

__all__ = ["Film"]

_PHASES = ("phase", "onset_frame", "onset_frame_low", "onset_frame_high")
_LINES = ("group", "track", "q", "q_error", "phi", "first_frame", "last_frame")
_CELLS = ("group", "system", "centring", "a", "b", "c", "figure", "n_indexed", "n_lines")
_TRACKS = ("track", "phase", "q", "phi", "first_frame", "last_frame", "n_frames")


class Film:
    """The images of some files, analysed in their order as one film.

    Raises UnavailableError, RefusedPathError or FrameError for an image that cannot be analysed:
    a film without one of its frames would have other courses.
    """

    def __init__(self, config: Config, names: Sequence[str]) -> None:
        from gixi_bluesky.cli.images import named_images
        from gixi_bluesky.processing import Pipeline

        self._labels: list[str] = []

        def frames() -> Iterator[Any]:
            for label, frame in named_images(config, names):
                self._labels.append(label)
                yield frame

        self.result: SeriesResult = Pipeline(config).series(frames())

    def records(self) -> Iterator[FrameRecord]:
        """Yield what was found in each image."""
        from gixi_bluesky.cli.records import FrameRecord

        for label, one in zip(self._labels, self.result.results, strict=True):
            yield FrameRecord(
                label,
                peaks=one.peaks,
                matches=one.matches,
                match_peaks=one.match_peaks,
                textures=one.textures,
                steps=one.steps,
            )

    def show(self) -> None:
        """Print the phases with their onsets and their courses, and the longest tracks."""
        amounts = _by_frame(self.result.phase_courses)
        for title, table, columns in (
            ("phases", self.result.phases, _PHASES),
            ("amounts of the phases, 1 at their highest", amounts, tuple(amounts.columns)),
            ("lines without a phase", self.result.unexplained.lines, _LINES),
            ("cells for them", self.result.unexplained.cells, _CELLS),
            ("tracks", self.result.tracks.head(30), _TRACKS),
        ):
            known = [column for column in columns if column in table]
            text = table[known].to_string(index=False) if len(table) else "none"
            output.print(f"{title}:", markup=False, highlight=False)
            output.print(text, markup=False, highlight=False, soft_wrap=True)

    def print_json(self) -> None:
        """Print one line with phases, tracks, their courses, and lines without a phase."""
        tables = {"phases": self.result.phases, "tracks": self.result.tracks}
        unexplained = self.result.unexplained
        tables |= {"unexplained": unexplained.lines, "cells": unexplained.cells}
        courses = {"courses": self.result.courses, "phase_courses": self.result.phase_courses}
        print_json({name: _rows(table) for name, table in (tables | courses).items()})


def _by_frame(courses: pd.DataFrame) -> pd.DataFrame:
    """Return a row a frame and a column a phase: amount ± error."""
    if not len(courses):
        return courses
    text = [f"{a:.2f} ± {e:.2f}" for a, e in zip(courses["amount"], courses["error"], strict=True)]
    wide = courses.assign(text=text).pivot(index="frame", columns="phase", values="text")
    return wide.fillna("").reset_index()


def _rows(table: pd.DataFrame) -> Any:
    return json.loads(table.to_json(orient="records", double_precision=15))
