"""The embedded Tiled server: sqlite catalogue, duckdb tables, loopback, a key for everyone."""

from __future__ import annotations

import contextlib
import copy
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gixi_bluesky.errors import ConfigError, StoreError

__all__ = [
    "CATALOGUES",
    "KEY_VARIABLE",
    "EmbeddedServer",
    "embedded_server",
    "serve",
    "server_config",
]

CATALOGUES = ("raw", "gixi")
KEY_VARIABLE = "TILED_SINGLE_USER_API_KEY"
_START_TIMEOUT_S = 60.0


def server_config(
    directory: str | Path,
    *,
    api_key: str | None = None,
    readable: Iterable[str | Path] = (),
) -> dict[str, Any]:
    """Return the Tiled configuration of an embedded server that keeps its state below `directory`.

    Files below `directory` and the `readable` folders are served. The key is `api_key`, else the
    environment's TILED_SINGLE_USER_API_KEY, else a fresh one. Raises ConfigError for a key that
    Tiled would refuse.
    """
    home = Path(directory).absolute()
    state = home / ".tiled"
    catalogue = state / "catalog.db"
    roots = [home, *(Path(folder).absolute() for folder in readable)]
    return {
        "catalog": {
            "uri": f"sqlite:///{catalogue}",
            "init_if_not_exists": not catalogue.exists(),
            "writable_storage": [(state / "data").as_uri(), f"duckdb:///{state / 'tables.duckdb'}"],
            "readable_storage": [root.as_uri() for root in dict.fromkeys(roots)],
        },
        "media_types": {
            "BlueskyRun": {
                "application/json-seq": "bluesky_tiled_plugins.exporters:json_seq_exporter"
            }
        },
        "authentication": {
            "single_user_api_key": _checked_key(api_key or os.environ.get(KEY_VARIABLE)),
            "allow_anonymous_access": False,
        },
        "streaming_cache": {"uri": "memory"},
    }


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A running server: where it listens and the key that opens it."""

    uri: str
    api_key: str
    directory: Path
    _contexts: list[Any] = field(default_factory=list, repr=False)

    def client(self) -> Any:
        """Return a new Tiled client at the root of the server, closed together with it."""
        from tiled.client import from_uri

        client = from_uri(self.uri, api_key=self.api_key)
        self._contexts.append(client.context)
        return client

    def close_clients(self) -> None:
        """Close the connections of every client that was handed out."""
        while self._contexts:
            self._contexts.pop().close()

    def catalog(self, name: str) -> Any:
        """Return a client of the catalogue `raw` or `gixi`."""
        return self.client()[name]

    def __repr__(self) -> str:
        return f"<EmbeddedServer {self.uri}>"


@contextlib.contextmanager
def embedded_server(
    directory: str | Path,
    port: int | None = None,
    api_key: str | None = None,
    readable: Iterable[str | Path] = (),
) -> Iterator[EmbeddedServer]:
    """Serve `directory` on a loopback port from a thread of this process.

    Raises StoreError when the port is taken or the server does not start.
    """
    import uvicorn

    config = server_config(directory, api_key=api_key, readable=readable)
    app = _build(Path(directory), config)
    listening = _listen(port or 0)
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_config=None, log_level="warning", lifespan="on", ws="websockets-sansio"
        )
    )
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listening]}, name="tiled-server", daemon=True
    )
    thread.start()
    running = None
    try:
        _wait(lambda: server.started, thread)
        uri = f"http://127.0.0.1:{listening.getsockname()[1]}/api/v1"
        running = EmbeddedServer(
            uri, config["authentication"]["single_user_api_key"], Path(directory).absolute()
        )
        _make_catalogues(running)
        yield running
    finally:
        if running is not None:
            running.close_clients()
        server.should_exit = True
        thread.join(timeout=_START_TIMEOUT_S)
        listening.close()


def serve(
    directory: str | Path,
    port: int = 8000,
    api_key: str | None = None,
    readable: Iterable[str | Path] = (),
    ready: Any = None,
) -> None:
    """Serve `directory` until interrupted; `ready` is given the EmbeddedServer once it runs."""
    with embedded_server(directory, port, api_key, readable) as server:
        if ready is not None:
            ready(server)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


def _build(directory: Path, config: dict[str, Any]) -> Any:
    from tiled.server.app import build_app_from_config
    from tiled.server.settings import get_settings

    import gixi_bluesky.tiled_adapters.server_plugin  # noqa: F401 - it registers our queries

    (directory / ".tiled" / "data").mkdir(parents=True, exist_ok=True)
    app = build_app_from_config(config)
    # All Tiled servers of a process share one settings object, and so the key of the youngest.
    settings = copy.deepcopy(app.dependency_overrides[get_settings]())
    app.dependency_overrides[get_settings] = lambda: settings
    _pool_connections(config["catalog"]["writable_storage"][-1])
    return app


def _pool_connections(uri: str) -> None:
    """Give every request for a table its own connection to the database.

    Tiled 0.2.20 shares one DuckDB connection between its threads, so that a read which ends rolls
    back the append that goes on beside it: error 500, or a crash of the whole process.
    """
    from sqlalchemy.pool import QueuePool
    from tiled.storage import parse_storage

    storage = parse_storage(uri)  # the instance that the catalogue uses
    clone = storage._adbc_connection.adbc_clone  # noqa: SLF001 - there is no public way
    vars(storage)["_connection_pool"] = QueuePool(clone, pool_size=5, max_overflow=10)


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError as error:
        listening.close()
        message = f"cannot listen on 127.0.0.1:{port}: {error.strerror}; choose another port"
        raise StoreError(message) from error
    return listening


def _wait(ready: Any, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not ready():
        if not thread.is_alive() or time.monotonic() > deadline:
            message = "the Tiled server did not start; its log on stderr says why"
            raise StoreError(message)
        time.sleep(0.02)


def _make_catalogues(server: EmbeddedServer) -> None:
    from tiled.structures.core import Spec

    root = server.client()
    for name in CATALOGUES:
        if name not in root:
            root.create_container(name, specs=[Spec("CatalogOfBlueskyRuns", version="3.0")])


def _checked_key(key: str | None) -> str:
    if key is None:
        return secrets.token_hex(32)
    if not re.fullmatch(r"[a-zA-Z0-9]{8,}", key):
        message = (
            f"the key of the Tiled server has {len(key)} characters; "
            "expected at least 8, letters and digits only"
        )
        raise ConfigError(message)
    return key
