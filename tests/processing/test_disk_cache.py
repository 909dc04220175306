"""The cache on disk: damage is not used, what is old makes room, processes may share it."""

from __future__ import annotations

import os
import threading

import pytest

from gixi_bluesky.processing.disk_cache import DiskCache


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gixi_bluesky" / "things"


def test_what_was_kept_is_found_by_its_key_only(folder):
    cache = DiskCache("things", 1000)
    assert cache.get("a") is None
    cache.put("a", b"one")
    assert DiskCache("things", 1000).get("a") == b"one"
    assert cache.get("b") is None


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_file_is_removed_and_made_again(folder, damage):
    cache = DiskCache("things", 1000)
    cache.put("a", b"payload")
    (path,) = folder.iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"X" if damage is None else damage)
    assert cache.get("a") is None
    assert not path.exists()
    cache.put("a", b"payload")
    assert cache.get("a") == b"payload"


def test_the_least_recently_used_make_room(folder):
    cache = DiskCache("things", 400)
    for number, key in enumerate("abc"):
        before = set(folder.iterdir()) if number else set()
        cache.put(key, bytes(90))
        (new,) = set(folder.iterdir()) - before
        os.utime(new, (number + 1, number + 1))
    assert cache.get("a") is not None  # and is the newest now
    cache.put("d", bytes(90))
    assert cache.get("b") is None
    assert all(cache.get(key) is not None for key in "acd")
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 400


def test_a_folder_that_cannot_be_used_only_keeps_nothing(folder):
    folder.parent.mkdir(parents=True)
    folder.write_text("a file where the folder should be")
    cache = DiskCache("things", 1000)
    cache.put("a", b"payload")
    assert cache.get("a") is None


def test_writers_at_the_same_time_leave_one_whole_file(folder):
    payload = bytes(range(256)) * 4000
    found: list[bytes | None] = []

    def work() -> None:
        cache = DiskCache("things", 10 << 20)
        for _ in range(20):
            cache.put("a", payload)
            found.append(cache.get("a"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [payload] * 80
    assert len(list(folder.iterdir())) == 1
