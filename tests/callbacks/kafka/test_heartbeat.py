"""Heartbeat files: whole at every moment, readable by later versions, refused when foreign."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gixi_bluesky.callbacks.kafka.heartbeat import Heartbeat, read_heartbeat, write_heartbeat
from gixi_bluesky.errors import DocumentError

BEAT = Heartbeat(
    pid=7,
    host="node",
    time=1.5,
    state="running",
    group="g",
    topics=("a", "b"),
    metrics_port=9001,
    partitions=("a:0", "b:3"),
    lag=4,
    frames=12,
    frames_per_second=0.5,
    last_error="",
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "one.json"
    write_heartbeat(path, BEAT)
    assert read_heartbeat(path) == BEAT
    assert [file.name for file in path.parent.iterdir()] == ["one.json"]
    reported = json.loads(path.read_text())
    path.write_text(json.dumps({**reported, "later": 1}))
    assert read_heartbeat(path) == BEAT


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": 1, "topics": [], "partitions": []}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "one.json"
    path.write_text(text)
    with pytest.raises(DocumentError, match="no heartbeat"):
        read_heartbeat(path)


def test_no_file_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_heartbeat(tmp_path / "none.json")
