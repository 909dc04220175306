"""The analysis process as its parent sees it: started, fed and heard over a socket of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any, cast

import numpy as np

from gixi_bluesky.callbacks.images.locations import InlineImage
from gixi_bluesky.callbacks.worker.jobs import Job, Outcome, Ready, Setup, SharedImage
from gixi_bluesky.errors import GixiError
from gixi_bluesky.log import log_settings

__all__ = ["IN_FLIGHT", "PIPELINE", "AnalysisProcess", "ProcessEndedError"]

PIPELINE = "gixi_bluesky.processing.pipeline:Pipeline"
IN_FLIGHT = 2  # jobs handed over: one being analysed, one ready to follow

_MODULE = "gixi_bluesky.callbacks.worker.child"
_START_TIMEOUT_S = 300.0
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class ProcessEndedError(GixiError):
    """The analysis process is gone; a new one may be started."""


class AnalysisProcess:
    """One child process that answers jobs in the order in which they are submitted.

    Not multiprocessing.Process: that would run the user's script again, which needs a main guard.
    """

    def __init__(self, config: Any, factory: str = PIPELINE) -> None:
        self._blocks = tuple(_shared_block() for _ in range(IN_FLIGHT))
        threads = config.queue.worker_threads
        self._setup = Setup(factory, config, config.input, threads, self._blocks, log_settings())
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._submitted = 0

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int | None:
        """Its process id, the last one's when it is gone."""
        return self._child.pid if self._child is not None else None

    def start(self) -> Ready:
        """Start it and wait until its pipeline is built.

        Raises what building the pipeline raised, ProcessEndedError when the process died of it.
        """
        self.end()
        ours, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(  # noqa: S603 - our own module, no shell
                [sys.executable, "-m", _MODULE, str(theirs.fileno())],
                pass_fds=(theirs.fileno(), *self._blocks),
                stdin=subprocess.DEVNULL,
                stdout=2,  # the caller's stdout may be a stream of JSON lines
                env=_environment(self._setup.threads),
                start_new_session=True,  # Ctrl-C at the terminal is the scan's
            )
        self._connection = Connection(ours.detach())
        try:
            self._connection.send(_import_path())
            self._connection.send(self._setup)
            answer = self._receive(_START_TIMEOUT_S)
            if answer is None:
                message = f"the pipeline was not built within {_START_TIMEOUT_S:.0f} s"
                raise ProcessEndedError(message)
            if isinstance(answer, Exception):
                raise answer
        except BaseException:
            self.end()
            raise
        self._submitted = 0
        return cast("Ready", answer)

    def submit(self, job: Job) -> None:
        """Hand a job over; at most IN_FLIGHT may be unanswered. Raises ProcessEndedError."""
        if isinstance(job.image, InlineImage):
            # Answers come in order, so the block of two jobs ago is free.
            number = self._submitted % IN_FLIGHT
            shared = _share(job.image.array, self._blocks[number], number)
            job = replace(job, image=shared)
        try:
            self._ours().send(job)
        except OSError as error:
            raise self._ended() from error
        self._submitted += 1

    def answer(self, timeout: float) -> Outcome | None:
        """Return the outcome of the oldest job, None after `timeout` seconds.

        Raises ProcessEndedError.
        """
        return cast("Outcome | None", self._receive(timeout))

    def end(self) -> None:
        """Kill the process, if it is there."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._child is not None:
            with contextlib.suppress(OSError):
                self._child.kill()
            self._child.wait()

    def close(self) -> None:
        """Kill the process and give the shared memory back."""
        self.end()
        for block in self._blocks:
            with contextlib.suppress(OSError):
                os.close(block)
        self._blocks = ()

    def _receive(self, timeout: float) -> Any:
        try:
            connection = self._ours()
            return connection.recv() if connection.poll(timeout) else None
        except (EOFError, OSError) as error:
            raise self._ended() from error

    def _ours(self) -> Connection:
        if self._connection is None:
            raise EOFError
        return self._connection

    def _ended(self) -> ProcessEndedError:
        code: int | None = None
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._child.wait(timeout=1.0)
        how = f"by signal {-code}" if code is not None and code < 0 else f"with code {code}"
        return ProcessEndedError(f"the analysis process ended {how}")


def _import_path() -> list[str]:
    return [entry or os.getcwd() for entry in sys.path]  # noqa: PTH109 - as Python itself means ""


def _environment(threads: int) -> dict[str, str]:
    # The package may have been found through sys.path, not through an installation.
    path = os.pathsep.join(_import_path())
    return {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads)), "PYTHONPATH": path}


def _shared_block() -> int:
    """Return a descriptor of memory that a child can map, empty at first."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("gixi-frame")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _share(array: np.ndarray[Any, Any], block: int, number: int) -> SharedImage:
    """Copy an image into a block. Raises OSError when there is no memory."""
    # Written, not mapped: where memory runs out, a write fails and a mapping kills the scan.
    view = memoryview(np.ascontiguousarray(array).data).cast("B") if array.size else memoryview(b"")
    done = 0
    while done < len(view):
        done += os.pwrite(block, view[done:], done)
    return SharedImage(number, array.shape, array.dtype.str)
