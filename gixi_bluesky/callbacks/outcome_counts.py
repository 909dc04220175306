"""Counts of what became of documents, frames and runs, and the last errors."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from gixi_bluesky.callbacks.runs.actions import Frame
from gixi_bluesky.callbacks.worker.jobs import Outcome
from gixi_bluesky.errors import DocumentError
from gixi_bluesky.log import SeldomLog, get_logger

__all__ = ["OutcomeCounts"]

_log = get_logger()


class OutcomeCounts:
    """Counts outcomes and logs what went wrong, similar messages seldom; for several threads.

    last_error: of documents and runs; "" = none
    """

    def __init__(self) -> None:
        self.last_error = self._last_frame_error = ""
        self._counts: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._maps_s = 0.0
        self._seldom = SeldomLog()

    def count(self, what: str) -> None:
        """Count one more of a kind, as `status` names them."""
        with self._counting:
            self._counts[what] += 1

    def refused(self, error: DocumentError) -> None:
        """Record that a document could not be used."""
        self.count("refused")
        self.last_error = str(error)
        _log.warning("document_refused", reason=str(error))

    def analysed(self, frame: Frame, outcome: Outcome) -> None:
        """Record what became of a frame."""
        self.count(outcome.status)
        log = _log.bind(raw_uid=frame.run_uid, frame=frame.number)
        if outcome.result is not None and (built_s := outcome.result.seconds.get("maps")):
            self.count("maps_built")
            self._maps_s += built_s
        if outcome.status != "ok":
            self._last_frame_error = outcome.reason
            if (similar := self._seldom.due(outcome.reason)) is not None:
                outcome_fields = {"status": outcome.status, "reason": outcome.reason}
                log.warning("frame_not_analysed", similar_before=similar, **outcome_fields)
        for warning in outcome.result.warnings if outcome.result is not None else ():
            if (similar := self._seldom.due(warning)) is not None:
                log.warning("frame_warning", similar_before=similar, reason=warning)

    def status(self) -> dict[str, Any]:
        """Return the counts and the last error of a frame, as `Analysis.status` names them."""
        with self._counting:
            counts = dict(self._counts)
        return {
            "frames_received": counts.get("received", 0),
            "frames_done": counts.get("ok", 0),
            "frames_dropped": counts.get("dropped", 0),
            "frames_failed": counts.get("failed", 0) + counts.get("unavailable", 0),
            "frames_skipped": counts.get("skipped", 0),
            "documents_refused": counts.get("refused", 0),
            "maps_built": counts.get("maps_built", 0),
            "maps_seconds": round(self._maps_s, 3),
            "runs_closed": counts.get("runs_closed", 0),
            "last_frame_error": self._last_frame_error,
        }
