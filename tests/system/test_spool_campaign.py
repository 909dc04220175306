"""Spools that are damaged at random: each run can be completed, and holds each frame once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from soak import soak_mishaps, soak_steps
from tiled_servers import PEAKS_PER_FRAME, columns, descriptor, page, start_document

from gixi_bluesky.errors import RunCompleteError
from gixi_bluesky.tiled_adapters.schema import STREAMS
from gixi_bluesky.tiled_adapters.server.embedded import embedded_server
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings
from gixi_bluesky.tiled_adapters.store.leftover_spools import send_leftovers
from gixi_bluesky.tiled_adapters.store.spool import SpoolFile
from gixi_bluesky.tiled_adapters.store.spool_folder import SPOOL_FOLDER, spool_files
from gixi_bluesky.tiled_adapters.store.writer import DerivedRunStore

pytestmark = [pytest.mark.system, pytest.mark.soak, pytest.mark.timeout(0)]

FRAMES = 10


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with embedded_server(tmp_path_factory.mktemp("tiled")) as server:
        yield server.catalog("gixi")


def damage(path: Path, chance: Random) -> str:
    """Damage a spool in one of the ways of disks and people; return which."""
    content = bytearray(path.read_bytes())
    place = chance.randrange(len(content))
    how = chance.choice(["flip", "zeros", "cut off", "hole", "doubled", "nothing"])
    length = chance.randrange(1, 4000)
    if how == "flip":
        content[place] ^= 1 << chance.randrange(8)
    elif how == "zeros":
        content[place : place + length] = bytes(len(content[place : place + length]))
    elif how == "cut off":
        del content[place:]
    elif how == "hole":
        del content[place : place + length]
    elif how == "doubled":
        content[place:place] = content[place : place + length]
    path.write_bytes(content)
    return how


def spooled(path: Path, start: dict[str, Any]) -> None:
    """Leave the spool of a whole run, as a process that is gone would."""
    spool, uid = SpoolFile(path, start), start["uid"]
    for stream in STREAMS:
        spool.append("descriptor", descriptor(uid, stream))
    for frame in range(FRAMES):
        for stream in STREAMS:
            each = 1 if stream == "frames" else PEAKS_PER_FRAME
            rows = columns(stream, [frame])
            spool.append("event_page", page(uid, stream, frame * each + 1, rows))
    spool.close()


def complete(catalogue: Any, start: dict[str, Any]) -> None:
    """Analyse the frames that are missing, as a replay of the raw run does."""
    uid = start["uid"]
    store = DerivedRunStore(catalogue, OutputSettings(), TiledSettings(), session_s=2)
    state = store.open(start)
    for stream in STREAMS:
        store("descriptor", descriptor(uid, stream))
    missing = [frame for frame in range(FRAMES) if frame not in state.committed]
    for stream in STREAMS:
        if missing:
            rows = columns(stream, missing)
            store("event_page", page(uid, stream, state.rows[stream] + 1, rows))
    store("stop", {"uid": "stop", "run_start": uid, "time": 0.0, "exit_status": "success"})
    store.close()


def test_a_damaged_spool_never_stores_a_frame_twice_or_half(catalogue: Any, tmp_path: Path) -> None:
    found: dict[str, int] = {}
    for step, (_, chance) in enumerate(soak_steps("damaged spools", 10 * soak_mishaps())):
        folder = tmp_path / str(step)
        start = start_document(str(uuid4()))
        path = folder / SPOOL_FOLDER / f"{start['uid']}.spool"
        spooled(path, start)
        how = damage(path, chance)
        found[how] = found.get(how, 0) + 1
        whole = path.read_bytes()

        def new_store() -> DerivedRunStore:
            return DerivedRunStore(catalogue, OutputSettings(), TiledSettings(), session_s=2)

        send_leftovers(folder, new_store, threading.Event())
        assert spool_files(folder) == []
        kept = [one.read_bytes() for one in (folder / SPOOL_FOLDER).glob("damaged/*")]
        assert how in {"nothing", "cut off"} or kept in ([whole], [])
        try:
            complete(catalogue, start)
        except RunCompleteError:
            pytest.fail("a damaged spool ended its run")
        run = catalogue[start["uid"]]
        for stream in STREAMS:
            rows = run[stream].base["internal"].read()
            rows = rows.sort_values([k for k in ("frame", "peak", "phase") if k in rows])
            for name, values in columns(stream, range(FRAMES)).items():
                assert list(rows[name]) == values, (how, stream, name)
    print(found)
