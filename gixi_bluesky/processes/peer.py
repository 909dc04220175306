"""A process at the other end of a socket: messages, answers and exit."""

from __future__ import annotations

import signal
import socket
import struct
import threading
from abc import ABC, abstractmethod
from multiprocessing.connection import Connection

from gixi_bluesky.errors import GixiError

__all__ = ["STUCK_S", "Peer", "ProcessEndedError", "connected"]

STUCK_S = 30  # a message that stalls for so long is given up


class ProcessEndedError(GixiError):
    """The child process is gone; a new one may be started."""


class Peer(ABC):
    """The parent's view of a process; subclasses say how it starts and ends.

    name: what error messages call the process
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._connection: Connection | None = None
        self._closing = threading.Lock()

    @property
    @abstractmethod
    def alive(self) -> bool:
        """True if the process is there."""

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """Process id; that of the last process when it has ended."""

    @abstractmethod
    def start(self) -> None:
        """Start the process, ending the one before. Raises OSError or ProcessEndedError."""

    @property
    def connection(self) -> Connection | None:
        """The parent's end of the connection, to wait for several children; None = ended."""
        return self._connection

    def send(self, message: object) -> None:
        """Send a message. Raises ProcessEndedError, also when the child does not read for long."""
        try:
            self._open().send(message)
        except OSError as error:
            raise self._ended() from error

    def receive(self, timeout: float) -> object:
        """Return the next message. Raises TimeoutError or ProcessEndedError."""
        try:
            connection = self._open()
            if connection.poll(timeout):
                return connection.recv()
        except (EOFError, OSError) as error:
            raise self._ended() from error
        message = f"the {self._name} process did not answer within {timeout:g} s"
        raise TimeoutError(message)

    def ask(self, message: object, timeout: float) -> object:
        """Send a message and return the answer; a process that gives none in time is killed.

        Raises ProcessEndedError.
        """
        self.send(message)
        try:
            return self.receive(timeout)
        except TimeoutError as error:
            self.end()
            raise ProcessEndedError(str(error)) from error

    @abstractmethod
    def end(self) -> None:
        """Kill the process, if it is running."""

    def _open(self) -> Connection:
        if self._connection is None:
            raise self._ended()
        return self._connection

    def _disconnect(self) -> None:
        # Closed by two threads, the second would close a file that the number was given to since.
        with self._closing:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    @abstractmethod
    def _exit_code(self) -> int | None:
        """Return how the process ended: its exit code, -signal, None while it is there."""

    def _ended(self) -> ProcessEndedError:
        return ProcessEndedError(f"the {self._name} process {_how_it_ended(self._exit_code())}")


def connected(end: socket.socket) -> Connection:
    """Return a connection over a socket, which it takes, that no half-sent message can block."""
    limit = struct.pack("ll", STUCK_S, 0)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    return Connection(end.detach())


def _how_it_ended(code: int | None) -> str:
    """Return how a process with this exit status (negative: a signal) ended, in words."""
    if code is None:
        return "no longer answers"
    if code >= 0:
        return f"ended with code {code}"
    hint = ", as by the kernel when memory runs out" if code == -signal.SIGKILL else ""
    return f"ended by signal {-code} ({signal.strsignal(-code)}{hint})"
