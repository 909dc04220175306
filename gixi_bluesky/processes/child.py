"""A child process: its start and its end, from the parent's side."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.reduction import send_handle
from pathlib import Path

from gixi_bluesky.errors import GixiError
from gixi_bluesky.log import LogSettings, get_logger, log_settings
from gixi_bluesky.processes.empty_folder import empty_folder
from gixi_bluesky.processes.limits import Limits
from gixi_bluesky.processes.peer import STUCK_S, Peer, ProcessEndedError, connected

__all__ = ["ChildProcess", "ProcessEndedError", "Start", "import_path", "portable_error"]

_ENTRY = Path(__file__).with_name("entry.py")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_EXIT_S = 1.0
_log = get_logger()


@dataclass(frozen=True, slots=True)
class Start:
    """The first message to a child process, after the import path.

    target: "module:function" that is called with the connection to the parent
    log: how to log; None = as structlog does by default
    """

    target: str
    limits: Limits
    log: LogSettings | None
    parent_pid: int


class ChildProcess(Peer):
    """A Python process that runs one function of this package with a connection to this process.

    It is not a multiprocessing.Process, which would run the user's script again and so needs a
    main guard. The child has the parent's import path, with the standard library first, its own
    session (Ctrl-C does not reach it) and stderr as its stdout. It ends with its parent.

    target: "module:function", called in the child with its end of the connection
    name: what error messages call the process
    threads: of OpenMP, MKL and OpenBLAS; None = as in the parent
    keep: descriptors that the child inherits
    folder: the child's working directory; None = an empty one
    """

    def __init__(
        self,
        target: str,
        *,
        name: str,
        limits: Limits | None = None,
        threads: int | None = None,
        keep: Sequence[int] = (),
        folder: Path | None = None,
    ) -> None:
        super().__init__(name)
        self._start = Start(target, limits or Limits(), log_settings(), os.getpid())
        self._threads = threads
        self._keep = tuple(keep)
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        """True if the process is there."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int | None:
        """Process id; that of the last process when it has ended."""
        return self._child.pid if self._child is not None else None

    def start(self) -> None:
        """Start the process, ending the one before. Raises OSError or ProcessEndedError."""
        self.end()
        ours, theirs = socket.socketpair()
        with theirs, ours:
            self._child = subprocess.Popen(  # noqa: S603 - our own module, no shell
                [sys.executable, "-P", str(_ENTRY), str(theirs.fileno())],
                pass_fds=(theirs.fileno(), *self._keep),
                stdin=subprocess.DEVNULL,
                stdout=2,  # the caller's stdout may be a stream of JSON lines
                env=self._environment(),
                cwd=self._folder or empty_folder(),
                start_new_session=True,
            )
            self._connection = connected(ours)
        self.send(import_path())
        self.send(self._start)

    def hand_over(self, descriptor: int) -> None:
        """Send an open descriptor after a message that announced it. Raises ProcessEndedError."""
        try:
            send_handle(self._open(), descriptor, self.pid or 0)
        except OSError as error:
            raise self._ended() from error

    def end(self) -> None:
        """Kill the process, if it is running."""
        self._disconnect()
        if self._child is not None and self._start.parent_pid == os.getpid():
            with contextlib.suppress(OSError):
                self._child.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the kernel: left there
                self._child.wait(timeout=STUCK_S)

    def _environment(self) -> dict[str, str]:
        if self._threads is None:
            return dict(os.environ)
        return {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(self._threads))}

    def _exit_code(self) -> int | None:
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._child.wait(timeout=_EXIT_S)
        return None


def import_path() -> list[str]:
    """Return the import path of this process with the standard library first.

    The folder of the script comes first in `sys.path`; a `re.py` that lies there must not take
    the place of the library's module in a child.
    """
    paths = sysconfig.get_paths()
    library = (paths["stdlib"], paths["platstdlib"])
    entries = [entry or os.getcwd() for entry in sys.path]  # noqa: PTH109 - as Python means ""
    return sorted(entries, key=lambda entry: not _is_library(entry, library))


def _is_library(entry: str, library: tuple[str, ...]) -> bool:
    name = Path(entry).name
    zipped = name.startswith("python") and name.endswith(".zip")
    return entry in library or name == "lib-dynload" or zipped


def portable_error(error: Exception, doing: str) -> Exception:
    """Return an error that can be sent to the parent: our own ones as they are, else a GixiError.

    doing: what failed, for the message: "the pipeline cannot be built"
    """
    if type(error).__module__ == GixiError.__module__:
        return type(error)(*(str(argument) for argument in error.args))
    _log.error("child_process_error", doing=doing, exc_info=error)
    return GixiError(f"{doing}: {type(error).__name__}: {error}")
