"""A Tiled server with this package's adapters in a thread, embedded or configured by a file."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gixi_bluesky.errors import ConfigError
from gixi_bluesky.tiled_adapters.server.configuration import (
    CATALOGUES,
    read_server_config,
    server_config,
)
from gixi_bluesky.tiled_adapters.server.listening import LOOPBACK, serving_app
from gixi_bluesky.tiled_adapters.server.new_catalogue import make_catalogue
from gixi_bluesky.tiled_adapters.server.state_folder import catalogue_of, held_state

__all__ = ["EmbeddedServer", "configured_server", "embedded_server"]

Around = Callable[[Any, str], Any]


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A server in a thread of this process: its address and, if there is one, its key.

    directory: what an embedded server serves; of another, the folder of its configuration
    """

    uri: str
    api_key: str
    directory: Path
    _contexts: list[Any] = field(default_factory=list, repr=False)

    @property
    def base(self) -> str:
        """`http://HOST:PORT`, without the path of the API."""
        return self.uri.removesuffix("/api/v1")

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
    around: Around | None = None,
) -> Iterator[EmbeddedServer]:
    """Serve `directory` on a loopback port: sqlite catalogue, duckdb tables, a key for everyone.

    around: returns the ASGI application to serve, given that of Tiled and its API key

    Raises StoreError when the port is taken, another server holds the folder, or this one does
    not start.
    """
    home = Path(directory).absolute()
    with held_state(home) as note_address:
        config = server_config(directory, api_key=api_key, readable=readable)
        if not (catalogue := catalogue_of(home)).exists():
            make_catalogue(catalogue)
        with _serving(config, home, LOOPBACK, port or 0, around) as server:
            note_address(server.uri)
            yield server


@contextlib.contextmanager
def configured_server(
    path: Path, port: int | None = None, around: Around | None = None
) -> Iterator[EmbeddedServer]:
    """Serve by a configuration file of Tiled, on loopback unless it names another host.

    around: as of `embedded_server`. Raises ConfigError for a wrong file, StoreError when the server
    does not start.
    """
    from tiled.utils import prepend_to_sys_path

    config = read_server_config(path)
    listen = config.get("uvicorn", {})
    home = path.absolute().parent
    host = listen.get("host", LOOPBACK)
    with (
        prepend_to_sys_path(home),  # Tiled imports modules named in the file from there
        _serving(config, home, host, port or listen.get("port", 8000), around) as server,
    ):
        yield server


@contextlib.contextmanager
def _serving(
    config: dict[str, Any], home: Path, host: str, port: int, around: Around | None
) -> Iterator[EmbeddedServer]:
    app = _build(config)
    key = config["authentication"].get("single_user_api_key") or ""
    if around is not None:
        app = around(app, key)
    with serving_app(app, host, port) as listening:
        address = LOOPBACK if host == "0.0.0.0" else host  # noqa: S104 - compared, not bound
        running = EmbeddedServer(f"http://{address}:{listening}/api/v1", key, home)
        try:
            if key:
                _make_catalogues(running)
            yield running
        finally:
            running.close_clients()


def _build(config: dict[str, Any]) -> Any:
    from pydantic import ValidationError
    from tiled.server.app import build_app_from_config
    from tiled.server.settings import get_settings

    from gixi_bluesky.tiled_adapters.server.duckdb_pool import pool_connections
    from gixi_bluesky.tiled_adapters.server.rights import add_rights

    try:
        with warnings.catch_warnings():
            # Tiled serialises its configuration with adapters loaded, so pydantic warns.
            warnings.filterwarnings("ignore", "Pydantic serializer warnings", UserWarning)
            app = build_app_from_config(config)
    except ValidationError as error:
        # Not the error itself: it would show the key.
        wrong = "; ".join(f"{_path(one['loc'])}: {one['msg']}" for one in error.errors())
        message = f"Tiled does not take its configuration: {wrong}"
        raise ConfigError(message) from None
    # All Tiled servers of a process share one settings object, and so the key of the youngest.
    settings = copy.deepcopy(app.dependency_overrides[get_settings]())
    app.dependency_overrides[get_settings] = lambda: settings
    add_rights(app)
    for uri in config["catalog"].get("writable_storage") or ():
        if str(uri).startswith("duckdb:"):
            pool_connections(uri)
    return app


def _path(location: Iterable[Any]) -> str:
    return ".".join(map(str, location))


def _make_catalogues(server: EmbeddedServer) -> None:
    from tiled.structures.core import Spec

    root = server.client()
    for name in CATALOGUES:
        if name not in root:
            root.create_container(name, specs=[Spec("CatalogOfBlueskyRuns", version="3.0")])
