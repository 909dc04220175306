"""A check of assets: a server delivers only files in its storage, links resolved.

Tiled 0.2.20 compares the text of a path with its storage folders, which `FOLDER/../secret.csv` and
symbolic links pass, and does not compare it at all when an asset is downloaded as bytes. Importing
this module makes the comparison one of resolved paths, for every catalogue of the process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from fastapi import HTTPException
from tiled.catalog.adapter import CatalogNodeAdapter
from tiled.storage import FileStorage
from tiled.utils import path_from_uri

__all__ = ["require_in_storage"]


def require_in_storage(node: Any, data_uri: str) -> None:
    """Raise HTTPException 403 for a file that lies outside the storage of a catalogue's server."""
    if urlparse(data_uri).scheme != "file":
        return
    path = path_from_uri(data_uri)
    resolved = path.resolve()
    folders = (
        Path(storage.path).resolve()
        for storage in node.context.readable_storage.values()
        if isinstance(storage, FileStorage)
    )
    if ".." in path.parts or not any(resolved.is_relative_to(folder) for folder in folders):
        message = f"{data_uri} is no plain path in the readable storage of this server"
        raise HTTPException(status_code=403, detail=message)


async def _asset_in_storage(node: Any, asset_id: int) -> Any:
    asset = await _asset_by_id(node, asset_id)
    if asset is not None:
        require_in_storage(node, asset.data_uri)
    return asset


_asset_by_id = CatalogNodeAdapter.asset_by_id
CatalogNodeAdapter._ensure_uri_within_readable_storage = require_in_storage  # noqa: SLF001
CatalogNodeAdapter.asset_by_id = _asset_in_storage
