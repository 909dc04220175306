"""How a consumer is, told through a small file that others read."""

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
    """What one consumer said at `time` (seconds since 1970); an old one means that it is gone.

    metrics_port: where its Prometheus metrics are, None without
    partitions: those that it has now, as topic:number
    lag: messages of these partitions that it has not read yet
    threads: how each thread is, in words: running, stuck for 75 s, ended (why)
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
    """Replace the file at once, so that a reader never sees half of it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(asdict(heartbeat)) + "\n", encoding="utf-8")
    draft.replace(path)


def read_heartbeat(path: Path) -> Heartbeat:
    """Return what the file says; keys of later versions are left out.

    Raises OSError when it is not there, DocumentError when it is no heartbeat.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        known = {one.name for one in fields(Heartbeat)}
        values = {key: value for key, value in told.items() if key in known}
        for key in ("topics", "partitions"):
            values[key] = tuple(values[key])
        return Heartbeat(**values)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        message = f"{path} is no heartbeat of a consumer: {error!r}"
        raise DocumentError(message) from error
