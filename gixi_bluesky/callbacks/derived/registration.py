"""Registration of result files in Tiled: runs as derived runs, other results as files."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
from tiled.client.utils import ClientError
from tiled.structures.core import Spec, StructureFamily
from tiled.structures.data_source import Asset, DataSource, Management

from gixi_bluesky.callbacks.derived.announcements import Announcements
from gixi_bluesky.callbacks.derived.summary import RunSummary
from gixi_bluesky.errors import RunCompleteError, StoreError
from gixi_bluesky.processes.clock import SYSTEM_CLOCK
from gixi_bluesky.tiled_adapters.client.readable_runs import FileRun
from gixi_bluesky.tiled_adapters.connection import container_beside
from gixi_bluesky.tiled_adapters.files.result_reading import open_result, result_metadata
from gixi_bluesky.tiled_adapters.schema import (
    RESULT_FILES,
    RESULT_MIMETYPE,
    RESULT_SPEC,
    StreamTable,
)
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings
from gixi_bluesky.tiled_adapters.store.claims import store_errors
from gixi_bluesky.tiled_adapters.store.composer import RunComposer
from gixi_bluesky.tiled_adapters.store.writer import DerivedRunStore

__all__ = ["register_result", "result_files"]

_ROWS_PER_PAGE = 5000
_CONFLICT = 409


def result_files(directory: Path) -> list[Path]:
    """Return the result files of a directory: all that end in .nxs, and what else is one."""
    return sorted(
        path
        for path in directory.iterdir()
        if path.suffix == ".nxs" or (path.suffix in {".h5", ".hdf5"} and _is_result(path))
    )


def register_result(path: Path, catalogue: Any) -> None:
    """Bring a result file into Tiled; its images stay where they are.

    A derived run, `<uid>.nxs`, is stored in the catalogue. Any other result becomes a node beside
    the catalogue, in `gixi_files`, that the server reads from the file.
    Raises RunCompleteError when it is there, and what reading and storing raise.
    """
    try:
        with open_result(path) as file:
            metadata = result_metadata(file)
    except (OSError, KeyError, ValueError) as error:
        message = f"{path} is no readable result file: {error}"
        raise StoreError(message) from error
    if metadata["start_document"].get("uid") == path.stem:
        _register_run(path.parent, path.stem, catalogue)
    else:
        _register_file(path.absolute(), metadata, container_beside(catalogue, RESULT_FILES))


def _is_result(path: Path) -> bool:
    try:
        with open_result(path) as file:
            return bool(result_metadata(file))
    except (OSError, KeyError, ValueError):
        return False


def _register_file(path: Path, metadata: dict[str, Any], files: Any) -> None:
    """Make a node of the file, and see whether the server can read it."""
    key = f"{path.stem}-{hashlib.sha256(bytes(path)).hexdigest()[:8]}"
    asset = Asset(
        data_uri=f"file://localhost{path}", is_directory=False, parameter="data_uri", num=None
    )
    source = DataSource(
        structure_family=StructureFamily.container,
        structure=None,
        mimetype=RESULT_MIMETYPE,
        assets=[asset],
        management=Management.external,
    )
    try:
        with store_errors(f"registering {path}"):
            files.new(
                StructureFamily.container,
                [source],
                key=key,
                metadata={"file": path.name, **metadata},
                specs=[Spec(RESULT_SPEC)],
            )
    except StoreError as error:
        cause = error.__cause__
        if isinstance(cause, ClientError) and cause.response.status_code == _CONFLICT:
            message = f"{path} is registered already"
            raise RunCompleteError(message) from error
        raise
    # Not through the client, which would retry for most of a minute.
    children = f"{files.uri.replace('/metadata/', '/search/', 1)}/{key}"
    if not files.context.http_client.get(children).is_success:
        files.delete_contents([key])
        message = (
            f"the server cannot read {path}: serve its folder (readable_storage), under the same "
            f"path, and have {RESULT_MIMETYPE} in adapters_by_mimetype as `serve` has it"
        )
        raise StoreError(message)


def _register_run(directory: Path, uid: str, catalogue: Any) -> None:
    with contextlib.closing(FileRun(directory, uid)) as run:
        store = DerivedRunStore(catalogue, OutputSettings(directory=directory), TiledSettings())
        state = store.open(run.start)
        with contextlib.closing(store):
            _Registration(run, store, state.committed, dict(state.rows)).send(directory)


class _Registration:
    def __init__(
        self, run: FileRun, store: DerivedRunStore, committed: frozenset[int], rows: dict[str, int]
    ) -> None:
        self._run = run
        self._composer = RunComposer(run.start)
        self._store = store
        self._committed = committed
        self._rows = rows
        self._tables = {table.name: table for table in run.tables}

    def send(self, directory: Path) -> None:
        self._send_images(directory.absolute())
        for table in self._tables.values():
            self._store("descriptor", self._composer.descriptor(table))
        for table in self._tables.values():
            rows = self._run.table(table.name)
            self._send_rows(table, rows[~rows["frame"].isin(list(self._committed))])
        self._store("stop", self._stop())

    def _send_images(self, directory: Path) -> None:
        """Register images where they lie, and cuts, which are always in the file itself."""
        run = self._run
        images = directory / run.images_path
        announcements = Announcements(self._composer, SYSTEM_CLOCK, polar=run.n_images > 0)
        rows, shape = run.n_images, run.image_shape
        path = run.path.absolute()
        for name, doc in announcements.stored(path, images, rows, shape, run.arrays):
            self._store(name, doc)

    def _send_rows(self, table: StreamTable, rows: pd.DataFrame) -> None:
        stream = table.name
        columns = {str(name): rows[name].tolist() for name in rows}
        first, time = self._rows.get(stream, 0) + 1, self._composer.start["time"]
        for page in self._composer.pages(table, columns, first, time, _ROWS_PER_PAGE):
            self._store("event_page", page)
        self._rows[stream] = first + len(rows) - 1

    def _stop(self) -> dict[str, Any]:
        """Return the stop document as the file has it."""
        if self._run.stop is not None:
            return dict(self._run.stop)
        phases = self._composer.start["gixi"].get("phases_searched", ())
        summary = RunSummary({phase["slug"]: phase["name"] for phase in phases})
        for stream in self._tables:
            rows = self._run.table(stream)
            summary.add(stream, {str(name): rows[name].tolist() for name in rows})
        times = self._run.table("frames")["raw_time"]
        time = float(times.max()) if len(times) else self._composer.start["time"]
        reason = "the file does not record how the raw run ended"
        gixi = {**summary.as_dict(), "completeness": "unknown"}
        return self._composer.stop(time, "success", reason, self._rows, gixi)
