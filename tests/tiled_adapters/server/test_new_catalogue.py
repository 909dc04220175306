from __future__ import annotations

import asyncio
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tiled.commandline._catalog import init

from gixi_bluesky.tiled_adapters.server.new_catalogue import make_catalogue


def content(path: Path) -> list[str]:
    """Return schema and rows as SQL, and the pragma that Tiled sets."""
    with closing(sqlite3.connect(path)) as catalogue:
        lines = [re.sub(r"'[-0-9]+ [:0-9]+'", "'TIME'", line) for line in catalogue.iterdump()]
        (mode,) = catalogue.execute("PRAGMA journal_mode").fetchone()
    return [*sorted(lines), mode]


@pytest.mark.filterwarnings("ignore:No path_separator:DeprecationWarning")  # in Tiled's template
def test_it_equals_what_tiled_itself_makes(tmp_path: Path) -> None:
    make_catalogue(tmp_path / "ours.db")
    init(str(tmp_path / "theirs.db"), if_not_exists=True)
    assert content(tmp_path / "ours.db") == content(tmp_path / "theirs.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours.db", "theirs.db"]


def test_a_draft_left_by_a_killed_process_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "catalog.db.new").write_bytes(b"half a database")
    make_catalogue(tmp_path / "catalog.db")
    assert "CREATE TABLE alembic_version" in "".join(content(tmp_path / "catalog.db"))


def test_it_is_made_where_an_event_loop_runs(tmp_path: Path) -> None:
    async def in_a_loop() -> None:
        make_catalogue(tmp_path / "catalog.db")

    asyncio.run(in_a_loop())
    assert (tmp_path / "catalog.db").is_file()
