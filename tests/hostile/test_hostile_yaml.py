"""YAML that grows, circles or never ends is refused with a short message."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gixi_bluesky.config import load_config
from gixi_bluesky.errors import ConfigError


def bomb(levels: int) -> str:
    """Return YAML of a few hundred bytes with 10**levels values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        aliases = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} [{aliases}]")
    return "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (f"{bomb(9)}\ngeometry: *a8\n", "more than 100000 values"),
        (f"{bomb(9)}\ninput: {{select: {{x: *a8}}}}\n", "more than 100000 values"),
        ("input: {select: &s {x: *s}}\n", "RecursionError"),
        ("[" * 50_000, "RecursionError"),
        ("geometry: {distance_mm: " + "x" * 1_000_000 + "}", "distance_mm"),
        ("x: " + "y" * 5_000_000, "bytes"),
        ("t: 9999999999999999999-99-99", "unknown key"),
        ("d: 2001-99-99", "ValueError"),
        ("g: !!binary x", "not valid YAML"),
        ("? {a: 1}\n: b", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
    ],
)
def test_a_hostile_file_gives_a_short_message(tmp_path: Path, content: str, reported: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=reported) as refused:
        load_config(path)
    assert len(str(refused.value)) < 3000


def test_a_named_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="expected a regular file"):
        load_config(tmp_path / "config.yaml")
