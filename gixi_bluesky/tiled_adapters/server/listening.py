"""An ASGI application served in a thread."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from gixi_bluesky.errors import StoreError

__all__ = ["LOOPBACK", "serving_app"]

LOOPBACK = "127.0.0.1"
_START_TIMEOUT_S = 60.0


@contextlib.contextmanager
def serving_app(app: Any, host: str, port: int) -> Iterator[int]:
    """Serve an ASGI application and yield its port, a free one if `port` is 0.

    Raises StoreError when the port is taken or the server does not start.
    """
    import uvicorn

    listening = _listen(host, port)
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_config=None, log_level="warning", lifespan="on", ws="websockets-sansio"
        )
    )
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listening]}, name="tiled-server", daemon=True
    )
    thread.start()
    try:
        _wait(lambda: server.started, thread)
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(timeout=_START_TIMEOUT_S)
        listening.close()


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        message = f"cannot listen on {host}:{port}: {error.strerror}; choose another port"
        raise StoreError(message) from error
    return listening


def _wait(ready: Callable[[], bool], thread: threading.Thread) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not ready():
        if not thread.is_alive() or time.monotonic() > deadline:
            message = "the server did not start; its log on stderr says why"
            raise StoreError(message)
        time.sleep(0.02)
