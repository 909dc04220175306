"""Runs without an analysed image: each reason is reported once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from gixi_bluesky.log import get_logger

__all__ = ["RunsLeftAlone"]

_MOST_REASONS = 50
_log = get_logger()


class RunsLeftAlone:
    """Counts skipped runs by reason; `last` is the newest reason."""

    def __init__(self) -> None:
        self.last = ""
        self._counts: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """Number of skipped runs."""
        return self._counts.total()

    def add(self, run_uid: str, reason: str, image_keys: Iterable[str] = ()) -> None:
        """Record a run; the first one of a reason is a warning, as a set-up may be wrong."""
        offered = ", ".join(sorted(image_keys))
        text = f"{reason}; its images are {offered}" if offered else reason
        first = text not in self._counts and len(self._counts) < _MOST_REASONS
        self._counts[text if first or text in self._counts else "other reasons"] += 1
        self.last = text
        log = _log.bind(raw_uid=run_uid, reason=text, runs=self._counts[text])
        if first:
            log.warning("run_left_alone")
        else:
            log.debug("run_left_alone")
