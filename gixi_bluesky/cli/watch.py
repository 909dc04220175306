"""`process --watch`: analyses a growing folder with the router and store of a scan."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pandas as pd

from gixi_bluesky.callbacks.analysis import Analysis
from gixi_bluesky.callbacks.derived.stores import RunStore, store_builder
from gixi_bluesky.callbacks.folder import FolderRun, folder_input
from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
from gixi_bluesky.cli.console import say
from gixi_bluesky.cli.earlier_runs import EarlierRuns
from gixi_bluesky.cli.file_results import require_writable
from gixi_bluesky.cli.records import FrameRecord
from gixi_bluesky.config import Config
from gixi_bluesky.metrics import serve_metrics
from gixi_bluesky.plurals import counted
from gixi_bluesky.tiled_adapters.files.requests import Finished
from gixi_bluesky.tiled_adapters.schema import complete_columns, is_table
from gixi_bluesky.tiled_adapters.store.writer import RunState

__all__ = ["watched"]

_POLL_S = 0.5
_STORED_S = 600.0


def watched(
    config: Config,
    folder: Path,
    stop_after: float | None,
    metrics_port: int | None = None,
    *,
    again: bool = False,
) -> Iterator[FrameRecord]:
    """Yield the result of each image of `folder` once it is stored.

    Ends after Ctrl-C or SIGTERM, or when no image came for `stop_after` seconds; images read by
    then are analysed and stored first. Images that complete runs of this folder hold, by the same
    settings, are taken from there, unless they are to be analysed `again`.
    """
    stored: SimpleQueue[_Found] = SimpleQueue()
    if config.tiled.uri is None:
        config.output.directory.mkdir(parents=True, exist_ok=True)
        require_writable(config.output.directory)
    new_store = store_builder(config)
    opened: dict[str, None] = {}  # uids of derived runs
    config = config.model_copy(update={"input": folder_input(config.input, folder.absolute())})
    with contextlib.ExitStack() as stack:
        analysis = stack.enter_context(
            Analysis(config, store=lambda: _ReportingStore(new_store(), stored, opened))
        )
        if metrics_port is not None:
            stack.callback(serve_metrics(analysis.status, metrics_port))
        stopping = stack.enter_context(_asked_to_stop())
        access = FileAccess.from_settings(config.input)
        # Numbers of sums depend on all files before them, so that none may be left out.
        summed = config.corrections.sum_frames > 1
        earlier = None if again or summed else EarlierRuns(config, folder, analysis.result_hash)
        leave_out = {} if earlier is None else {"leave_out": earlier.holds}
        run = FolderRun(folder, analysis.feed, access, **leave_out)
        say(f"following {run.folder}; Ctrl-C ends it")
        last_new = time.monotonic()
        while not stopping():
            if run.poll():
                last_new = time.monotonic()
            elif stop_after is not None and time.monotonic() - last_new > stop_after:
                break
            if earlier is not None:
                yield from earlier.records()
            yield from _stored_frames(stored, run, _POLL_S)
        run.stop()
        analysis.drain(_STORED_S)
        yield from _stored_frames(stored, run, 0.0)
        if not opened:
            say(f"no new images in {run.folder}")
            return
        images = counted(run.n_frames, "image")
        say(f"{images}; the run {', '.join(opened)} is stored {_place(config)}")


_Found = tuple[dict[str, pd.DataFrame], dict[str, Any]]


class _ReportingStore:
    """Passes documents on to a store, and puts each stored frame into a queue."""

    def __init__(
        self, store: RunStore, stored: SimpleQueue[_Found], opened: dict[str, None]
    ) -> None:
        self._store = store
        self._opened = opened
        self._stored = stored
        self._streams: dict[str, str] = {}
        self._tables: dict[str, pd.DataFrame] = {}

    @property
    def keeps_rows(self) -> bool:
        return self._store.keeps_rows

    @property
    def trouble(self) -> str:
        return self._store.trouble

    def open(self, start: Mapping[str, Any]) -> RunState:
        state = self._store.open(start)
        if start["uid"] not in self._opened:
            self._opened[start["uid"]] = None
            say(f"the derived run is {start['uid']}")
        return state

    def read(self, stream: str) -> pd.DataFrame:
        return self._store.read(stream)

    def refresh_live(self, summary: Mapping[str, Any]) -> None:
        self._store.refresh_live(summary)

    def serves(self, uid: str, finished: Finished | None) -> bool:
        return self._store.serves(uid, finished)

    def close(self) -> None:
        self._store.close()

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        self._store(name, doc)
        if name == "descriptor":
            self._streams[doc["uid"]] = doc["name"]
        elif name == "event_page":
            stream = self._streams[doc["descriptor"]]
            if is_table(stream):
                self._page(stream, pd.DataFrame(doc["data"]))

    def _page(self, stream: str, rows: pd.DataFrame) -> None:
        """Keep a page until the page of `frames`, the last of a flush, says which frames it is."""
        if stream != "frames":
            self._tables[stream] = rows
            return
        for frame in rows.to_dict("records"):
            tables = {
                stream: rows[rows["frame"] == frame["frame"]]
                for stream, rows in self._tables.items()
            }
            self._stored.put((tables, {str(key): value for key, value in frame.items()}))
        self._tables.clear()


def _stored_frames(
    stored: SimpleQueue[_Found], run: FolderRun, wait_s: float
) -> Iterator[FrameRecord]:
    """Yield the frames that are stored within `wait_s`."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            tables, frame = stored.get(timeout=max(deadline - time.monotonic(), 0.001))
        except Empty:
            return
        name = run.name_of(int(frame["frame"]))
        steps = {
            stream.removeprefix("step_"): rows
            for stream, rows in tables.items()
            if stream.startswith("step_")
        }
        yield FrameRecord(
            name,
            frame["status"],
            frame["reason"],
            peaks=tables.get("peaks", _no_rows("peaks")),
            matches=tables.get("matches", _no_rows("matches")),
            match_peaks=tables.get("match_peaks", _no_rows("match_peaks")),
            textures=tables.get("textures", _no_rows("textures")),
            steps=steps,
        )


def _no_rows(stream: str) -> pd.DataFrame:
    """Return a table of a flush in which no frame had a row of it."""
    return complete_columns(pd.DataFrame(), stream)


def _place(config: Config) -> str:
    if config.tiled.uri is None:
        return f"in {config.output.directory}"
    return f"at {config.tiled.uri} in {config.tiled.derived}"


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns True after SIGINT or SIGTERM.

    A second Ctrl-C stops at once, a third one kills the process.
    """
    asked: list[int] = []

    def ask(number: int, _: object) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, stop)

    def stop(_: int, __: object) -> None:
        # The default handler also ends a process that is blocked inside a library.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
