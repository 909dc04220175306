"""The finished file of a derived run, written in the background after the last flush."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

from gixi_bluesky.errors import StoreError
from gixi_bluesky.log import get_logger
from gixi_bluesky.tiled_adapters.files.file_process import FileProcess
from gixi_bluesky.tiled_adapters.files.requests import Finish, Finished, RemoveParts
from gixi_bluesky.tiled_adapters.schema import StreamTable
from gixi_bluesky.tiled_adapters.settings import OutputSettings

__all__ = ["Finishing"]

_ATTEMPTS = 3
_S_PER_FRAME = 1.0  # the longest, on a busy machine
_log = get_logger()


@cache
def _finishing_process() -> FileProcess:
    """Return the process that repacks, separate from the one of the flushes."""
    return FileProcess(niceness=10)


class Finishing:
    """Writes `<uid>.nxs`, and later removes the parts, in separate threads.

    A disk that refuses three times is reported in `error`, and the parts stay.

    tables: of the run
    required: there is no Tiled, and the file is what says that the run is complete
    """

    def __init__(
        self,
        uid: str,
        output: OutputSettings,
        tables: tuple[StreamTable, ...],
        *,
        required: bool,
    ) -> None:
        self._uid = uid
        self._tables = tables
        self._output = output
        self._required = required
        self._thread: threading.Thread | None = None
        self._remover: threading.Thread | None = None
        self._failure: StoreError | None = None
        self._failures = 0
        self._over = False
        self.finished: Finished | None = None
        self.error = ""

    @property
    def begun(self) -> bool:
        """True if a file was requested."""
        return self._thread is not None or self._over

    @property
    def running(self) -> bool:
        """True if the file is being written."""
        return not self._over

    def step(self, stop: Mapping[str, Any]) -> Finished | None:
        """Return the finished file; None while it is written (`running`) and when there is none.

        Raises StoreError while a retry may help.
        """
        if self._over:
            return self.finished
        if self._thread is None:
            self._failure = None
            self._thread = threading.Thread(
                target=self._write, args=(dict(stop),), name="gixi-finish", daemon=True
            )
            self._thread.start()
        if self._thread.is_alive():
            return None
        self._thread = None
        if self._failure is not None:
            self._take_failure(self._failure)
        self._over = True
        if self.finished is not None and self.finished.gaps:
            self.error = self.finished.gaps
        return self.finished

    def remove_parts(self) -> None:
        """Begin, once, to remove the parts that the finished file does not need."""
        if self._remover is not None:
            return
        self._remover = threading.Thread(target=self._remove, name="gixi-finish", daemon=True)
        self._remover.start()

    @property
    def removing(self) -> bool:
        """True if parts are being removed."""
        return self._remover is not None and self._remover.is_alive()

    def _remove(self) -> None:
        request = RemoveParts(self._output.directory.absolute(), self._uid)
        try:
            _finishing_process().ask(request, self._output.storage_timeout_s)
        except Exception as error:  # the parts cost room, nothing else
            _log.warning("parts_not_removed", uid=self._uid, error=str(error))

    def _write(self, stop: Mapping[str, Any]) -> None:
        output = self._output
        n_frames = int(stop.get("num_events", {}).get("frames", 0))
        timeout = output.storage_timeout_s + _S_PER_FRAME * n_frames
        directory = output.directory.absolute()
        request = Finish(directory, self._uid, self._tables, output.repack, stop)
        try:
            self.finished = _finishing_process().ask(request, timeout)
        except StoreError as error:
            self._failure = error
        except Exception as error:  # the thread must report how it ended
            _log.exception("finishing_failed", uid=self._uid)
            self._failure = StoreError(f"{self._uid}.nxs was not written: {error!r}")

    def _take_failure(self, failure: StoreError) -> None:
        """Raise the failure again, or record it after the last attempt."""
        self._failures += 1
        if self._required or self._failures < _ATTEMPTS:
            raise failure
        _log.error("run_not_finished_in_file", uid=self._uid, error=str(failure))
        self.error = (
            f"{self._uid}.nxs was not written: {failure}; the images are in the parts of the run, "
            f"and `gixi-bluesky export {self._uid} --nexus` writes the file"
        )
