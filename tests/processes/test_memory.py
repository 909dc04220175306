"""The memory of the machine or of the container, whichever is less."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gixi_bluesky.processes import memory
from gixi_bluesky.processes.memory import usable_memory_gib

GIB = 1 << 30


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_GROUPS", (limit,))
    return limit


def test_without_a_container_it_is_that_of_the_machine(group: Path) -> None:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    for text in ("max\n", f"{1 << 62}\n"):
        group.write_text(text)
        assert usable_memory_gib() == pytest.approx(machine, rel=0.01)


def test_a_container_may_have_less(group: Path) -> None:
    group.write_text(f"{GIB // 2}\n")
    assert usable_memory_gib() == 0.5
