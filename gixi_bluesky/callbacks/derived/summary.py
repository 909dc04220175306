"""The summary of a derived run, by which queries find it, and its end."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gixi_bluesky.callbacks.runs.actions import RunClosed
from gixi_bluesky.tiled_adapters.schema import Q_BIN, q_bin
from gixi_bluesky.tiled_adapters.store.composer import RunComposer

__all__ = ["RunSummary", "stop_document"]

ONSET_PROBABILITY = 0.5
_PEAK_POSITIONS = 200


@dataclass(slots=True)
class _Phase:
    max_probability: float = 0.0
    n_frames: int = 0
    onset_frame: int | None = None
    onset_time: float | None = None


class RunSummary:
    """Counts frames, peaks and phases as their rows are stored; frames may come in any order.

    The row of a frame in `frames` comes after its other rows. What is kept does not grow with the
    number of frames.

    names: the phases' names by slug
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(names)
        self._status: Counter[str] = Counter()
        self._n_peaks = 0
        self._bin_frames: Counter[str] = Counter()
        self._positions: dict[int, tuple[int, float]] = {}
        self._phases: dict[str, _Phase] = {}

    def add(self, stream: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Take rows of a stored table, given by column."""
        if stream == "frames":
            self._status.update(columns["status"])
            self._add_times(dict(zip(columns["frame"], columns["raw_time"], strict=True)))
        elif stream == "peaks":
            self._add_peaks(columns["frame"], columns["q"])
        elif stream == "matches":
            rows = zip(columns["frame"], columns["phase"], columns["probability"], strict=True)
            self._add_matches(rows)

    @property
    def n_frames(self) -> int:
        """Frames that have a row."""
        return self._status.total()

    def as_dict(self) -> dict[str, Any]:
        """Return the summary in JSON types, as it stands in `gixi_live` and in the stop."""
        return {
            "n_frames": self.n_frames,
            "n_peaks": self._n_peaks,
            "n_dropped": self._status["dropped"],
            "n_failed": self._status["failed"] + self._status["unavailable"],
            "peak_q": self._peak_q(),
            "q_bins": dict(sorted(self._bin_frames.items())),
            "phases": {slug: self._phase(slug, phase) for slug, phase in self._phases.items()},
        }

    def _add_peaks(self, frames: Iterable[int], positions: Iterable[float]) -> None:
        bins: set[tuple[int, str]] = set()
        for frame, q in zip(frames, positions, strict=True):
            self._n_peaks += 1
            if not math.isfinite(q) or q < 0:
                continue
            bins.add((frame, q_bin(q)))
            place = int(q / Q_BIN)
            count, total = self._positions.get(place, (0, 0.0))
            self._positions[place] = (count + 1, total + q)
        # All peaks of a frame are in one call, so each frame counts once in a bin.
        self._bin_frames.update(name for _, name in bins)

    def _add_matches(self, rows: Iterable[tuple[int, str, float]]) -> None:
        for frame, slug, probability in rows:
            phase = self._phases.setdefault(slug, _Phase())
            phase.max_probability = max(phase.max_probability, probability)
            if probability >= ONSET_PROBABILITY:
                phase.n_frames += 1
                if phase.onset_frame is None or frame < phase.onset_frame:
                    phase.onset_frame = frame
                    phase.onset_time = None

    def _add_times(self, times: Mapping[int, float]) -> None:
        for phase in self._phases.values():
            if phase.onset_time is None and phase.onset_frame is not None:
                phase.onset_time = times.get(phase.onset_frame)

    def _peak_q(self) -> list[float]:
        """Return the mean |q| of the peaks in each bin, of the most frequent bins."""
        frequent = sorted(self._positions.values(), reverse=True)[:_PEAK_POSITIONS]
        return sorted(round(total / count, 5) for count, total in frequent)

    def _phase(self, slug: str, phase: _Phase) -> dict[str, Any]:
        onset = phase.onset_time
        known = onset is not None and math.isfinite(onset)
        return {
            "name": self._names.get(slug, slug),
            "max_probability": round(phase.max_probability, 6),
            "n_frames": phase.n_frames,
            "onset_frame": phase.onset_frame,
            "onset_time": onset if known else None,
        }


def stop_document(
    composer: RunComposer, closed: RunClosed, rows: Mapping[str, int], summary: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the stop document of a derived run, with its summary and the frames that are missing.

    `completeness` is complete, incomplete (announced frames never came) or abandoned (the raw run
    has no stop document).
    """
    whole = "incomplete" if closed.n_missing else "complete"
    summary = {**summary, "completeness": "abandoned" if closed.stop.abandoned else whole}
    reason = closed.stop.reason
    if closed.n_missing:
        summary["n_missing"] = closed.n_missing
        summary["missing_frames"] = list(closed.missing)
        total = (closed.n_images or closed.n_frames) + closed.n_missing
        reason = f"{closed.n_missing} of {total} frames never came. {reason}".strip()
    return composer.stop(closed.stop.time, closed.stop.exit_status, reason, rows, summary)
