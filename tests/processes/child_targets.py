"""What child processes of the tests run."""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from gixi_bluesky.processes.forking import can_fork, serve_copy
from gixi_bluesky.processes.shared_blocks import mapped


def echo(parent: Connection) -> None:
    """Send every message back."""
    while True:
        parent.send(parent.recv())


def surroundings(parent: Connection) -> None:
    """Say where and how this process runs."""
    parent.send(
        {
            "folder": [entry.name for entry in Path().iterdir()],
            "re": re.__file__,
            "path": sys.path,
            "niceness": os.nice(0),
            "oom": Path("/proc/self/oom_score_adj").read_text().strip(),
            "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "threads": os.environ.get("OMP_NUM_THREADS"),
        }
    )


def fills_memory(parent: Connection) -> None:
    """Allocate more than any limit, and say how that ended."""
    try:
        bytearray(64 << 30)
    except MemoryError:
        parent.send("MemoryError")


def sums(parent: Connection) -> None:
    """Send the sum of each shared array."""
    while True:
        parent.send(float(mapped(parent.recv()).sum()))


def busy(parent: Connection) -> None:
    """Never answer."""
    parent.send(os.getpid())
    while True:
        time.sleep(60)


def dies(parent: Connection) -> None:
    """Die as soon as a message came."""
    parent.recv()
    os.kill(os.getpid(), signal.SIGKILL)


def freezes_half_way(parent: Connection) -> None:
    """Begin a message and never finish it."""
    os.write(parent.fileno(), (1000).to_bytes(4, "big") + b"x")
    time.sleep(60)


def forks(parent: Connection) -> None:
    """Build a list, then fork copies that answer with it."""
    built = [os.getpid()]

    def run(connection: Connection, descriptors: list[int]) -> None:
        while True:
            asked = connection.recv()
            if asked == "built":
                connection.send([*built, os.getpid()])
            elif asked == "pid":
                connection.send(os.getpid())
            else:
                connection.send(float(mapped(replace(asked, descriptor=descriptors[0])).sum()))

    parent.send("can fork" if can_fork() else "cannot fork")
    while True:
        serve_copy(parent, parent.recv(), run)
