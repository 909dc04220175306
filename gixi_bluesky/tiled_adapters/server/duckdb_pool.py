"""Each request to a DuckDB table gets a connection of its own; the one place that needs this."""

from __future__ import annotations

from sqlalchemy.pool import QueuePool
from tiled.storage import SQLStorage, parse_storage

__all__ = ["pool_connections", "require_known_storage"]


def pool_connections(uri: str) -> None:
    """Give each request for tables at `uri`, `duckdb:///…`, its own connection.

    Tiled 0.2.20 shares one DuckDB connection between its threads, so that a read which ends rolls
    back the append that goes on beside it: error 500, or a crash of the whole process. Tiled has no
    public setting for another pool. Raises RuntimeError where Tiled has changed.
    """
    storage = parse_storage(uri)  # the instance that the catalogue uses
    require_known_storage(storage)
    clone = storage._adbc_connection.adbc_clone  # noqa: SLF001
    vars(storage)["_connection_pool"] = QueuePool(clone, pool_size=5, max_overflow=10)


def require_known_storage(storage: SQLStorage) -> None:
    """Raise RuntimeError unless Tiled keeps its DuckDB connections where they are replaced."""
    for name in ("_adbc_connection", "_connection_pool"):
        if not hasattr(getattr(type(storage), name, None), "attrname"):
            message = (
                f"tiled.storage.{type(storage).__name__} has no cached property {name} any more; "
                "use tiled 0.2.20, or check if gixi_bluesky/tiled_adapters/server/duckdb_pool.py"
                " is still needed to separate its connections to DuckDB"
            )
            raise RuntimeError(message)
