"""The connection to the Tiled server of the settings, with a key that is never written anywhere."""

from __future__ import annotations

import os
from typing import Any

import httpx

from gixi_bluesky.errors import ConfigError, StoreError
from gixi_bluesky.tiled_adapters.settings import TiledSettings, public_address

__all__ = [
    "catalogue_at",
    "connect",
    "container_beside",
    "derived_catalogue",
    "require_reachable",
]

_KEY_VARIABLE = "TILED_API_KEY"
_REACH_S = 10.0
_MISSING, _CONFLICT = 404, 409


def connect(settings: TiledSettings) -> Any:
    """Return a Tiled client at the root of the server.

    The key is in `api_key_file`, else in TILED_API_KEY. Raises ConfigError without an address,
    with a key in the address or an unreadable key file, StoreError when the server cannot be
    reached.
    """
    from tiled.client import from_uri

    if settings.uri is None:
        message = "no Tiled server is configured; give tiled.uri"
        raise ConfigError(message)
    public_address(settings.uri)  # the command line may have given it
    key = _key(settings)
    try:
        # The client retries for most of a minute; at start, a server that is away is an error.
        httpx.get(settings.uri, timeout=_REACH_S)
        return from_uri(settings.uri, api_key=key)
    except Exception as error:  # the client raises what its transport and its parsers raise
        message = (
            f"cannot use the Tiled server {settings.uri}: {error}; is it running, and is the key "
            f"in {settings.api_key_file or _KEY_VARIABLE} right?"
        )
        raise StoreError(message) from error


def derived_catalogue(settings: TiledSettings) -> Any:
    """Return a client of the catalogue of derived runs. Raises as `connect` does."""
    return catalogue_at(connect(settings), settings.derived)


def catalogue_at(client: Any, path: str) -> Any:
    """Return a client of the catalogue at `path` of a server; ConfigError where there is none."""
    root = client
    for part in path.strip("/").split("/"):
        try:
            client = client[part]
        except KeyError as error:
            root.context.close()
            message = (
                f"the Tiled server {root.context.api_uri} has no catalogue {path!r}, or the key "
                "does not show it; make it, or name another one in tiled.derived and tiled.raw"
            )
            raise ConfigError(message) from error
    return client


def container_beside(client: Any, name: str) -> Any:
    """Return the container `name` beside a catalogue or, at the root, inside it; made if need be.

    Raises what the client raises.
    """
    from tiled.client.constructors import from_context
    from tiled.client.utils import ClientError

    path = [*client.path_parts[:-1], name]
    try:
        return from_context(client.context, node_path_parts=path)
    except ClientError as error:
        if error.response.status_code != _MISSING:
            raise
    place = client.parent if client.path_parts else client
    try:
        place.create_container(name)
    except ClientError as error:
        if error.response.status_code != _CONFLICT:
            raise
    return from_context(client.context, node_path_parts=path)


def require_reachable(client: Any) -> None:
    """Raise StoreError at once if the server is away; a Tiled client retries for 45 s."""
    try:
        client.context.http_client.get(client.context.api_uri, timeout=_REACH_S / 2)
    except httpx.HTTPError as error:
        message = f"the Tiled server {client.context.api_uri} is away: {error!r}"
        raise StoreError(message) from error


def _key(settings: TiledSettings) -> str | None:
    if settings.api_key_file is None:
        return os.environ.get(_KEY_VARIABLE)
    try:
        return settings.api_key_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        message = f"cannot read tiled.api_key_file {settings.api_key_file}: {error.strerror}"
        raise ConfigError(message) from error
