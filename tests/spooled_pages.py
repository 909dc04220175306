"""Spool files with one damaged record."""

from __future__ import annotations

import os
from pathlib import Path

from gixi_bluesky.tiled_adapters.store.spool_records import next_record


def damage_page(path: Path, stream: str, frame: int) -> None:
    """Flip one bit in the middle of the page of a table that holds this frame."""
    file = os.open(path, os.O_RDWR)
    tables: dict[str, str] = {}
    position, end = 0, path.stat().st_size
    while (record := next_record(file, position, end)) is not None:
        if record.name == "descriptor":
            tables[record.doc["uid"]] = record.doc["name"]
        is_page = record.name == "event_page" and tables[record.doc["descriptor"]] == stream
        if is_page and frame in record.doc["data"]["frame"]:
            flip(path, (record.begin + record.end) // 2)
            break
        position = record.end
    else:
        message = f"no page of {stream} with frame {frame}"
        raise LookupError(message)
    os.close(file)


def flip(path: Path, place: int, length: int = 1) -> None:
    """Invert bits of `length` bytes."""
    content = bytearray(path.read_bytes())
    for k in range(place, place + length):
        content[k] ^= 0x10
    path.write_bytes(content)
