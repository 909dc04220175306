"""Access to HDF5 files from the process of the scan: a child process writes them."""

from __future__ import annotations

import atexit
import threading
import weakref
from functools import cache
from typing import Any

from gixi_bluesky.errors import GixiError, StoreError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.child import ChildProcess, ProcessEndedError
from gixi_bluesky.processes.limits import Limits
from gixi_bluesky.tiled_adapters.files.requests import Request

__all__ = ["FileProcess", "FileProcessError", "StorageHangsError", "file_process"]

_CHILD = "gixi_bluesky.tiled_adapters.files.writer_child:serve"
_START_S = 120.0
_log = get_logger()


class FileProcessError(StoreError):
    """The HDF5 process died, with the parts it had open; another one takes the next request."""


class StorageHangsError(FileProcessError):
    """The HDF5 process did not answer in time: its disk or file system does not respond."""


_all: weakref.WeakSet[FileProcess] = weakref.WeakSet()


class FileProcess:
    """A child process that writes and reads HDF5; started when it is needed, replaced when it died.

    HDF5 is never loaded here: a full disk makes it crash, and a frozen file system blocks every
    caller of the library. `generation` counts the processes; parts that an earlier one had open
    must be begun again. May be used from several threads.

    niceness: added to that of this process
    """

    def __init__(self, niceness: int = 0) -> None:
        self._limits = Limits(niceness=niceness)
        _all.add(self)
        self._ready = False
        self._lock = threading.Lock()
        self._child: ChildProcess | None = None
        self.generation = 0

    @property
    def pid(self) -> int | None:
        """Process id of the child, None when there is none."""
        child = self._child
        return None if child is None else child.pid

    def start(self) -> None:
        """Start the process if there is none, so that the first request need not wait for it."""
        with self._lock:
            if self._child is None or not self._child.alive:
                self._start()

    def ask(self, request: Request, timeout: float) -> Any:
        """Return the answer to a request.

        Raises StoreError that the disk caused, StorageHangsError after `timeout` seconds, and
        FileProcessError when the process died.
        """
        if not self._lock.acquire(timeout=timeout):
            message = f"another file has not been written for {timeout:g} s; the storage hangs"
            raise StorageHangsError(message)
        try:
            answer = self._ask(request, timeout)
        finally:
            self._lock.release()
        if isinstance(answer, StoreError):
            raise answer
        if isinstance(answer, Exception):
            message = f"the HDF5 process could not {type(request).__name__.lower()}: {answer}"
            raise StoreError(message) from answer
        return answer

    def kill(self) -> None:
        """Kill the process and wait for its end, when this process ends."""
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def end(self) -> None:
        """End the process; what it has not flushed is lost."""
        child, self._child = self._child, None
        if child is not None:
            # In a thread of its own, since a process that waits for its disk cannot be killed.
            threading.Thread(target=child.end, name="gixi-file-end", daemon=True).start()

    def _ask(self, request: Request, timeout: float) -> object:
        try:
            if self._child is None or not self._child.alive:
                self._start()
            child = self._child
            if child is None:
                raise ProcessEndedError("the HDF5 process was ended")
            if not self._ready:
                child.receive(_START_S)
                self._ready = True
            child.send(request)
            return child.receive(timeout)
        except TimeoutError as error:
            self.end()
            message = f"the storage has not responded for {timeout:g} s"
            raise StorageHangsError(message) from error
        except (GixiError, OSError) as error:
            self.end()
            raise FileProcessError(str(error)) from error

    def _start(self) -> None:
        child = ChildProcess(_CHILD, name="HDF5", threads=1, limits=self._limits)
        child.start()
        self._ready = False
        self._child = child
        self.generation += 1
        if self.generation > 1:
            _log.warning("file_process_replaced", pid=child.pid)


@cache
def file_process() -> FileProcess:
    """Return the process that flushes are written by."""
    return FileProcess()


@atexit.register
def _end_all() -> None:
    for process in list(_all):
        process.kill()
