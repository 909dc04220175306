"""The state of a consumer in a small file for other processes."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

from gixi_bluesky.errors import DocumentError

__all__ = ["Heartbeat", "State", "read_heartbeat", "write_heartbeat"]

State = Literal["starting", "running", "draining", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The state of a consumer at `time` (seconds since 1970); an old one means that it has ended.

    metrics_port: where its Prometheus metrics are, None without
    partitions: those that it has now, as topic:number
    lag: messages of these partitions that it has not read yet
    threads: state of each thread: running, stuck for 75 s, ended (reason)
    frames: that have their row since it started; frames_per_second of the last minute
    """

    pid: int
    host: str
    time: float
    state: State
    group: str
    topics: tuple[str, ...]
    metrics_port: int | None = None
    partitions: tuple[str, ...] = ()
    lag: int = 0
    frames: int = 0
    frames_per_second: float = 0.0
    last_error: str = ""
    threads: dict[str, str] = field(default_factory=dict)


def write_heartbeat(path: Path, heartbeat: Heartbeat) -> None:
    """Replace the file atomically. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(asdict(heartbeat)) + "\n", encoding="utf-8")
    draft.replace(path)


def read_heartbeat(path: Path) -> Heartbeat:
    """Return the heartbeat in a file; keys of later versions are ignored.

    Raises OSError when it is not there, DocumentError when it is no heartbeat.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        known = {one.name for one in fields(Heartbeat)}
        values = {key: value for key, value in content.items() if key in known}
        for key in ("topics", "partitions"):
            values[key] = tuple(values[key])
        return Heartbeat(**values)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        message = f"{path} is no heartbeat of a consumer: {error!r}"
        raise DocumentError(message) from error
