"""Lines of large structures are calculated once on a machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gixi_bluesky.processing.structures import stored_lines as module
from gixi_bluesky.processing.structures.cif_files import read_structure, shipped_cifs
from gixi_bluesky.processing.structures.stored_lines import stored_lines


def test_slow_lines_come_back_from_disk_as_they_were(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lines = read_structure(shipped_cifs()["MAPbBr3"], q_max=2.0).reflections
    monkeypatch.setattr(module, "_SLOW_S", 0.0)
    key = ("a test of stored lines", 2.0)
    calls = []

    def calculate() -> object:
        calls.append(1)
        return lines

    for _ in range(3):
        found = stored_lines(key, calculate)  # type: ignore[arg-type]
        for name in ("q", "hkl", "intensity", "multiplicity"):
            np.testing.assert_array_equal(getattr(found, name), getattr(lines, name))
        assert found.families == lines.families
    assert len(calls) == 1
    monkeypatch.setattr(module, "_SLOW_S", 1e9)
    for _ in range(2):
        stored_lines(("another", 2.0), calculate)  # type: ignore[arg-type]
    assert len(calls) == 3
