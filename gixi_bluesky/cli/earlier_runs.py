"""Images of a followed folder that complete runs hold already, analysed by the same settings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gixi_bluesky.cli.console import say
from gixi_bluesky.cli.options import stored_before
from gixi_bluesky.cli.records import FrameRecord
from gixi_bluesky.cli.stored_results import stored_records
from gixi_bluesky.config import Config
from gixi_bluesky.errors import GixiError
from gixi_bluesky.tiled_adapters.client.readable_runs import FileRun, ReadableRun, TiledRun
from gixi_bluesky.tiled_adapters.schema import complete_columns, is_table

__all__ = ["EarlierRuns"]

_Stored = tuple[ReadableRun, int]  # a run and a frame of it


class EarlierRuns:
    """Finds the complete runs of a folder by the same settings, and the images that they hold.

    A file is held when it has the name and time that it had, and all its images were analysed.
    """

    def __init__(self, config: Config, folder: Path, result_hash: str) -> None:
        self._place = _place(config)
        self._frames: defaultdict[tuple[str, float], list[_Stored]] = defaultdict(list)
        self._found: list[tuple[_Stored, str]] = []
        self._reported: set[str] = set()
        for run in _runs(config, folder.absolute().as_uri(), result_hash):
            frames = run.table("frames")
            frames = frames[frames["status"] == "ok"]
            for number, source, time in zip(
                frames["frame"], frames["source"], frames["raw_time"], strict=True
            ):
                file = str(source).partition("::")[0]
                self._frames[file, float(time)].append((run, int(number)))

    def holds(self, path: Path, written: float, n_images: int) -> bool:
        """Return whether all images of a file are stored; their results can be taken then."""
        stored = self._frames.get((str(path), written), [])
        if len(stored) != n_images:
            return False
        names = [f"{path}::{i}" if n_images > 1 else str(path) for i in range(n_images)]
        self._found += zip(sorted(stored, key=lambda one: one[1]), names, strict=True)
        return True

    def records(self) -> Iterator[FrameRecord]:
        """Yield the stored results of the files that were found since the last call."""
        found, self._found = self._found, []
        by_run: defaultdict[str, list[tuple[_Stored, str]]] = defaultdict(list)
        for stored, name in found:
            by_run[str(stored[0].start["uid"])].append((stored, name))
        for uid, images in by_run.items():
            if uid not in self._reported:
                self._reported.add(uid)
                say(stored_before(f"{images[0][1]} and others", uid, self._place))
            run = images[0][0][0]
            tables = {
                table.name: run.table(table.name) for table in run.tables if is_table(table.name)
            }
            numbered = ((number, name, number) for (_, number), name in images)
            yield from stored_records(tables, numbered, _no_rows)


def _no_rows(stream: str) -> Any:
    import pandas as pd

    return complete_columns(pd.DataFrame(), stream)


def _place(config: Config) -> str:
    if config.tiled.uri is None:
        return f"--directory {config.output.directory}"
    return f"--tiled {config.tiled.uri}"


def _runs(config: Config, folder: str, result_hash: str) -> Iterator[ReadableRun]:
    """Yield the complete runs of a folder with a result hash."""
    if config.tiled.uri is None:
        yield from _in_directory(config.output.directory, folder, result_hash)
        return
    from tiled.client.container import Container
    from tiled.queries import Key

    from gixi_bluesky.tiled_adapters.connection import derived_catalogue

    catalogue = derived_catalogue(config.tiled)
    # Not catalogue.search, which would look in other places for other kinds of catalogues.
    for run in Container.search(catalogue, Key("start.folder") == folder).values():
        if run.metadata.get("stop") and _is_of(run.metadata["start"], folder, result_hash):
            yield TiledRun(run)


def _in_directory(directory: Path, folder: str, result_hash: str) -> Iterator[ReadableRun]:
    from gixi_bluesky.tiled_adapters.files.result_reading import run_documents

    for path in sorted(directory.glob("*.nxs")):
        try:
            start, stop = run_documents(path)
            if stop and _is_of(start, folder, result_hash):
                yield FileRun(directory, path.stem)
        except (OSError, KeyError, ValueError, GixiError):  # none of ours, or damaged
            continue


def _is_of(start: Any, folder: str, result_hash: str) -> bool:
    made_by = start.get("gixi", {}).get("provenance", {})
    return start.get("folder") == folder and made_by.get("result_hash") == result_hash
