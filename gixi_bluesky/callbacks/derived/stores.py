"""Stores of derived runs: Tiled, or HDF5 files alone."""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from gixi_bluesky.callbacks.settings import StoreConfig
from gixi_bluesky.errors import ClaimLostError, ConfigError, RunCompleteError, StoreError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.disk_thread import DiskThread
from gixi_bluesky.tiled_adapters.connection import derived_catalogue, require_reachable
from gixi_bluesky.tiled_adapters.files.file_process import file_process
from gixi_bluesky.tiled_adapters.files.requests import Finished, ReadTables
from gixi_bluesky.tiled_adapters.settings import OutputSettings
from gixi_bluesky.tiled_adapters.store.claims import SESSION_S
from gixi_bluesky.tiled_adapters.store.leftover_spools import send_abandoned, send_leftovers
from gixi_bluesky.tiled_adapters.store.spooled_store import SpooledStore
from gixi_bluesky.tiled_adapters.store.writer import DerivedRunStore, RunState

__all__ = ["LocalStore", "RunStore", "store_builder"]

# Sessions to wait for a silent writer before its leftovers are sent: there is no hurry, and a
# writer that is only starved of CPU would lose its run.
_SWEEP_PATIENCE = 4.0
_log = get_logger()


class RunStore(Protocol):
    """The store of one derived run.

    keeps_rows: whether rows are stored here; False = they are in the HDF5 files alone
    trouble: faults of the disk, and what is done instead; "" = none
    """

    @property
    def keeps_rows(self) -> bool: ...  # noqa: D102
    @property
    def trouble(self) -> str: ...  # noqa: D102
    def open(self, start: Mapping[str, Any]) -> RunState: ...  # noqa: D102
    def __call__(self, name: str, doc: Mapping[str, Any]) -> None: ...  # noqa: D102
    def read(self, stream: str) -> pd.DataFrame: ...  # noqa: D102
    def refresh_live(self, summary: Mapping[str, Any]) -> None: ...  # noqa: D102
    def serves(self, uid: str, finished: Finished | None) -> bool:
        """Return True when the images of a run are served from its finished file."""
        ...

    def close(self) -> None: ...  # noqa: D102


def store_builder(
    config: StoreConfig,
    client: Any = None,
    *,
    session_s: float = SESSION_S,
    spool: Path | None = None,
    alive: Callable[[], bool] = lambda: True,
) -> Callable[[], RunStore]:
    """Return a function that builds the store of one derived run.

    client: a Tiled client of the catalogue; None = the one `config.tiled` names, and without a
    uri there HDF5 files only.
    session_s: how long a writer may be silent before it loses its run
    spool: a folder for spools that many processes share, and send on for those that are gone;
        None = below the results directory, for this process alone
    alive: returns whether this process may still write; called before each write
    Raises ConfigError or StoreError when the server cannot be used.
    """
    output, tiled = config.output, config.tiled
    if output.arrays == "external":
        file_process().start()
    own_client = client is None and tiled.uri is not None
    if own_client:
        client = derived_catalogue(tiled)
    if client is None:
        if output.arrays != "external":
            message = (
                f"nothing would be stored: output.arrays is {output.arrays!r} and there is no "
                "server; give tiled.uri, or output.arrays: external"
            )
            raise ConfigError(message)
        return lambda: LocalStore(output)

    def new_store(patience: float = 1.0) -> DerivedRunStore:
        require_reachable(client)
        return DerivedRunStore(client, output, tiled, session_s, alive, patience)

    stores = _SpooledStores(
        new_store,
        spool or output.directory,
        sweep_s=None if spool is None else session_s,
        timeout_s=output.storage_timeout_s,
    )
    if own_client:
        weakref.finalize(stores, client.context.close)
    return stores


class _SpooledStores:
    """Builds the stores that send to Tiled, and sends leftovers of earlier processes."""

    def __init__(
        self,
        new_store: Callable[..., DerivedRunStore],
        directory: Path,
        sweep_s: float | None,
        timeout_s: float,
    ) -> None:
        self._directory = directory
        self._new_store = new_store
        self._shared = sweep_s is not None
        self._timeout_s = timeout_s
        gone = threading.Event()
        weakref.finalize(self, gone.set)
        args: tuple[Any, ...] = (directory, new_store, gone)
        threading.Thread(
            target=send_leftovers if sweep_s is None else _sweep,
            args=args if sweep_s is None else (*args, sweep_s),
            name="gixi-leftovers",
            daemon=True,
        ).start()

    def __call__(self) -> SpooledStore:
        return SpooledStore(
            self._new_store, self._directory, shared=self._shared, timeout_s=self._timeout_s
        )


def _sweep(
    directory: Path,
    new_store: Callable[..., DerivedRunStore],
    gone: threading.Event,
    sweep_s: float,
) -> None:
    while not gone.wait(sweep_s):
        try:
            send_abandoned(directory, partial(new_store, _SWEEP_PATIENCE))
        except Exception as error:  # a folder that cannot be listed now; the next sweep may succeed
            _log.warning("spools_not_sent", directory=str(directory), error=repr(error))


class LocalStore:
    """Stands in for DerivedRunStore: a lock file is the claim, `<uid>.nxs` the stop document."""

    keeps_rows = False
    trouble = ""

    def __init__(self, output: OutputSettings) -> None:
        self._directory = Path(output.directory).absolute()
        self._timeout_s = output.storage_timeout_s
        self._lock = -1
        self._disk = DiskThread("gixi-lock")
        self._tables: dict[str, pd.DataFrame] = {}

    def open(self, start: Mapping[str, Any]) -> RunState:
        """Open the run and return the content of its newest part.

        Raises RunCompleteError, ClaimLostError, or StoreError when the disk refuses; may be
        repeated after that.
        """
        uid = start["uid"]
        folder = self._directory / uid
        try:
            if self._lock < 0:  # a second lock of this process would be refused, too
                lock = partial(self._locked, uid)
                self._lock = self._disk.call(lock, self._timeout_s, late=os.close)
        except BlockingIOError as error:
            message = f"another process writes {folder}; this writer must stop"
            raise ClaimLostError(message) from error
        except OSError as error:
            message = f"cannot write {folder}: {error}"
            raise StoreError(message) from error
        request = ReadTables(self._directory, uid)
        self._tables = file_process().ask(request, self._timeout_s)
        frames = self._tables.get("frames")
        committed = frozenset(frames["frame"].tolist()) if frames is not None else frozenset()
        return RunState(committed, {name: len(rows) for name, rows in self._tables.items()})

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Ignore the document: its rows are already in the HDF5 part."""

    def read(self, stream: str) -> pd.DataFrame:
        """Return the rows of a table as they were when the run was opened."""
        return self._tables[stream]

    def refresh_live(self, summary: Mapping[str, Any]) -> None:
        """Ignore the summary, which files do not hold."""

    def serves(self, uid: str, finished: Finished | None) -> bool:
        """Return True for a run with a finished file, which is all that readers have."""
        return finished is not None and uid == finished.path.stem

    def close(self) -> None:
        """Release the run."""
        lock, self._lock = self._lock, -1
        self._disk.end(partial(os.close, lock) if lock >= 0 else lambda: None)

    def _locked(self, uid: str) -> int:
        """Return the descriptor of the run's lock file, locked."""
        if (self._directory / f"{uid}.nxs").exists():
            message = f"derived run {uid} is complete in {self._directory}"
            raise RunCompleteError(message)
        folder = self._directory / uid
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(lock)
            raise
        return lock
