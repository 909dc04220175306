"""Spool files: private, of regular files only, and readable behind damage."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest
from fakes import Stores
from hypothesis import given, settings
from hypothesis import strategies as st
from spooled_pages import damage_page, flip
from tiled_servers import columns, descriptor, page

from gixi_bluesky.errors import StoreError
from gixi_bluesky.tiled_adapters.schema import STREAMS
from gixi_bluesky.tiled_adapters.store import spooled_store
from gixi_bluesky.tiled_adapters.store.leftover_spools import send_leftovers
from gixi_bluesky.tiled_adapters.store.spool import SpoolFile
from gixi_bluesky.tiled_adapters.store.spool_folder import SPOOL_FOLDER, spool_files
from gixi_bluesky.tiled_adapters.store.spool_records import next_record
from gixi_bluesky.tiled_adapters.store.spooled_store import SpooledStore
from gixi_bluesky.tiled_adapters.store.writer import RunState

UID = "5a0ae9e9-6a1c-4f0c-8bb4-56f3a5f6ab2f"
N_FRAMES = 6


def spooled_run(path: Path) -> SpoolFile:
    """Return the spool of a run whose frames were flushed one by one."""
    spool = SpoolFile(path, {"uid": UID, "time": 0.0})
    for stream in STREAMS:
        spool.append("descriptor", descriptor(UID, stream))
    for frame in range(N_FRAMES):
        for stream in STREAMS:
            spool.append("event_page", page(UID, stream, 1, columns(stream, [frame])))
    spool.append("stop", {"uid": "stop"})
    return spool


def finished_frames(spool: SpoolFile) -> set[int]:
    return {frame for record in spool.records() for frame in record.frames or ()}


def ends_of_records(path: Path) -> list[int]:
    with path.open("rb") as file:
        ends, size = [0], path.stat().st_size
        while (record := next_record(file.fileno(), ends[-1], size)) is not None:
            ends.append(record.end)
    return ends[1:]


def never() -> Any:
    pytest.fail("the store was asked for")


def test_a_record_cut_off_by_a_crash_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "run.spool"
    spool = SpoolFile(path, {"uid": "run"})
    spool.append("stop", {"uid": "stop", "text": "x" * 100})
    whole = spool.size
    spool.append("stop", {"uid": "cut", "value": float("nan")})
    spool.close()
    with path.open("r+b") as file:
        file.truncate(whole + 41)
    spool = SpoolFile(path, {"uid": "run"})
    assert [r.name for r in spool.records()] == ["start", "session", "stop", "session"]
    assert spool.start == {"uid": "run"}
    assert not spool.damaged
    spool.remove()
    assert not path.exists()


def test_two_processes_do_not_share_a_spool(tmp_path: Path) -> None:
    spool = SpoolFile(tmp_path / "run.spool", {"uid": "run"})
    with pytest.raises(StoreError, match="by another process"):
        SpoolFile(tmp_path / "run.spool", {"uid": "run"})
    spool.close()


@pytest.mark.parametrize("stream", STREAMS)
def test_damage_costs_the_frames_of_one_flush(tmp_path: Path, stream: str) -> None:
    path = tmp_path / "run.spool"
    spooled_run(path).close()
    damage_page(path, stream, frame=2)
    spool = SpoolFile(path)
    assert spool.lost_records == 1
    assert finished_frames(spool) == set(range(N_FRAMES)) - {2}
    spool.remove()
    (kept,) = (tmp_path / "damaged").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1), length=st.integers(1, 60))
def test_any_damage_leaves_the_other_flushes(
    tmp_path_factory: pytest.TempPathFactory, share: float, length: int
) -> None:
    path = tmp_path_factory.mktemp("spool") / "run.spool"
    spooled_run(path).close()
    size = path.stat().st_size
    flip(path, int(share * (size - length)), length)
    spool = SpoolFile(path)
    assert spool.damaged
    # 60 bytes can end one record and begin the next, of another flush.
    assert len(finished_frames(spool)) >= N_FRAMES - 2
    assert spool.start is not None
    assert spool.start["uid"] == UID
    spool.close()


def test_damage_where_two_records_meet_costs_one_flush_at_most(tmp_path: Path) -> None:
    path = tmp_path / "run.spool"
    spooled_run(path).close()
    whole = path.read_bytes()
    for end in ends_of_records(path)[:-1]:
        path.write_bytes(whole)
        flip(path, end - 30, 60)
        with contextlib.closing(SpoolFile(path)) as spool:
            assert len(finished_frames(spool)) >= N_FRAMES - 2
            assert spool.start is not None


def test_what_is_appended_behind_a_damaged_end_is_found(tmp_path: Path) -> None:
    path = tmp_path / "run.spool"
    spooled_run(path).close()
    flip(path, path.stat().st_size - 5)
    before = path.read_bytes()
    spool = SpoolFile(path, {"uid": UID})
    spool.append("stop", {"uid": "again"})
    assert [record.doc.get("uid") for record in spool.records()][-1] == "again"
    assert path.read_bytes().startswith(before)
    spool.close()


def test_files_and_folders_are_private(tmp_path: Path) -> None:
    path = tmp_path / "results" / ".spool" / "run.spool"
    path.parent.mkdir(parents=True, mode=0o755)
    path.touch(mode=0o644)
    SpoolFile(path, {"uid": "run"}).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", ["symlink", "hardlink", "fifo", "folder"])
def test_only_regular_files_of_one_name_are_opened(tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not ours")
    path = tmp_path / ".spool" / "run.spool"
    path.parent.mkdir()
    match kind:
        case "symlink":
            path.symlink_to(secret)
        case "hardlink":
            path.hardlink_to(secret)
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
    assert spool_files(tmp_path) == []
    spool = SpoolFile(path, {"uid": "run"})
    assert stat.S_ISREG(path.lstat().st_mode)
    assert spool.start == {"uid": "run"}
    spool.close()
    assert secret.read_text() == "not ours"
    assert os.path.lexists(path.parent / "damaged" / "run.spool.1")


def test_a_file_without_any_record_is_kept_and_not_called_sent(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ".spool" / "run.spool"
    path.parent.mkdir()
    path.write_bytes(b"nothing that a spool holds" * 100)
    send_leftovers(tmp_path, never, threading.Event())
    assert spool_files(tmp_path) == []
    assert (path.parent / "damaged" / "run.spool.1").read_bytes().startswith(b"nothing")
    log = "".join(capfd.readouterr())
    assert "spool_set_aside" in log
    assert "spool_sent" not in log


def test_a_record_that_the_disk_took_too_late_is_not_in_the_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thaws = threading.Event()
    path = tmp_path / "run.spool"
    spool = SpoolFile(path, {"uid": "run"})
    with monkeypatch.context() as frozen:
        frozen.setattr(spool, "_timeout_s", 0.05)
        frozen.setattr(os, "fsync", lambda _: thaws.wait(120))
        with pytest.raises(OSError, match="not responded"):
            spool.append("stop", {"uid": "late"})
        with pytest.raises(OSError, match="not responded"):
            spool.append("stop", {"uid": "refused"})
        recent = spool.read(0)
        assert recent is not None
        assert recent.doc == {"uid": "run"}
        thaws.set()
        appended = False
        deadline = time.monotonic() + 120
        while not appended and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                spool.append("stop", {"uid": "next"})
                appended = True
    assert [record.doc["uid"] for record in spool.records() if record.name == "stop"] == ["next"]
    spool.close()
    again = SpoolFile(path)
    assert not again.damaged
    assert [record.doc["uid"] for record in again.records() if record.name == "stop"] == ["next"]
    again.close()


def test_a_spool_that_opens_too_late_is_free_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thaws = threading.Event()
    with monkeypatch.context() as frozen:
        frozen.setattr(os, "fsync", lambda _: thaws.wait(120))
        with pytest.raises(OSError, match="not responded"):
            SpoolFile(tmp_path / "run.spool", {"uid": "run"}, timeout_s=0.05)
    thaws.set()
    deadline = time.monotonic() + 120
    while True:
        try:
            spool = SpoolFile(tmp_path / "run.spool", {"uid": "run"})
        except StoreError:
            assert time.monotonic() < deadline
        else:
            break
    assert spool.start == {"uid": "run"}
    spool.remove()


def test_pages_whose_descriptor_was_lost_leave_their_frames_undone(tmp_path: Path) -> None:
    path = tmp_path / "run.spool"
    spool = SpoolFile(path, {"uid": UID})
    for stream in STREAMS:
        if stream != "match_peaks":
            spool.append("descriptor", descriptor(UID, stream))
    for frame in range(N_FRAMES):
        for stream in STREAMS:
            if stream != "match_peaks" or frame > 1:
                spool.append("event_page", page(UID, stream, 1, columns(stream, [frame])))
    spool.close()
    spool = SpoolFile(path, {"uid": UID})
    assert finished_frames(spool) == {0, 1}
    assert spool.lost_records == N_FRAMES - 2
    spool.close()


class Recorded:
    """A store that keeps the names of what it is given."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def open(self, _: Any) -> RunState:
        return RunState(frozenset(), {})

    def __call__(self, name: str, _: Any) -> None:
        self.names.append(name)

    def close(self) -> None:
        pass


def test_images_whose_resource_was_lost_do_not_keep_a_spool_from_being_sent(
    tmp_path: Path,
) -> None:
    spool = SpoolFile(tmp_path / SPOOL_FOLDER / "run.spool", {"uid": UID})
    for resource in ("lost", "kept"):
        if resource == "kept":
            spool.append("stream_resource", {"uid": resource})
        datum = {"uid": f"{resource}/0", "stream_resource": resource, "descriptor": "d"}
        spool.append("stream_datum", datum)
    spool.close()
    names: list[str] = []
    send_leftovers(tmp_path, lambda: Recorded(names), threading.Event())  # type: ignore[arg-type, return-value]
    assert names == ["stream_resource", "stream_datum"]
    assert spool_files(tmp_path) == []


def test_a_store_opened_again_after_tiled_hung_goes_on_with_its_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second delivery would meet the claim of the first one, which would stay for ever."""
    thaws = threading.Event()
    stores = Stores(thaws=thaws)
    store = SpooledStore(cast("Any", stores), tmp_path, shared=True)
    start = {"uid": UID, "time": 0.0}
    monkeypatch.setattr(spooled_store, "_PATIENCE_S", 0.1)
    with pytest.raises(StoreError, match="the delivery hangs"):
        store.open(start)
    monkeypatch.setattr(spooled_store, "_PATIENCE_S", 20.0)
    thaws.set()
    assert store.open(start).committed == frozenset()
    assert len(spool_files(tmp_path)) == 1
    store.close()
    assert stores.only.closed
