"""The record of what was done in the page: who, when, what, and how it ended."""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gixi_bluesky.log import get_logger

__all__ = ["OperationRecord", "now"]

_log = get_logger()


def now() -> str:
    """Return the time in ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class OperationRecord:
    """A file of JSON lines that only grows; each line is on the disk before the answer is sent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writing = threading.Lock()

    def add(self, who: str, action: str, details: dict[str, Any], outcome: str) -> None:
        """Append a line. Raises OSError: what cannot be recorded is an error of the action."""
        entry = {
            "when": now(),
            "who": who,
            "action": action,
            "details": details,
            "outcome": outcome,
        }
        _log.info("operated", who=who, action=action, outcome=outcome)
        with self._writing, self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def last(self, most: int = 50) -> list[dict[str, Any]]:
        """Return the last entries, the newest first."""
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in reversed(lines[-most:])]
