"""What we know of Tiled's connections to DuckDB, which it has no public name for."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tiled.storage import parse_storage

from gixi_bluesky.tiled_adapters.server.duckdb_pool import pool_connections, require_known_storage


def test_tiled_keeps_its_connections_where_we_look(tmp_path: Path) -> None:
    """Fails when Tiled has moved: then see whether `pool_connections` is still needed."""
    require_known_storage(parse_storage(f"duckdb:///{tmp_path / 'tables.duckdb'}"))


def test_another_tiled_is_reported_at_start() -> None:
    class MovedStorage:
        pass

    moved: Any = MovedStorage()
    with pytest.raises(RuntimeError, match=r"MovedStorage has no cached property _adbc_connection"):
        require_known_storage(moved)


def test_a_read_does_not_end_the_transaction_of_an_append(tmp_path: Path) -> None:
    uri = f"duckdb:///{tmp_path / 'tables.duckdb'}"
    pool_connections(uri)
    storage = parse_storage(uri)
    with closing(storage.connect()) as appending, closing(storage.connect()) as reading:
        with appending.cursor() as cursor:
            cursor.execute("CREATE TABLE peaks (frame INTEGER)")
        appending.commit()
        with appending.cursor() as cursor:
            cursor.execute("INSERT INTO peaks VALUES (1)")
        with reading.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM peaks")
            assert cursor.fetchone() == (0,)
        reading.rollback()
        appending.commit()
        with reading.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM peaks")
            assert cursor.fetchone() == (1,)
    storage.dispose()
