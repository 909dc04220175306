"""A new sqlite catalogue of Tiled, made in this process.

Tiled starts a Python process of its own for it, which imports the whole server once more.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

__all__ = ["make_catalogue"]


def make_catalogue(path: Path) -> None:
    """Write an empty catalogue, whole or not at all, with the schema of the installed Tiled.

    The caller holds the folder, so that no other process writes there.
    Raises OSError, or SQLAlchemyError when the database cannot be written.
    """
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)  # of a process that was killed
    with ThreadPoolExecutor(1) as elsewhere:  # the caller's thread may run an event loop
        elsewhere.submit(asyncio.run, _initialise(draft)).result()
    draft.replace(path)


async def _initialise(path: Path) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool
    from tiled.catalog.core import initialize_database

    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", poolclass=NullPool)
    try:
        await initialize_database(engine)
        async with engine.begin() as connection:
            await connection.run_sync(_stamp)
    finally:
        await engine.dispose()


def _stamp(connection: Any) -> None:
    """Record the newest revision of the schema, which Tiled checks at each start."""
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from tiled.catalog.alembic_constants import ALEMBIC_DIR

    MigrationContext.configure(connection).stamp(ScriptDirectory(ALEMBIC_DIR), "head")
