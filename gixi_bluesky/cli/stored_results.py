"""Results that an earlier command stored: recognised, shown, and left as they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from gixi_bluesky.errors import GixiError

if TYPE_CHECKING:
    import pandas as pd

    from gixi_bluesky.cli.records import FrameRecord

__all__ = ["free_path", "images_sha256", "stored_records", "stored_tables_of"]

_STEP = "step_"


def images_sha256(names: Sequence[str], files: Iterable[Path]) -> str:
    """Return a hash of the names of images, and of the sizes and times of their files.

    files: the named ones and those that they lead to
    """
    known = []
    for path in sorted({path.resolve() for path in files}):
        try:
            state = path.stat()
        except OSError:
            known.append((str(path), 0, 0))
            continue
        known.append((str(path), state.st_size, state.st_mtime_ns))
    chosen = [name.partition("::")[2] for name in names]
    return hashlib.sha256(json.dumps([known, chosen]).encode()).hexdigest()


def free_path(path: Path) -> Path:
    """Return the path, or the first of NAME-2, NAME-3, … that is not there."""
    if not path.exists():
        return path
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in count(2))
    return next(one for one in numbered if not one.exists())


def stored_tables_of(
    path: Path, result_hash: str, images: str, n_images: int
) -> dict[str, pd.DataFrame] | None:
    """Return the tables of a result file of these images by these settings, None if it is none.

    images: as of `images_sha256`; a file with fewer than `n_images` was interrupted
    """
    from gixi_bluesky.tiled_adapters.files.result_reading import (
        open_result,
        read_table,
        result_metadata,
        stored_tables,
    )

    try:
        with open_result(path) as file:
            made_by = result_metadata(file)
            gixi = made_by["start_document"].get("gixi", {})
            found = (made_by["provenance"].get("result_hash"), gixi.get("images_sha256"))
            if found != (result_hash, images):
                return None
            entry = file["entry"]
            tables = {table.name: read_table(entry, table.name) for table in stored_tables(entry)}
    except (OSError, KeyError, ValueError, GixiError):  # none, or another kind of file
        return None
    return tables if len(tables.get("frames", ())) == n_images else None


def stored_records(
    tables: Mapping[str, pd.DataFrame],
    images: Iterable[tuple[int, str, int]],
    none: Callable[[str], pd.DataFrame],
) -> Iterator[FrameRecord]:
    """Yield what tables hold of some images.

    images: the stored number of each frame, its name, and its number as it is shown
    none: returns a table without rows
    """
    from gixi_bluesky.cli.records import FrameRecord

    frames = tables["frames"].set_index("frame")
    groups = {
        stream: dict(list(rows.groupby("frame"))) for stream, rows in tables.items() if len(rows)
    }

    def of(stream: str, number: int, shown: int) -> pd.DataFrame:
        rows = groups.get(stream, {}).get(number)
        return none(stream) if rows is None else rows.assign(frame=shown).reset_index(drop=True)

    for number, label, shown in images:
        row = frames.loc[number]
        yield FrameRecord(
            label,
            str(row["status"]),
            str(row["reason"]),
            peaks=of("peaks", number, shown),
            matches=of("matches", number, shown),
            match_peaks=of("match_peaks", number, shown),
            textures=of("textures", number, shown),
            steps={
                stream.removeprefix(_STEP): of(stream, number, shown).drop(columns=["frame", "row"])
                for stream in tables
                if stream.startswith(_STEP) and number in groups.get(stream, {})
            },
        )
