"""Phases that know the frame before: the temporal prior as a fold over the frames of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gixi_bluesky.callbacks.derived.folds import (
    FoldBuilder,
    Folded,
    FrameFold,
    OrderedFrame,
    StoredFrames,
)
from gixi_bluesky.callbacks.runs.actions import RawRun
from gixi_bluesky.callbacks.worker.jobs import Ready
from gixi_bluesky.processing.match.temporal_prior import likeliest_first, probabilities_after
from gixi_bluesky.processing.tables import Matches
from gixi_bluesky.tiled_adapters.schema import StreamTable

__all__ = ["TemporalPriorFold", "with_temporal_prior"]


class TemporalPriorFold:
    """Gives the phases of a frame their probabilities after those of the frame before.

    A frame without a result changes nothing. `matches` keeps the order of its rows; `best_phase`
    and `best_probability` of `frames` follow.
    """

    name = "temporal_prior"
    tables: tuple[StreamTable, ...] = ()
    needs_images = False
    finished = True

    def __init__(self, n_candidates: int) -> None:
        self._n_candidates = n_candidates
        self._previous: dict[str, float] = {}

    def restore(self, stored: StoredFrames) -> None:
        """Take the probabilities of the last stored frame that has a result."""
        for frame in stored:
            if frame.status == "ok":
                self._remember(frame.matches)

    def add(self, frame: OrderedFrame) -> Folded:
        """Return the probabilities of a frame."""
        if frame.status != "ok":
            return Folded()
        after = probabilities_after(self._previous, frame.matches, self._n_candidates)
        matches = replace(frame.matches, probability=after)
        self._remember(matches)
        best = likeliest_first(matches)
        none = not len(best)
        return Folded(
            columns={
                "matches": {"probability": after.tolist()},
                "frames": {
                    "best_phase": ["" if none else str(best.phase[0])],
                    "best_probability": [math.nan if none else float(best.probability[0])],
                },
            }
        )

    def collect(self) -> Folded:
        """Return nothing: every row is given with its frame."""
        return Folded()

    def finish(self) -> Folded:
        """Return nothing: every row is given with its frame."""
        return Folded()

    def summary(self) -> Mapping[str, Any]:
        """Return nothing."""
        return {}

    def close(self) -> None:
        """Do nothing."""

    def _remember(self, matches: Matches) -> None:
        self._previous = dict(
            zip(matches.phase.tolist(), matches.probability.tolist(), strict=True)
        )


def with_temporal_prior(build: FoldBuilder) -> FoldBuilder:
    """Return a function that builds the temporal prior of a run before its other folds."""

    def folds(raw: RawRun, ready: Ready) -> Sequence[FrameFold]:
        return (TemporalPriorFold(len(ready.phases)), *build(raw, ready))

    return folds
