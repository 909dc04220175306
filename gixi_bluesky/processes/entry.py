"""The first code of a child process, run as a file: `python -P entry.py DESCRIPTOR`.

Only the standard library may be imported at the top: the import path comes over the socket.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["end_with", "main"]


def main(arguments: list[str]) -> None:
    """Serve the parent at the other end of the socket whose descriptor is the argument."""
    # Ctrl-C pauses the scan, and Slurm signals all processes of a job: the parent decides.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    with Connection(int(arguments[0])) as parent:
        try:
            sys.path[:] = parent.recv()
            start: Any = parent.recv()
        except (EOFError, ConnectionError):
            return  # the parent ended
        start.limits.apply()
        if start.log is not None:
            log = import_module("gixi_bluesky.log")
            log.configure_logging(start.log.level, json=start.log.json)
        end_with(start.parent_pid, parent.fileno())
        module, _, name = start.target.partition(":")
        getattr(import_module(module), name)(parent)


def end_with(pid: int, descriptor: int) -> None:
    """End this process when process `pid` ends or the other end of the socket is closed.

    Without this, a busy child would outlive a parent that was killed.
    """
    ends = select.poll()
    ends.register(descriptor, 0)  # POLLHUP and POLLERR come without being asked for
    with contextlib.suppress(AttributeError, OSError):  # an older kernel: the socket has to do
        ends.register(os.pidfd_open(pid), select.POLLIN)
    threading.Thread(target=_exit_after, args=(ends,), name="gixi-parent", daemon=True).start()


def _exit_after(ends: select.poll) -> None:
    ends.poll()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
