"""The configuration of a Tiled server: storage, authentication, and this package's adapters."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gixi_bluesky.errors import ConfigError
from gixi_bluesky.tiled_adapters.schema import RESULT_MIMETYPE
from gixi_bluesky.tiled_adapters.server.state_folder import STATE, catalogue_of

__all__ = ["CATALOGUES", "KEY_VARIABLE", "read_server_config", "server_config"]

CATALOGUES = ("raw", "gixi")
KEY_VARIABLE = "TILED_SINGLE_USER_API_KEY"

_EXPORTER = "bluesky_tiled_plugins.exporters:json_seq_exporter"
_RESULTS = "gixi_bluesky.tiled_adapters.result_files:ResultFileAdapter"


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
    state = home / STATE
    roots = [home, *(Path(folder).absolute() for folder in readable)]
    return _with_ours(
        {
            "catalog": {
                "uri": f"sqlite:///{catalogue_of(home)}",
                "writable_storage": [
                    (state / "data").as_uri(),
                    f"duckdb:///{state / 'tables.duckdb'}",
                ],
                "readable_storage": [root.as_uri() for root in dict.fromkeys(roots)],
            },
            "authentication": {"single_user_api_key": api_key},
            "streaming_cache": {"uri": "memory"},
        }
    )


def read_server_config(path: Path) -> dict[str, Any]:
    """Return the content of a Tiled configuration file, completed with what derived runs need.

    `$NAME` in it stands for a variable of the environment. Raises ConfigError for a file that is
    not there, no YAML, or without a catalogue.
    """
    import yaml
    from tiled.utils import parse

    try:
        content = parse(path)
    except OSError as error:
        message = f"cannot read the server configuration {path}: {error.strerror}"
        raise ConfigError(message) from error
    except yaml.YAMLError as error:
        message = f"{path} is no YAML: {error}"
        raise ConfigError(message) from error
    if not isinstance(content, dict) or not isinstance(content.get("catalog"), dict):
        message = f"{path} has no section `catalog`; see examples/server.yml"
        raise ConfigError(message)
    return _with_ours(content)


def _with_ours(config: dict[str, Any]) -> dict[str, Any]:
    """Add what a server of derived runs needs; existing entries are kept."""
    catalogue = config["catalog"]
    media_types = config.get("media_types", {})
    access = {"allow_anonymous_access": False, **config.get("authentication", {})}
    if not access.get("providers"):
        key = access.get("single_user_api_key") or os.environ.get(KEY_VARIABLE)
        access["single_user_api_key"] = _checked_key(key)
    run = {"application/json-seq": _EXPORTER, **media_types.get("BlueskyRun", {})}
    adapters = {RESULT_MIMETYPE: _RESULTS, **catalogue.get("adapters_by_mimetype", {})}
    return {
        **config,
        "catalog": {**catalogue, "adapters_by_mimetype": adapters},
        "media_types": {**media_types, "BlueskyRun": run},
        "authentication": access,
    }


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
