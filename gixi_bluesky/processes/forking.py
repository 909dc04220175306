"""Copies of a child process by fork, which share what it has built."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import cast

from gixi_bluesky.processes.child import ChildProcess
from gixi_bluesky.processes.entry import end_with
from gixi_bluesky.processes.peer import STUCK_S, Peer, connected

__all__ = ["CopyRequest", "CopyServed", "ForkedCopy", "can_fork", "serve_copy"]

_EXIT_S = 1.0
_POLL_S = 0.01
_OURS = {"gixi-parent"}
_FORK_SAFE = ("jemalloc_bg",)  # jemalloc renews its threads in the copy


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """Asks a child to fork a copy of itself, or (pid) how a copy ended.

    descriptors: how many follow, the copy's end of its socket first
    """

    scan_pid: int
    descriptors: int = 0
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class CopyServed:
    """The answer: the copy's pid, or its exit code (-signal; None = it has not ended)."""

    pid: int
    code: int | None = None


class ForkedCopy(Peer):
    """A copy of a child process that is idle and answers CopyRequests (`serve_copy`).

    name: what error messages call the process
    keep: descriptors that the copy gets, under numbers of its own
    """

    def __init__(self, original: ChildProcess, *, name: str, keep: Sequence[int] = ()) -> None:
        super().__init__(name)
        self._original = original
        self._keep = tuple(keep)
        self._pid: int | None = None
        self._original_pid: int | None = None
        self._pidfd = -1
        self._owner = os.getpid()

    @property
    def alive(self) -> bool:
        """True if the process is there."""
        return self._pid is not None and _state(self._pid) not in "ZX"

    @property
    def pid(self) -> int | None:
        """Process id; that of the last process when it has ended."""
        return self._pid

    def start(self) -> None:
        """Fork the copy, ending the one before. Raises ProcessEndedError of the original."""
        self.end()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            descriptors = (theirs.fileno(), *self._keep)
            self._original.send(CopyRequest(self._owner, len(descriptors)))
            for descriptor in descriptors:
                self._original.hand_over(descriptor)
            served = cast("CopyServed", self._original.receive(STUCK_S))
            self._connection = connected(ours)
        self._pid, self._original_pid = served.pid, self._original.pid
        # As the original waits for its copies when asked only, the number is still this copy's.
        with contextlib.suppress(AttributeError, OSError):
            self._pidfd = os.pidfd_open(served.pid)

    def end(self) -> None:
        """Kill the process, if it is running."""
        self._disconnect()
        if self._pid is None or self._owner != os.getpid():
            return
        self._kill()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self._exit_code()
        self._pid = None

    def _kill(self) -> None:
        with contextlib.suppress(OSError):
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            elif self._has_original() and self._pid is not None:
                os.kill(self._pid, signal.SIGKILL)

    def _has_original(self) -> bool:
        """Return whether the process that forked this copy is there; another cannot wait for it."""
        return self._original_pid == self._original.pid and self._original.alive

    def _exit_code(self) -> int | None:
        if self._pid is None or not self._has_original():
            return None
        deadline = time.monotonic() + _EXIT_S
        with contextlib.suppress(Exception):  # the original has ended
            while time.monotonic() < deadline:
                request = CopyRequest(self._owner, pid=self._pid)
                code = cast("CopyServed", self._original.ask(request, STUCK_S)).code
                if code is not None:
                    return code
                time.sleep(_POLL_S)
        return None


def can_fork() -> bool:
    """Return whether a copy of this process would work: no foreign threads, no GPU in use."""
    import sys

    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return False
    try:
        names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    except OSError:
        return False
    others = [name for name in names if not name.startswith(_FORK_SAFE)]
    return len(others) <= 1 + len(_OURS)


def serve_copy(
    parent: Connection, request: CopyRequest, run: Callable[[Connection, list[int]], None]
) -> None:
    """Serve a copy request; the copy calls `run(connection, descriptors)` and never returns."""
    if request.pid is not None:
        parent.send(CopyServed(request.pid, _reaped(request.pid)))
        return
    descriptors = [recv_handle(parent) for _ in range(request.descriptors)]
    gc.collect()
    gc.freeze()  # the collector would write to, and so copy, every page of the original
    with warnings.catch_warnings():
        # The other thread only waits for the end of the parent; the copy starts one of its own.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _become_copy(parent, request.scan_pid, descriptors, run)
    for descriptor in descriptors:
        os.close(descriptor)
    parent.send(CopyServed(pid))


def _become_copy(
    parent: Connection,
    scan_pid: int,
    descriptors: list[int],
    run: Callable[[Connection, list[int]], None],
) -> None:
    code = 1
    try:
        parent.close()
        end_with(scan_pid, descriptors[0])
        with Connection(descriptors[0]) as connection:
            run(connection, descriptors[1:])
        code = 0
    finally:
        os._exit(code)


def _reaped(pid: int) -> int | None:
    try:
        done, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0  # asked twice
    return os.waitstatus_to_exitcode(status) if done else None


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "X"
