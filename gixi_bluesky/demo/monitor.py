"""Watches a growing derived run through Tiled: progress, and the overview every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.progress import Progress

from gixi_bluesky.log import get_logger
from gixi_bluesky.tiled_adapters import queries
from gixi_bluesky.tiled_adapters.drawing.overview import Overview

__all__ = ["Monitor", "simulated_seconds"]

_POLL_S = 1.0
_REDRAW_S = 4.0
_MOST_DRAWING = 3.0  # pauses last this many times the drawing, on a slow machine

_log = get_logger()


def simulated_seconds(raw: Any, raw_uid: str) -> dict[int, float]:
    """Return the simulated time of each frame that the raw catalogue holds so far, s."""
    try:
        # The table itself: the column's own node would use an outdated length.
        rows = raw[raw_uid]["primary"].base["internal"].read(["time_s"])
    except KeyError:  # the first event is not stored yet
        return {}
    return {frame: float(value) for frame, value in enumerate(rows["time_s"])}


class Monitor:
    """A thread with a Tiled client of its own; use as a context manager around the scan.

    connect: returns a client at the root of the server
    raw, derived: the names of the two catalogues
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        raw: str,
        derived: str,
        picture: Path,
        progress: Progress,
        frames: int,
    ) -> None:
        self._connect = connect
        self._raw = raw
        self._derived = derived
        self._picture = picture
        self._progress = progress
        self._measured = progress.add_task("measured", total=frames)
        self._analysed = progress.add_task("analysed", total=frames)
        self._raw_uid = ""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="demo-monitor", daemon=True)

    def __call__(self, name: str, document: dict[str, Any]) -> None:
        """Follow the RunEngine: which run it is and how many frames were measured."""
        if name == "start":
            self._raw_uid = document["uid"]
        elif name == "event":
            self._progress.update(self._measured, completed=document["seq_num"])

    def __enter__(self) -> Monitor:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        client = self._connect()
        seconds: dict[int, float] = {}
        overview: Overview | None = None
        due, drawn = 0.0, 0
        while True:
            last = self._done.wait(_POLL_S)
            try:
                overview = overview or self._found(client, seconds)
                if overview is not None:
                    count = len(overview.run.frames())
                    self._progress.update(self._analysed, completed=count)
                    began = time.monotonic()
                    if last or (began > due and count > drawn):
                        seconds.update(simulated_seconds(client[self._raw], self._raw_uid))
                        overview.save(self._picture)
                        took, drawn = time.monotonic() - began, count
                        due = began + took + max(_REDRAW_S, _MOST_DRAWING * took)
            except Exception:
                # A missing picture must not end the demo; the log has the reason.
                _log.exception("the overview could not be drawn")
            if last:
                return

    def _found(self, client: Any, seconds: dict[int, float]) -> Overview | None:
        if not self._raw_uid:
            return None
        runs = queries.runs_for(client[self._derived], self._raw_uid)
        return Overview(runs[0], seconds) if runs else None
